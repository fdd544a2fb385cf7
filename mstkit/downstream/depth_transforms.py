"""Transforms of images with depth, for mmseg's pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from mstkit.datasets.depth_pairs import read_depth
from mstkit.errors import UsageError
from mstkit.registry import TRANSFORMS
from mstkit.utils.checks import check_count, check_number


@TRANSFORMS.register_module()
class LoadDepth(BaseTransform):
    """Reads the depth map of a sample of :class:`~mstkit.downstream.depth_folder.DepthFolder`, in meters.

    mmseg's ``LoadDepthAnnotation`` reads neither ``.npy`` nor what is unknown. Put it before ``Resize`` in training,
    and after it in a validation, which measures at the size of the depth map.

    Args:
        units: of the files in a meter; by default what the data set says.
        farthest: in meters; farther pixels are unknown. By default what the data set says.
    """

    def __init__(self, units: float | None = None, farthest: float | None = None) -> None:
        self.units = None if units is None else check_number('LoadDepth.units', units, 1e-6, 1e9)
        self.farthest = None if farthest is None else check_number('LoadDepth.farthest', farthest, 1e-6, 1e9)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds ``gt_depth_map``, (H, W) float32, 0 where it is unknown.

        Raises:
            UsageError: the file cannot be read, or is of another size than its image.
        """
        path = results['depth_map_path']
        depth = read_depth(path, results.get('depth_units') if self.units is None else self.units)
        size = results.get('ori_shape')
        if size is not None and depth.shape != tuple(size[:2]):
            (height, width), (rows, columns) = size[:2], depth.shape
            raise UsageError(
                f'the depth map {path} is {columns}x{rows} px and its image {width}x{height}: give depth maps of the '
                'size of their images.'
            )
        farthest = results.get('farthest') if self.farthest is None else self.farthest
        if farthest is not None:
            depth = np.where(depth <= farthest, depth, np.float32(0))
        results['gt_depth_map'] = depth
        results.setdefault('seg_fields', []).append('gt_depth_map')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(units={self.units}, farthest={self.farthest})'


@TRANSFORMS.register_module()
class CropBottom(BaseTransform):
    """Crops the middle of the lowest rows, before anything else: what is left counts as the whole image.

    KITTI's images differ in size by a few pixels and its lidar sees little of their upper part: 352x1216 is what its
    depth benchmark crops.

    Args:
        height: in pixels.
        width: in pixels. A side that is smaller than this stays as it is.
    """

    def __init__(self, height: int = 352, width: int = 1216) -> None:
        self.height = check_count('CropBottom.height', height, 1)
        self.width = check_count('CropBottom.width', width, 1)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crops ``img`` and every map of ``seg_fields``, and sets ``img_shape`` and ``ori_shape``."""
        for key in ('img', *results.get('seg_fields', [])):
            pixels = results[key]
            left = max(0, (pixels.shape[1] - self.width) // 2)
            results[key] = pixels[max(0, pixels.shape[0] - self.height) :, left : left + self.width]
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(height={self.height}, width={self.width})'
