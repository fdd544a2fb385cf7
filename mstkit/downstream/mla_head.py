"""SETR's multi-level aggregation head as in the authors' code."""

from __future__ import annotations

from typing import Any

from mmseg.models.decode_heads import SETRMLAHead
from torch import nn

from mstkit.registry import MODELS


@MODELS.register_module()
class SETROriginalMLAHead(SETRMLAHead):
    """mmseg's ``SETRMLAHead`` with two details of the authors' code (arXiv 2012.15840, fudan-zvg/SETR).

    The classifier is a 3x3 convolution (1x1 in mmseg), and the four streams are upsampled with ``align_corners=True``
    (in mmseg only if the logits are too).

    Args:
        kwargs: see mmseg.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conv_seg = nn.Conv2d(self.channels, self.out_channels, kernel_size=3, padding=1)
        for stream in self.up_convs:
            stream[-1] = nn.Upsample(scale_factor=stream[-1].scale_factor, mode='bilinear', align_corners=True)
