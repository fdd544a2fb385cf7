"""What happens to a batch between the data loader and the model."""

from .view_data_preprocessor import ViewDataPreprocessor, normalization_of

__all__ = ['ViewDataPreprocessor', 'normalization_of']
