"""Pre-trained models as files, and what a backbone gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mstkit.engine.checkpoints.checkpointing import save
from mstkit.interop import read_checkpoint

from ..models.builders import SWIN, mst

SMALL_WINDOW: dict[str, Any] = {**SWIN, 'img_size': 128, 'window_size': 2}
OWN_SWIN = dict(embed_dims=24, depths=(1, 1, 2, 2), num_heads=(1, 2, 3, 6), drop_path_rate=0.0)
FEATMAP = dict(out_type='featmap')
FOUR = dict(out_indices=(0, 1, 2, 3))
TABLES = 6  # blocks of SWIN


class Source:
    """A pre-trained model, and the checkpoint that it wrote."""

    def __init__(self, path: Path, network: str = 'vit', **parts: Any) -> None:
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mstkit'):
            self.model: Any = mst(network, **parts).eval()
        with torch.no_grad():  # trained weights: no two alike, norms not at 1 and 0, the teacher not the student
            for value in self.model.parameters():
                value.add_(0.05 * torch.randn_like(value))
        self.path = path
        save(dict(meta=dict(epoch=3), state_dict=self.model.state_dict()), path)
        self.checkpoint = read_checkpoint(path)

    def backbone(self, branch: str = 'student') -> Any:
        return self.model.backbone if branch == 'student' else self.model.teacher.backbone

    def changed(self, change: Callable[[dict[str, Tensor]], object]) -> dict[str, Any]:
        """The checkpoint with other student weights; ``change`` gets them without prefix."""
        prefix = 'backbone.'
        state = {k.removeprefix(prefix): v for k, v in self.checkpoint['state_dict'].items() if k.startswith(prefix)}
        change(state)
        return {'state_dict': {prefix + name: value for name, value in state.items()}, 'meta': {}}


def segmentor(backbone: dict[str, Any], channels: int) -> Any:
    """mmseg's encoder and decoder with one convolution."""
    import mmseg.models  # noqa: F401
    from mmseg.registry import MODELS as MMSEG_MODELS

    head = dict(type='FCNHead', in_channels=channels, in_index=-1, channels=8, num_convs=1, num_classes=3)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MMSEG_MODELS.build(dict(type='EncoderDecoder', backbone=backbone, decode_head=head, test_cfg={}))


def toy_image(size: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def last_map(module: nn.Module, images: Tensor) -> Tensor:
    """What a backbone gives last, as a map (B, C, h, w)."""
    module.eval()
    with torch.no_grad():
        return module(images)[-1]


def expected_map(source: Source, images: Tensor, branch: str = 'student') -> Tensor:
    """The pre-trained backbone's tokens as a map, by another way than ``forward``."""
    with torch.no_grad():
        tokens = source.backbone(branch).eval().forward_tokens(images)
    return tokens.patch_tokens.transpose(1, 2).unflatten(2, tokens.grid)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}
