"""The heads of the SETR recipes compute what SETR's own code does, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'downstream' / 'mmseg'
GRID, IMAGE = 6, 96  # patches and pixels a side


def heads_of(variant: str) -> tuple[BaseDecodeHead, list[BaseDecodeHead], Config]:
    config = Config.fromfile(CONFIGS / f'setr_{variant}_deit-s_768x768_40k_cityscapes.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        main, *auxiliary = (
            MODELS.build(head).eval() for head in (config.model.decode_head, *config.model.auxiliary_head)
        )
    for head in (main, *auxiliary):
        for parameter in head.parameters():
            nn.init.normal_(parameter, std=0.3)
        head.double()
    return main, auxiliary, config


def features(count: int = 4, channels: int = 384) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, channels, GRID, GRID, generator=generator, dtype=torch.float64) for _ in range(count)]


def enlarged(x: Tensor, size: int, align_corners: bool = False) -> Tensor:
    return F.interpolate(x, size=(size, size), mode='bilinear', align_corners=align_corners)


def normalized(head: BaseDecodeHead, x: Tensor) -> Tensor:
    return head.norm(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)


def convolved(module: ConvModule, x: Tensor) -> Tensor:
    return F.relu(module.bn(module.conv(x)))


@torch.no_grad()
def compare(head: nn.Module, given: list[Tensor], expected: Tensor) -> None:
    """Logits at the size of the image, as loss and metric see them."""
    torch.testing.assert_close(enlarged(head(given), IMAGE), expected)


@torch.no_grad()
def test_naive():
    """LN, 1x1 convolution to 256, BN, ReLU, 1x1 classifier, one bilinear step; the same on blocks 3, 6 and 9."""
    main, auxiliary, config = heads_of('naive')
    given = features()
    blocks = config.model.backbone.out_indices
    assert [blocks[head.in_index] for head in (*auxiliary, main)] == [2, 5, 8, 11]
    for head in (main, *auxiliary):
        (up,) = head.up_convs
        assert up[0].conv.weight.shape == (256, 384, 1, 1) and head.conv_seg.weight.shape == (19, 256, 1, 1)
        x = convolved(up[0], normalized(head, given[head.in_index]))
        compare(head, given, enlarged(head.conv_seg(x), IMAGE))


@torch.no_grad()
def test_pup():
    """Four 3x3 convolutions with 2x between them, a classifier, and the last 2x after it."""
    main, auxiliary, config = heads_of('pup')
    given = features()
    blocks = config.model.backbone.out_indices
    assert blocks[main.in_index] == 11 and len(main.up_convs) == 4
    x = normalized(main, given[3])
    for number, up in enumerate(main.up_convs):
        assert up[0].conv.weight.shape[2:] == (3, 3)
        x = convolved(up[0], x)
        x = enlarged(x, 2 * x.shape[-1]) if number < 3 else x
    compare(main, given, enlarged(main.conv_seg(x), IMAGE))
    # Auxiliary ones: one 3x3 convolution, 4x, a classifier, then to the size of the image.
    assert [blocks[head.in_index] for head in auxiliary] == [4, 7, 9, 11]
    for head in auxiliary:
        (up,) = head.up_convs
        assert up[0].conv.weight.shape == (256, 384, 3, 3)
        x = enlarged(convolved(up[0], normalized(head, given[head.in_index])), 4 * GRID)
        compare(head, given, enlarged(head.conv_seg(x), IMAGE))
        assert head.loss_decode.loss_weight == 0.4


@torch.no_grad()
def test_mla():
    """Two 3x3 convolutions a stream, 4x with aligned corners, one 3x3 classifier for all; linear auxiliary heads."""
    main, auxiliary, config = heads_of('mla')
    assert config.model.backbone.out_indices == (2, 5, 8, 11)
    given = features(channels=256)
    streams = [
        enlarged(convolved(up[1], convolved(up[0], x)), 4 * GRID, True)
        for up, x in zip(main.up_convs, given, strict=True)
    ]
    assert main.conv_seg.weight.shape == (19, 512, 3, 3)
    logits = F.conv2d(torch.cat(streams, 1), main.conv_seg.weight, main.conv_seg.bias, padding=1)
    compare(main, given, enlarged(logits, IMAGE))
    assert [head.in_index for head in auxiliary] == [0, 1, 2, 3]
    for head in auxiliary:
        compare(head, given, enlarged(head.conv_seg(given[head.in_index]), IMAGE))


@pytest.mark.parametrize('variant', ['naive', 'pup', 'mla'])
def test_weights_start_as_the_config_says(variant):
    config = Config.fromfile(CONFIGS / f'setr_{variant}_deit-s_768x768_40k_cityscapes.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        head = MODELS.build(config.model.decode_head)
        head.init_weights()
    assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.05)
