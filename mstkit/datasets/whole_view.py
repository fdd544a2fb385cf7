"""Whole images, on which scores are made that are cropped later."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

from mstkit.datasets.crop_resizing import INTERPOLATION, RESIZE
from mstkit.datasets.dataset_interface import JoiningDataset, Pipeline, TransformingDataset, WrappingDataset
from mstkit.datasets.multi_crop import MultiCrop
from mstkit.datasets.pack_views import PackViews
from mstkit.registry import TRANSFORMS
from mstkit.utils.checks import check_one_of, check_size


@TRANSFORMS.register_module()
class WholeView(BaseTransform):
    """Brings the whole image to a square, whatever its aspect, as MultiCrop resizes a crop that is the whole image.

    Args:
        size: side in pixels.
        interpolation: see :class:`MultiCrop`.
        resize: see :class:`MultiCrop`.
    """

    def __init__(self, size: int, interpolation: str = 'bicubic', resize: str = 'torch') -> None:
        self.size = check_size('WholeView.size', size)
        self.interpolation = check_one_of('WholeView.interpolation', interpolation, INTERPOLATION)
        self.resize = check_one_of('WholeView.resize', resize, RESIZE)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replaces ``img``, (H, W, 3) uint8, by (size, size, 3) uint8."""
        image = np.asarray(results['img'])
        box = (0, 0, image.shape[1], image.shape[0])
        results['img'] = RESIZE[self.resize](image, box, self.size, self.interpolation)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size})'


def whole_images(dataset: Any, size: int | None = None) -> Any:
    """The same images in the same order, each once and whole; shares the list of files.

    Args:
        dataset: of views, by MultiCrop; or one that wraps such data sets.
        size: of the images, in pixels; None is that of the global views.
    """
    copied = copy.copy(dataset)
    own = isinstance(dataset, TransformingDataset) and isinstance(dataset.pipeline, Pipeline)
    steps = list(dataset.pipeline.transforms) if own else []
    for place, step in enumerate(steps):
        if isinstance(step, MultiCrop):
            whole = WholeView(size or step.global_crops.size, step.interpolation, step.resize)
            copied.pipeline = Compose([*steps[:place], whole, PackViews()])
            break
    if isinstance(dataset, WrappingDataset):
        copied.dataset = whole_images(dataset.dataset, size)
    if isinstance(dataset, JoiningDataset):
        copied.datasets = [whole_images(one, size) for one in dataset.datasets]
    return copied
