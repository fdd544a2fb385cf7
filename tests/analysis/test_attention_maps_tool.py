from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.errors import exit_cleanly
from mstkit.networks import Network
from tests.networks.toy import network, write_checkpoint
from tests.programs import load_program

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_program('tools/analysis/attention_maps.py')


@pytest.fixture(scope='module')
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and a folder of images of which one is broken."""
    folder = tmp_path_factory.mktemp('attention')
    write_checkpoint(folder / 'epoch_1.pth')
    (folder / 'images').mkdir()
    generator = np.random.default_rng(0)
    for index in range(3):
        pixels = generator.integers(0, 255, (50, 60, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / 'images' / f'{index}.png')
    (folder / 'images' / 'broken.png').write_bytes(b'no image')
    return folder


@pytest.fixture
def call(tool: ModuleType, work: Path, monkeypatch: pytest.MonkeyPatch):
    def run(*arguments: object) -> None:
        monkeypatch.chdir(work)
        monkeypatch.setattr(sys, 'argv', ['attention_maps.py', *map(str, arguments), '--device', 'cpu'])
        exit_cleanly(tool.main)()

    return run


def test_draws_what_was_asked_for(call, tool: ModuleType, work: Path, monkeypatch, capsys) -> None:
    seen: dict[str, Any] = {}
    real = tool.draw_attention_sheet

    def keep(rows: list, path: str, title: list, caption: list) -> object:
        seen.update(rows=rows, title=' '.join(title), caption=' '.join(caption))
        return real(rows, path, title, caption)

    monkeypatch.setattr(tool, 'draw_attention_sheet', keep)
    call('epoch_1.pth', 'random:epoch_1.pth', '--images', 'images', '--out', 'out/a.png', '--pca', '--block', 1)
    rows: list = seen['rows']
    folder = work.name
    names = [f'{folder}/epoch_1 student', f'{folder}/epoch_1 teacher', 'random epoch_1']
    assert [row.network for row in rows] == names * 3  # the broken one is left out, and said
    assert torch.equal(rows[0].image, rows[2].image) and not torch.equal(rows[0].image, rows[3].image)
    assert all(row.heads.shape == (3, 4, 4) and row.colors.shape == (4, 4, 3) for row in rows)
    shares = (rows[0].heads * rows[0].kept).sum((1, 2)) / rows[0].heads.sum((1, 2))
    assert (shares >= 0.6 - 1e-6).all() and not rows[0].kept.all()
    assert seen['title'] == 'Attention of block 2 of 3' and 'from the class token' in str(seen['caption'])
    printed = capsys.readouterr().out
    assert printed.count('1 files cannot be read: broken.png') == 1 and 'written: out/a.png' in printed
    with Image.open(work / 'out' / 'a.png') as sheet:
        assert sheet.size[1] > 9 * 144


def test_files_in_another_size(call, work: Path, capsys) -> None:
    files = ['images/0.png', 'images/2.png']
    call('epoch_1.pth', '--images', *files, '--out', 'b.png', '--branch', 'teacher', '--image-size', 48)
    assert 'teacher: loaded' in capsys.readouterr().out.replace('epoch_1.pth, ', '')
    assert Image.open(work / 'b.png').size[1] < 3 * 150 + 100


@pytest.mark.parametrize('block', [-1, 0])
@pytest.mark.parametrize('name', ['mstkit ViT', 'timm ViT with registers', 'mstkit Swin'])
def test_tokens_belong_to_the_patches(tool: ModuleType, name: str, block: int) -> None:
    net: Network = network(name)
    size = 224 if 'Swin' in name else 32
    image = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    received, tokens = tool.attention_and_tokens(net, image, block, 'cpu')
    grid = {-1: 4 if size == 32 else 7, 0: 4 if size == 32 else 56}[block]
    assert received.shape[2:] == (grid, grid) and tokens.shape[1] == grid**2
    if block == -1:
        assert torch.equal(tokens, net(image.float()).patch_tokens)
    else:
        seen: list[torch.Tensor] = []
        net.watch(image.float(), on_tokens=lambda block, found: seen.append(found), blocks=[0])
        assert torch.equal(tokens, seen[0][:, net.extra_tokens :])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['epoch_1.pth', '--images', 'images', '--out', 'a.jpg'], 'has to end in .png'),
        (['epoch_1.pth', '--images', 'images', '--out', 'a.png', '--threshold', '1.5'], '--threshold is 1.5'),
        (['epoch_1.pth', '--images', 'images', '--out', 'a.png', '--block', '3'], 'has 3 blocks'),
        (['epoch_1.pth', '--images', 'none', '--out', 'a.png'], '--images none does not exist'),
        (['epoch_1.pth', '--images', 'images/broken.png', '--out', 'a.png'], 'broken.png cannot be read'),
        (
            ['none.pth', '--images', 'images', '--out', 'a.png'],
            "there is no file 'none.pth': give FILE (a checkpoint of mstkit, or of another program)",
        ),
        (['epoch_1.pth', '--images', 'images', '--out', 'a.png', '--image-size', '0'], '--image-size is 0'),
    ],
)
def test_mistakes(call, work: Path, capsys, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        call(*arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (work / 'a.png').exists()
