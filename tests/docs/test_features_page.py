"""The lines of the README and of the page on features, run as they stand there."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mstkit
from mstkit.embedding import embed_folder
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


def test_the_first_page_of_the_site_has_the_same_five_lines():
    code = [body for body in blocks(ROOT / 'README.md', 'python') if 'mstkit.load' in body]
    assert blocks(ROOT / 'docs' / 'en' / 'index.md', 'python') == code


def reading(word: str) -> str:
    (code,) = [body for body in blocks(ROOT / 'docs' / 'en' / 'features.md', 'python') if word in body]
    return code


@pytest.fixture
def embedded(files, tmp_path, monkeypatch) -> Callable[[str], object]:
    """Writes the features of two images of two classes into a file of a folder of its own."""
    network = mstkit.load('work_dirs/demo/best_knn.pth')
    for place in ('cat/1.jpg', 'dog/2.jpg'):
        (tmp_path / 'DIR' / place).parent.mkdir(parents=True)
        shutil.copy(files / 'photo.jpg', tmp_path / 'DIR' / place)
    monkeypatch.chdir(tmp_path)
    return lambda name: embed_folder(network, 'DIR', name, num_workers=0)


def test_an_npz_is_read_back(embedded, capsys):
    embedded('features.npz')
    exec(compile(reading('numpy.load('), 'features.md', 'exec'), {})
    assert capsys.readouterr().out.splitlines()[-2:] == ['cat/1.jpg cat', '(2, 48) demo/best_knn teacher']


def test_parquet_is_read_back(embedded):
    for name in ('pandas', 'pyarrow'):
        pytest.importorskip(name, reason='an optional package, of those alone who read such files')
    embedded('features.parquet')
    scope: dict[str, Any] = {}
    exec(compile(reading('pandas.read_parquet('), 'features.md', 'exec'), scope)
    assert scope['features'].shape == (2, 48) and scope['table']['class'].tolist() == ['cat', 'dog']


def test_the_page(files, capsys):
    (code,) = [body for body in blocks(ROOT / 'docs' / 'en' / 'features.md', 'python') if 'mstkit.load' in body]
    exec(compile(code, 'features.md', 'exec'), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith('torch.Size([1, ') and first.endswith('(4, 4)')
    assert second.count('torch.Size') == 4
