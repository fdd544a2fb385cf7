"""Converts the BGR images of mmpretrain's inferencers to the RGB of mstkit's data sets."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mstkit.registry import TRANSFORMS


@TRANSFORMS.register_module(name=['InferencerImage', 'InferencerPicture'])  # also of older checkpoints
class InferencerImage(BaseTransform):
    """Converts ``img`` of an inferencer from BGR to RGB; to be placed before ``LoadRGB`` in a test pipeline.

    mmpretrain's ``ImageClassificationInferencer`` reads files in BGR, and arrays given to it are BGR by the same
    convention. Its results have no ``sample_idx``, which every data set adds; images with ``sample_idx`` are not
    changed.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Reverses the channels of ``img``, (H, W, 3) uint8, if it comes from an inferencer."""
        image = results.get('img')
        if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 and 'sample_idx' not in results:
            results['img'] = np.ascontiguousarray(image[..., ::-1])
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
