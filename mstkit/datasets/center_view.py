"""The center crop on which features are evaluated."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from mstkit.errors import UsageError
from mstkit.registry import TRANSFORMS
from mstkit.utils.checks import check_size


@TRANSFORMS.register_module()
class CenterView(BaseTransform):
    """Resizes the shorter side and crops the center, as in DINO's evaluation (256, then 224).

    Args:
        resize: the shorter side after resizing (antialiased bicubic), in pixels.
        crop: side of the central square, in pixels.

    Raises:
        UsageError: a size is not a positive number, or the crop does not fit.
    """

    def __init__(self, resize: int = 256, crop: int = 224) -> None:
        self.resize = check_size('CenterView.resize', resize)
        self.crop = check_size('CenterView.crop', crop)
        if crop > resize:
            raise UsageError(f'CenterView.crop is {crop} and resize is {resize}: the crop must not exceed the resize.')

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replaces ``img``, (H, W, 3) uint8, by (crop, crop, 3) uint8."""
        image = Image.fromarray(np.asarray(results['img']))
        width, height = image.size
        short = min(width, height)
        if short != self.resize:
            # The longer side is rounded down, as in torchvision's Resize.
            width, height = (int(self.resize * side / short) for side in (width, height))
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = round((width - self.crop) / 2), round((height - self.crop) / 2)
        results['img'] = np.array(image.crop((left, top, left + self.crop, top + self.crop)))
        results['img_shape'] = (self.crop, self.crop)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(resize={self.resize}, crop={self.crop})'
