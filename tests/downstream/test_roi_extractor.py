"""Regions keep their coordinates under mixed precision."""

from __future__ import annotations

import pytest
import torch
import torchvision
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmengine.registry import MODELS, DefaultScope

from mstkit.downstream.roi_extractor import FullPrecisionRoIExtractor
from tests.models.builders import gradient_of

SETTINGS = dict(
    roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2), out_channels=2, featmap_strides=[4, 8]
)


def build() -> FullPrecisionRoIExtractor:
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(dict(type='mstkit.FullPrecisionRoIExtractor', **SETTINGS))


def levels(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Features that are their own coordinates in pixels, scaled to 0..1: what is pooled says where."""
    features = []
    for stride in (4, 8):
        axis = (torch.arange(1200 // stride) + 0.5) * stride / 1200
        rows, columns = torch.meshgrid(axis, axis, indexing='ij')
        features.append(torch.stack((columns, rows))[None].to(dtype))
    return tuple(features)


ROIS = torch.tensor([[0, 1001.7, 993.3, 1062.9, 1050.2], [0, 10.25, 1021.9, 300.75, 1150.6]])


def centers(pooled: torch.Tensor) -> torch.Tensor:
    return pooled.float().mean(dim=(2, 3)) * 1200


def test_pooling_is_torchvisions_in_float32():
    features = levels(torch.float32)
    pooled = build()(features, ROIS)
    for index, level in ((0, 0), (1, 1)):  # the second region is large enough for the coarser level
        own = torchvision.ops.roi_align(
            features[level], ROIS[index : index + 1], 7, 1 / (4 * 2**level), sampling_ratio=2, aligned=True
        )
        torch.testing.assert_close(pooled[index : index + 1], own, rtol=0, atol=1e-6)
    torch.testing.assert_close(pooled, SingleRoIExtractor(**SETTINGS)(features, ROIS), rtol=0, atol=0)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_coordinates_are_not_rounded(dtype):
    """The middle of what is pooled is the middle of the region; mmdet's own misses it by pixels."""
    # Rounding of the features themselves is out of the way: they are exact in both types.
    exact = tuple(level.to(dtype).float() for level in levels(torch.float32))
    features = tuple(level.to(dtype) for level in exact)
    expected = build()(exact, ROIS)
    with torch.autocast('cpu', torch.bfloat16):
        pooled = build()(features, ROIS)
        rounded = SingleRoIExtractor(**SETTINGS)(features, ROIS)
    assert pooled.dtype == rounded.dtype == dtype
    torch.testing.assert_close(pooled, expected.to(dtype), rtol=0, atol=0)
    middle = (ROIS[:, 1:3] + ROIS[:, 3:]) / 2
    shift = (expected - rounded.float()).abs().mean(dim=(2, 3)) * 1200
    assert (centers(expected) - middle).abs().max() < (4 if dtype == torch.bfloat16 else 0.5)
    if dtype == torch.bfloat16:
        assert shift.max() > 1


def test_gradients_reach_all_levels():
    features = [level.requires_grad_() for level in levels(torch.bfloat16)]
    with torch.autocast('cpu', torch.bfloat16):
        build()(features, ROIS).sum().backward()
    for feature in features:
        gradient = gradient_of(feature)
        assert gradient.dtype == torch.bfloat16 and gradient.float().sum() > 0


def test_no_regions_and_enlarged_ones():
    features = levels(torch.bfloat16)
    assert build()(features, torch.zeros(0, 5)).shape == (0, 2, 7, 7)
    wide = build()(levels(torch.float32), ROIS[:1], roi_scale_factor=2.0)
    plain = SingleRoIExtractor(**SETTINGS)(levels(torch.float32), ROIS[:1], roi_scale_factor=2.0)
    torch.testing.assert_close(wide, plain, rtol=0, atol=0)


def test_double_precision_stays():
    features = levels(torch.float64)
    assert build()(features, ROIS.double()).dtype == torch.float64
