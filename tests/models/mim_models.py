"""Small models of masked image modeling, of given masks, for tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from mstkit.engine.hooks import GuideCacheHook
from mstkit.models import Masker, Pretrainer
from mstkit.registry import MODELS
from mstkit.structures import MaskContext, Progress
from tests.models.builders import VIT
from tests.models.tokenizers import Shades

DECODER = dict(type='ViTDecoder', embed_dims=24, num_layers=2, num_heads=2)
LINEAR = dict(type='LinearDecoder')
PLAIN = dict(mean=[0.0], std=[1.0])
BLOCKS = dict(type='RandomMasker', ratio=0.5)


class Given(Masker):
    """Hides, and perhaps throws, what it was built with, (B, h, w)."""

    def __init__(self, mask: Tensor, thrown: Tensor | None = None) -> None:
        super().__init__()
        self.mask, self.thrown, self.throws = mask, thrown, thrown is not None

    def hide(self, context: MaskContext, generator: Generator) -> Tensor:
        return self.mask.flatten(1)

    def hide_and_throw(self, context: MaskContext, generator: Generator) -> tuple[Tensor, Tensor | None]:
        return self.mask.flatten(1), None if self.thrown is None else self.thrown.flatten(1)


def build(kind: str, **parts: Any) -> Pretrainer:
    """An initialized model in training mode whose weights, and so its errors, are not small."""
    config: dict[str, Any] = dict(type=kind, backbone=VIT, data_preprocessor=PLAIN)
    own: dict[str, Any] = dict(
        MAE=dict(decoder=DECODER),
        DBOT=dict(decoder=DECODER),
        SimMIM=dict(mask_patch_size=None),
        BEiT=dict(tokenizer=Shades()),
    )
    config |= own.get(kind, {})
    torch.manual_seed(0)
    model = MODELS.build({**config, **parts})
    model.init_weights()
    model.set_progress(Progress(0, 100, 10, rank_seed=1))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(('bias', 'bias_table', 'ln1.weight', 'ln2.weight', 'norm.weight')):
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.train()


def images(height: int = 32, width: int = 32, batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def masks(height: int = 4, width: int = 4, counts: tuple[int, ...] = (10, 12, 4)) -> Tensor:
    order = torch.rand(len(counts), height * width, generator=torch.Generator().manual_seed(2))
    ranks = order.argsort(dim=1).argsort(dim=1)
    return (ranks < torch.tensor(counts)[:, None]).view(len(counts), height, width)


def epochs_with_new_scores(model: Pretrainer, epochs: int, maps: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Before which of so many epochs the hook makes the scores that a CachedGuide keeps, ``maps`` (B, h, w)."""
    made: list[int] = []

    def refresh(runner: Any, guide: Any) -> None:
        made.append(runner.epoch)
        guide.keep(maps, torch.ones(len(maps), dtype=torch.bool), runner.epoch)

    monkeypatch.setattr(GuideCacheHook, '_refresh', staticmethod(refresh))
    for epoch in range(epochs):
        GuideCacheHook().before_train_epoch(SimpleNamespace(model=model, epoch=epoch))
    return made
