"""mmseg's measures of depth, of the images and pixels whose depth is known."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmseg.evaluation import DepthMetric
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.registry import METRICS
from mstkit.utils.checks import check_number, check_one_of

# Shares of the height and of the width (upper, lower, left, right) that are measured on KITTI.
CROPS = {
    'garg': (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    'eigen': (0.3324324, 0.91351351, 0.0359477, 0.96405229),
}


@METRICS.register_module()
class KnownDepthMetric(DepthMetric):
    """mmseg's ``DepthMetric``, without the images of which no depth is known: a single one makes mmseg's NaN.

    Args:
        farthest: in meters; farther pixels do not count.
        crop: ``'garg'`` or ``'eigen'``, the part of an image that is measured on KITTI; None for all of it.
        **kwargs: as in mmseg: ``crop_type='nyu_crop'`` for the part of NYU-Depth v2 (640x480 px), ``output_dir`` ...
    """

    def __init__(self, farthest: float = 10.0, crop: str | None = None, **kwargs: Any) -> None:
        self.crop = None if crop is None else check_one_of('KnownDepthMetric.crop', crop, tuple(CROPS))
        # mmseg counts what is nearer than its limit; a pixel at the farthest depth itself is known.
        limit = check_number('KnownDepthMetric.farthest', farthest, 1e-6, 1e9) * (1 + 1e-6)
        super().__init__(max_depth_eval=limit, **kwargs)

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Measures some images.

        Args:
            data_batch: as the loader gives it; not used.
            data_samples: with ``pred_depth_map`` and ``gt_depth_map``, (1, H, W) each.
        """
        if not self.format_only:
            for sample in data_samples:
                known = sample['gt_depth_map']['data']
                if self.crop is not None:
                    sample['gt_depth_map']['data'] = _cropped(known, CROPS[self.crop])
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The mean over images: ``d1``, ``d2``, ``d3`` (shares), ``rmse`` and ``abs_rel``, and mmseg's others.

        Raises:
            UsageError: no image has a known depth.
        """
        if self.format_only:
            return super().compute_metrics(results)
        known = [(truth, depth) for truth, depth in results if truth.numel()]
        if not known:
            raise UsageError(f'none of {len(results)} images has a known depth to measure by.')
        if len(known) < len(results):
            print_log(
                f'{len(results) - len(known)} of {len(results)} images have no known depth and are not measured.',
                'current',
                logging.WARNING,
            )
        return super().compute_metrics(known)


def _cropped(known: Tensor, shares: tuple[float, float, float, float]) -> Tensor:
    """The depth in a part of an image, (1, H, W); outside of it is unknown."""
    height, width = known.shape[-2:]
    sides = (height, height, width, width)
    upper, lower, left, right = (int(share * side) for share, side in zip(shares, sides, strict=True))
    inside = torch.zeros_like(known)
    inside[..., upper:lower, left:right] = known[..., upper:lower, left:right]
    return inside
