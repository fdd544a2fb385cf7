"""The image that an inferencer of mmpretrain's hands over, in the order of colors that our data sets have."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mstkit.registry import TRANSFORMS


@TRANSFORMS.register_module(name=['InferencerImage', 'InferencerPicture'])  # also of older checkpoints
class InferencerImage(BaseTransform):
    """Before ``LoadRGB`` in a test pipeline: makes RGB of the BGR ``img`` that comes from an inferencer.

    mmpretrain's ``ImageClassificationInferencer`` reads a file itself, as mmcv does, in BGR; an array that is given to
    it is BGR by the same convention. It tells ``img`` and its shapes, and no ``sample_idx``, which every data set
    adds: by that the two are told apart. Images of a data set stay as they are.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Reverses the channels of ``img``, (H, W, 3) uint8, where an inferencer gave it."""
        image = results.get('img')
        if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 and 'sample_idx' not in results:
            results['img'] = np.ascontiguousarray(image[..., ::-1])
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
