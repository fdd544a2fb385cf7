"""SETR's multi-level aggregation head as in its own code."""

from __future__ import annotations

from typing import Any

from mmseg.models.decode_heads import SETRMLAHead
from torch import nn

from mstkit.registry import MODELS


@MODELS.register_module()
class SETROriginalMLAHead(SETRMLAHead):
    """mmseg's ``SETRMLAHead`` with two things as in SETR's own code (arXiv 2012.15840, fudan-zvg/SETR).

    The classifier is a 3x3 convolution, mmseg's a 1x1; and the four streams are enlarged with aligned corners, which
    mmseg's head does only where the logits are as well.

    Args:
        kwargs: see mmseg.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv_seg = nn.Conv2d(self.channels, self.out_channels, kernel_size=3, padding=1)
        for stream in self.up_convs:
            stream[-1] = nn.Upsample(scale_factor=stream[-1].scale_factor, mode='bilinear', align_corners=True)
