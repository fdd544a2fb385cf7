"""The lines of the README and of the page on features, run as they stand there."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.networks import Network

from ..models.builders import TINY
from ..networks.toy import CONFIG, write_checkpoint
from .pages import ROOT, blocks


@pytest.fixture
def files(inside: Path) -> Path:
    """The checkpoint and the photograph that they name."""
    checkpoint = inside / 'work_dirs' / 'demo' / 'best_knn.pth'
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(CONFIG)
    config['model']['backbone']['arch'] = {**TINY, 'num_layers': 4}
    write_checkpoint(checkpoint, config)
    pixels = np.random.default_rng(0).integers(0, 255, (90, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(inside / 'photo.jpg')
    return inside


def test_five_lines(files):
    (code,) = [body for body in blocks(ROOT / 'README.md', 'python') if 'mstkit.load' in body]
    lines = [line for line in code.splitlines() if line]
    assert len(lines) == 5
    first_screen = (ROOT / 'README.md').read_text(encoding='utf-8').splitlines()[:30]
    assert lines[0] in first_screen
    scope: dict[str, Any] = {}
    exec(compile(code, 'README.md', 'exec'), scope)
    network = scope['network']
    assert isinstance(network, Network) and network.branch == 'teacher'
    output = network(scope['images'])
    assert torch.equal(scope['feature'], output.pooled) and scope['feature'].shape == (1, output.pooled.shape[1])
    assert torch.equal(scope['patches'], output.patch_tokens) and scope['patches'].ndim == 3
    assert torch.equal(scope['last_four'][-1].patch_tokens, output.patch_tokens)
    assert len(scope['last_four']) == 4


def test_the_page(files, capsys):
    (code,) = [body for body in blocks(ROOT / 'docs' / 'en' / 'features.md', 'python') if 'mstkit.load' in body]
    exec(compile(code, 'features.md', 'exec'), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith('torch.Size([1, ') and first.endswith('(4, 4)')
    assert second.count('torch.Size') == 4
