"""What happens to a batch between the data loader and the model."""

from .view_data_preprocessor import ViewDataPreprocessor

__all__ = ['ViewDataPreprocessor']
