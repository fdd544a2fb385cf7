"""Anchors keep their places under mixed precision."""

from __future__ import annotations

import torch
from mmdet.models.task_modules import AnchorGenerator

from mstkit.downstream.anchors import FullPrecisionAnchorGenerator

SETTINGS = dict(scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16])
SIZES = [(300, 300), (150, 150), (75, 75)]


def test_half_precision_moves_mmdets_anchors_and_not_ours():
    exact = AnchorGenerator(**SETTINGS).grid_priors(SIZES, dtype=torch.float32, device='cpu')
    rounded = AnchorGenerator(**SETTINGS).grid_priors(SIZES, dtype=torch.bfloat16, device='cpu')
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        ours = FullPrecisionAnchorGenerator(**SETTINGS).grid_priors(SIZES, dtype=dtype, device='cpu')
        assert all(torch.equal(a, b) for a, b in zip(ours, exact, strict=True)), dtype
    assert max((a.float() - b).abs().max() for a, b in zip(rounded, exact, strict=True)) >= 2.0


def test_double_precision_stays():
    (boxes,) = FullPrecisionAnchorGenerator(scales=[8], ratios=[1.0], strides=[4]).grid_priors(
        [(2, 2)], dtype=torch.float64, device='cpu'
    )
    assert boxes.dtype == torch.float64
