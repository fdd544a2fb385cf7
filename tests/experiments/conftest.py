"""A checkpoint of a pre-training, and scenes to detect and to segment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mstkit.engine.checkpoints.checkpointing import save
from mstkit.registry import MODELS
from mstkit.scenes.scene_files import ensure_scenes

from .toy_transfer import ROOT


@pytest.fixture(scope='session')
def scenes(tmp_path_factory) -> Path:
    """Sixteen to train on, six to validate on."""
    return ensure_scenes(tmp_path_factory.mktemp('data') / 'scenes', 16, 6, 64)


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory) -> Path:
    """What the demo's pre-training writes, untrained; of the student only."""
    path = tmp_path_factory.mktemp('pretrained') / 'epoch_3.pth'
    backbone = Config.fromfile(ROOT / 'configs' / 'demo' / 'mst_vit-nano_scenes.py').model.backbone
    with DefaultScope.overwrite_default_scope('mstkit'):
        torch.manual_seed(0)
        state = MODELS.build(backbone).state_dict()
    save(dict(meta=dict(epoch=3, iter=9), state_dict={f'backbone.{key}': value for key, value in state.items()}), path)
    return path


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch) -> Iterator[None]:
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    yield
