"""The last transform of a pipeline: packs arrays into tensors and meta data into a DataSample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.structures import DataSample
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.registry import TRANSFORMS
from mstkit.utils.checks import check_flag

_LARGE = 3 * 96**2  # values from which on OpenCV's 10 to 15 us for any image are less than what it saves


@TRANSFORMS.register_module()
class PackViews(BaseTransform):
    """Packs a single image or a list of views for ``default_collate``.

    Like mmpretrain's ``PackInputs``, which takes one image; also keeps which files were replaced.

    Args:
        meta_keys: keys to copy to the DataSample, if present; ``view_boxes`` always is.
        single: pack a single view as an image instead of a list of one, as mmpretrain's MAE expects it.

    Raises:
        UsageError: ``single`` is no bool; or, in use, there are several views.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = ('sample_idx', 'img_path', 'replaced', 'replaced_reasons'),
        single: bool = False,
    ) -> None:
        self.meta_keys = tuple(meta_keys)
        self.single = check_flag('PackViews.single', single)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Makes ``inputs``, a uint8 tensor (3, H, W) or a list of them as ``img`` is, and ``data_samples``.

        With ``photometric='device'`` of ``MultiCrop``, ``photometric`` (V, 12) has the views' parameters.
        """
        image = self._alone(results['img']) if self.single else results['img']
        sample = DataSample()
        if 'gt_label' in results:
            sample.set_gt_label(results['gt_label'])
        sample.set_metainfo({key: results[key] for key in (*self.meta_keys, 'view_boxes') if key in results})
        inputs = [_to_tensor(view) for view in image] if isinstance(image, list) else _to_tensor(image)
        packed = dict(inputs=inputs, data_samples=sample)
        if 'photometric' in results:  # (1, 12) of a single view: the preprocessor takes both
            # Not in the DataSample: a preprocessor that does not support the key then fails instead of ignoring it.
            packed['photometric'] = torch.from_numpy(results['photometric'])
        return packed

    @staticmethod
    def _alone(image: np.ndarray | list[np.ndarray]) -> np.ndarray:
        if not isinstance(image, list):
            return image
        if len(image) != 1:
            raise UsageError(
                f'PackViews: single=True, but there are {len(image)} views: set global_crops.count=1 and '
                'local_crops.count=0 of MultiCrop, and one recipe'
            )
        return image[0]

    def __repr__(self) -> str:
        return f'{type(self).__name__}(meta_keys={self.meta_keys}, single={self.single})'


def _to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, C) array to a contiguous (C, H, W) tensor that owns its memory."""
    if image.dtype != np.uint8 or image.shape[2] != 3 or image.size < _LARGE:
        return torch.from_numpy(np.array(image.transpose(2, 0, 1), order='C'))
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, list(planes))  # at 224 px a third of the time of the transposed copy
    return torch.from_numpy(planes)
