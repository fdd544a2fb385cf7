"""Data preprocessors: augmentation and normalization of batches on the device."""

from .view_data_preprocessor import ViewDataPreprocessor, normalization_of

__all__ = ['ViewDataPreprocessor', 'normalization_of']
