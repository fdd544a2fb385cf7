"""The last transform: arrays become tensors, and what is known about the sample a DataSample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.structures import DataSample
from torch import Tensor

from mstkit.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackViews(BaseTransform):
    """Packs a single image or a list of views for ``default_collate``.

    mmpretrain's ``PackInputs`` does as much for one image; this one also carries which files had to be replaced.

    Args:
        meta_keys: what of the sample travels on in the DataSample, where it is there.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = ('sample_idx', 'img_path', 'replaced', 'replaced_reasons'),
    ) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Makes ``inputs``, a uint8 tensor (3, H, W) or a list of them as ``img`` is, and ``data_samples``.

        Where ``MultiCrop`` leaves the colours to the device, their parameters go along as ``photometric``, (V, 12).
        """
        image = results['img']
        sample = DataSample()
        if 'gt_label' in results:
            sample.set_gt_label(results['gt_label'])
        sample.set_metainfo({key: results[key] for key in self.meta_keys if key in results})
        inputs = [_to_tensor(view) for view in image] if isinstance(image, list) else _to_tensor(image)
        packed = dict(inputs=inputs, data_samples=sample)
        if 'photometric' in results:
            # No part of the DataSample: a preprocessor that does not know the key then stops rather than ignores it.
            packed['photometric'] = torch.from_numpy(results['photometric'])
        return packed

    def __repr__(self) -> str:
        return f'{type(self).__name__}(meta_keys={self.meta_keys})'


def _to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, C) array to a contiguous (C, H, W) tensor that owns its memory."""
    if image.dtype != np.uint8 or image.shape[2] != 3:
        return torch.from_numpy(np.array(image.transpose(2, 0, 1), order='C'))
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, list(planes))  # a third of the time of the transposed copy
    return torch.from_numpy(planes)
