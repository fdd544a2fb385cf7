"""The benchmarks run, and say what they measured. How fast anything is is not tested."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.engine.launch.launch import read_config
from mstkit.errors import UsageError, exit_cleanly
from tests.programs import load_program


@pytest.fixture
def knn(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_program('benchmarks/knn.py')
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'faiss' else found(name))
    monkeypatch.setattr(module, 'BLOCK', 500)
    return module


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, 'argv', ['knn.py', *map(str, words), '--threads', '1'])
    try:
        exit_cleanly(module.main)()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize('order', ['random', 'classes'])
def test_knn_prints_lines_and_json(knn, monkeypatch, tmp_path, capsys, order):
    words = ('--queries', 30, '--bank', 1200, '--dims', 8, '--k', 20, '--rounds', 3, '--order', order)
    assert run(knn, monkeypatch, *words, '--json', tmp_path / 'out.json') == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'faiss is not installed' in lines[0]
    found = json.loads(lines[-1])
    assert json.loads((tmp_path / 'out.json').read_text()) == found
    assert set(found['results']) == {'ours', 'plain'}
    assert found['results']['ours']['ours_over_this'] == 1
    plain = found['results']['plain']
    assert plain['fastest'] <= plain['seconds'] <= plain['slowest']
    assert plain['whole_hours'] == pytest.approx(
        plain['seconds'] * 50_000 * 1_281_167 / 36_000 / 3600, rel=0.01, abs=1e-3
    )
    assert any(line == f'ours / plain: {plain["ours_over_this"]:.2f}' for line in lines)


def test_knn_stops_where_a_search_is_not_exact(knn):
    values, indices = torch.rand(4, 3), torch.arange(12).view(4, 3)
    knn.check_same({'ours': (values, indices), 'plain': (values + 1e-7, indices.flip(1))})
    with pytest.raises(UsageError, match='not exact'):
        knn.check_same({'ours': (values, indices), 'plain': (values + 1e-3, indices)})
    with pytest.raises(UsageError, match='different neighbors'):
        knn.check_same({'ours': (values, indices), 'plain': (values, indices + 1)})


def test_knn_mistakes(knn, monkeypatch, capsys):
    for words, message in ((('--k', 0), '--k is 0'), (('--bank', 100), 'has 100 vectors')):
        assert run(knn, monkeypatch, *words) == 2
        assert message in capsys.readouterr().err


def test_steps_of_methods_are_held_against_the_first(monkeypatch, tmp_path, capsys):
    module = load_program('benchmarks/methods.py')
    mae, simmim = (f'configs/{name}/{name}_vit-tiny_folder.py' for name in ('mae', 'simmim'))
    words = (mae, simmim, '--batch-size', 2, '--rounds', 3, '--json', tmp_path / 'out.json')
    assert run(module, monkeypatch, *words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads((tmp_path / 'out.json').read_text()) == found
    first, second = found['results'].values()
    assert first['over_first'] == 1 and first['seconds'] > 0 and second['over_first'] > 0
    assert run(module, monkeypatch, mae, mae) != 0
    assert 'is named twice' in capsys.readouterr().err


def test_several_masks_are_held_against_one(monkeypatch, tmp_path, capsys):
    module = load_program('benchmarks/masks_per_image.py')
    config = 'configs/data2vec/data2vec2_vit-tiny_folder.py'
    words = (config, '--masks', '1,3', '--batch-size', 2, '--rounds', 3, '--json', tmp_path / 'out.json')
    assert run(module, monkeypatch, *words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads((tmp_path / 'out.json').read_text()) == found
    one, three = found['results']['1'], found['results']['3']
    assert one['over_first'] == 1 and three['seconds_a_mask'] == pytest.approx(three['seconds'] / 3, abs=1e-3)
    assert run(module, monkeypatch, config, '--masks', '1,1') == 2
    assert '--masks is 1,1' in capsys.readouterr().err


def test_the_decoder_is_held_against_torchs_operations(monkeypatch, tmp_path, capsys):
    module = load_program('benchmarks/decoder.py')
    words = ('--images', 1, '--channels', 128, '--rounds', 2, '--json', tmp_path / 'out.json')
    assert run(module, monkeypatch, *words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads((tmp_path / 'out.json').read_text()) == found
    results = found['results']
    assert results['kept']['ours'] < 0.5 * results['kept']['torch']
    assert results['faster'] > 0 and {len(seconds) for seconds in results['seconds'].values()} == {2}
    assert run(module, monkeypatch, '--channels', 0) == 2
    assert '--channels is 0' in capsys.readouterr().err


def test_every_named_mask_is_held_against_a_step(monkeypatch, tmp_path, capsys):
    module = load_program('benchmarks/masks.py')
    words = ('configs/mae/mae_vit-tiny_folder.py', '--batch-size', 2, '--rounds', 3, '--json', tmp_path / 'out.json')
    assert run(module, monkeypatch, *words) == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert json.loads((tmp_path / 'out.json').read_text()) == found
    named = read_config(module.ROOT / 'configs/_base_/ablation_choices.py')['choices']['model.masker']
    assert set(found['results']) == {name for name, masker in named.items() if masker}
    assert all(0 < one['of_step'] < 10 and one['seconds'] > 0 for one in found['results'].values())
    assert 'batch 2, 8x8 patches' in lines[0] and any(line.endswith('(and tokens)') for line in lines)
    assert run(module, monkeypatch, '--rounds', 0) == 2
    assert '--rounds is 0' in capsys.readouterr().err


def test_half_precision_is_held_against_float32_image_by_image(monkeypatch, tmp_path, capsys):
    module = load_program('benchmarks/knn_precision.py')
    random = np.random.default_rng(0)
    for split, count in (('train', 15), ('val', 5)):
        for name, base in (('dark', 40), ('light', 200)):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = (base + random.integers(-30, 30, (20, 20, 3))).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f'{number}.png')
    network, out = 'random:configs/demo/mst_vit-nano_scenes.py', tmp_path / 'out.json'
    words = (network, '--data-root', tmp_path, '--size', 48)
    assert run(module, monkeypatch, *words) == 2
    assert 'give at least 250 images' in capsys.readouterr().err
    monkeypatch.setattr(module, 'BLOCK', 4)
    assert run(module, monkeypatch, *words, '--json', out) == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert json.loads(out.read_text()) == found and found['images'] == {'train': 30, 'val': 10}
    ((name, results),) = found['results'].items()
    assert set(results) == {'float32', 'bfloat16'} and results['float32']['ratio'] == 1
    for precision, result in results.items():
        assert result['seconds_per_thousand'] > 0 and result['ratio'] > 0
        assert result['k1_top1'] == 100  # gray tells the classes apart
        assert any(line.startswith(f'{name}, {precision}: ') and '100.00 (k = 1)' in line for line in lines)
    assert run(module, monkeypatch, *words, '--size', 0) == 2
    assert '--size 0' in capsys.readouterr().err
