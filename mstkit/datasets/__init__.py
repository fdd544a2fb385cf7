"""Data sets, image reading, sampling, and augmentation to views."""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.datasets.inferencer_image import InferencerImage

from .center_view import CenterView
from .image_folder import ImageFolder
from .image_reader import LoadRGB, UnreadableImage, read_image
from .multi_crop import MultiCrop
from .pack_views import PackViews
from .repeated_augmentation import RoundedRepeatAugSampler
from .sampling import EpochSampler, SampleKey
from .shards import ShardDataset, ShardSampler
from .text_list import TextList
from .whole_view import WholeView

__all__ = [
    'CenterView',
    'EpochSampler',
    'ImageFolder',
    'InferencerImage',
    'LoadRGB',
    'MultiCrop',
    'PackViews',
    'RoundedRepeatAugSampler',
    'SampleKey',
    'ShardDataset',
    'ShardSampler',
    'TextList',
    'UnreadableImage',
    'WholeView',
    'read_image',
]
