from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.errors import UsageError, exit_cleanly
from mstkit.evaluation import PooledEncoder, extract_features, feature_loader, knn_accuracy
from mstkit.registry import DATASETS, MODELS
from tests.programs import load_program

from .checkpoints import BACKBONE, NORMALIZATION, PIPELINE, save_checkpoint


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_program('tools/evaluation/knn.py')


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('data')
    generator = np.random.default_rng(0)
    for split, count in (('train', 8), ('val', 3)):
        for label, name in enumerate(('dark', 'light', 'red')):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 120, (40, 50, 3)) + (80 * label if name != 'red' else [120, 0, 0])
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f'{index}.png')
    return root


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp('checkpoint') / 'epoch_1.pth')


def run(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, 'argv', ['knn.py', *map(str, arguments), '--num-workers', '0', '--device', 'cpu'])
    try:
        exit_cleanly(tool.main)()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_table_and_file_hold_the_right_numbers(tool, data, checkpoint, tmp_path, monkeypatch, capsys) -> None:
    out = tmp_path / 'new' / 'result.json'
    arguments = (checkpoint, '--train', data / 'train', '--val', data / 'val', '--k', 3, 5, '--json', out)
    assert run(tool, monkeypatch, *arguments) == 0
    printed = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found['images'] == {'train': 24, 'val': 9}
    assert set(found['branches']) == {'student', 'teacher'}
    preprocess = MODELS.build(NORMALIZATION)
    for branch, prefix in (('student', 'backbone.'), ('teacher', 'teacher.backbone.')):
        backbone = MODELS.build(BACKBONE)
        state = torch.load(checkpoint, weights_only=True)['state_dict']
        own = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        backbone.load_state_dict(own)
        banks = []
        for split in ('train', 'val'):
            dataset = DATASETS.build(dict(type='ImageFolder', data_root=str(data), split=split, pipeline=PIPELINE))
            loader = feature_loader(dataset, 5)
            banks.append(extract_features(PooledEncoder(backbone), loader, 'cpu', preprocess, 'check'))
        assert found['branches'][branch] == pytest.approx(knn_accuracy(banks[0], banks[1], ks=(3, 5)))
        assert f'{branch}: loaded {len(own)} of {len(own)} tensors' in printed
        assert f'{found["branches"][branch]["k3_top1"]:.2f}' in printed


def test_one_branch_only(tool, data, checkpoint, tmp_path, monkeypatch, capsys) -> None:
    arguments = (checkpoint, '--train', data / 'train', '--val', data / 'val', '--branch', 'student')
    assert run(tool, monkeypatch, *arguments) == 0
    printed = capsys.readouterr().out
    assert 'student' in printed and 'teacher' not in printed
    assert 'k10_top1' in printed and 'k24_top1' in printed  # 20, 100 and 200 are clipped to the 24 images


def test_mistakes_exit_with_2_and_one_sentence(tool, data, checkpoint, tmp_path, monkeypatch, capsys) -> None:
    train, val = ('--train', data / 'train'), ('--val', data / 'val')
    half = tmp_path / 'half.pth'
    half.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2])
    (tmp_path / 'flat').mkdir()
    Image.new('RGB', (40, 40)).save(tmp_path / 'flat' / 'a.png')
    content = torch.load(checkpoint, weights_only=True)
    evil = tmp_path / 'evil.pth'
    target = tmp_path / 'made by the config'
    torch.save({**content, 'meta': {'cfg': f"model = __import__('os').mkdir({str(target)!r})"}}, evil)
    lossy = tmp_path / 'lossy.pth'
    content['state_dict'].pop('backbone.ln1.weight')
    torch.save(content, lossy)
    bare = tmp_path / 'bare.pth'
    torch.save({'state_dict': content['state_dict']}, bare)
    cases = [
        ((tmp_path / 'none.pth', *train, *val), 'does not exist'),
        ((half, *train, *val), 'truncated'),
        ((checkpoint, '--train', tmp_path / 'none', *val), 'does not exist'),
        ((checkpoint, *train, '--val', tmp_path / 'flat'), 'no classes'),
        ((checkpoint, *train, *val, '--k', 0), 'ks[0] is 0'),
        ((checkpoint, *train, *val, '--k', -2), 'ks[0] is -2'),
        ((evil, *train, *val), 'holds code'),
        ((lossy, *train, *val), 'ln1.weight'),
        ((bare, *train, *val), '--config'),
        ((checkpoint, *train, *val, '--batch-size', 0), 'batch_size'),
        ((checkpoint, *train, *val, '--config', tmp_path / 'none.py'), 'there is no config file'),
    ]
    for arguments, says in cases:
        assert run(tool, monkeypatch, *arguments) == 2, arguments
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert message.startswith('error: ') and says in message, message
    assert not target.exists()


def test_device_that_is_not_there(tool) -> None:
    with pytest.raises(UsageError, match='toaster'):
        tool.build_device('toaster')
