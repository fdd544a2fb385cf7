"""The command that measures keypoints: table, JSON and pictures agree; the evaluator gives the same numbers."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.keypoints_of_networks import (
    KeypointData,
    KeypointProtocol,
    mean_places,
    measure_keypoints,
    score,
)
from mstkit.evaluation.evaluators import KeypointEvaluator
from mstkit.networks import open_networks
from mstkit.scenes.figure_files import ensure_figure_scenes

from .tool_runs import load_tool, run_tool, write_config

NAMES = ('pck20', 'pck10', 'ap', 'ap50', 'ap75')


@pytest.fixture(scope='module')
def tool():
    return load_tool('keypoints')


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return ensure_figure_scenes(tmp_path_factory.mktemp('keypoints') / 'scenes', 12, 6, 48)


def test_files_and_table_agree(tool, scenes, tmp_path, monkeypatch, capsys):
    config, out = write_config(tmp_path), tmp_path / 'new' / 'out'
    words = ('--data', scenes, '--out', out, '--epochs', 2, '--most', 8, '--device', 'cpu', '--rates', 0.003, 0.01)
    assert run_tool(tool, monkeypatch, config, *words) == 0
    printed = capsys.readouterr().out
    data = KeypointData(scenes)
    count = len(data.train.instances)
    assert f'8 train and {len(data.val.instances)} val instances\n' in printed
    assert f'{count - 8} of {count} train instances are left out (--most)' in printed
    found = json.loads((out / 'keypoints.json').read_text())
    assert found['data'] == 'scenes' and found['protocol']['most'] == 8 and found['left_out']['val']['of crowds'] == 0
    place, network = found['results']
    assert place == 'mean place in the box'
    assert found['results'][network]['rate'] in (0.003, 0.01)
    assert set(found['results'][network]['pck20_of_each']) == set(data.train.kind.names)
    for name, values in found['results'].items():
        assert f'{name} {" ".join(f"{values[key]:.2f}" for key in NAMES)}' in ' '.join(printed.split())
    [picture] = out.glob('*.png')
    sheet = np.asarray(Image.open(picture))
    assert sheet.shape[0] > 6 * 192 and sheet.shape[1] > 3 * 192


def test_what_is_not_used_is_said(tool, scenes, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(scenes, tmp_path / 'scenes')
    path = folder / 'annotations' / 'person_keypoints_val2017.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['iscrowd'] = 1
    path.write_text(json.dumps(content))
    assert run_tool(tool, monkeypatch, write_config(tmp_path), '--data', folder, '--epochs', 1, '--rates', 0.01) == 0
    assert 'val instances; not used: annotations 1 of crowds\n' in capsys.readouterr().out


def test_the_evaluator_is_the_same_measurement(scenes, tmp_path):
    [network] = open_networks(str(write_config(tmp_path)))
    evaluator = KeypointEvaluator(str(scenes), epochs=2, rates=0.01)
    evaluated = SimpleNamespace(network=network, device=torch.device('cpu'), seed=3, batch_size=5)
    evaluator.check(evaluated)
    found = evaluator(evaluated)
    data = KeypointData(scenes)
    direct = measure_keypoints(network, data, KeypointProtocol(epochs=2, rates=(0.01,)), seed=3)
    assert list(found) == [f'keypoints_{part}{name}' for part in ('', 'place_') for name in NAMES]
    assert set(evaluator.headlines()) <= set(found)
    assert found['keypoints_pck20'] == pytest.approx(direct.scores['pck20'], abs=2.0)
    assert found['keypoints_place_ap'] == direct.of_place['ap']
    with pytest.raises(UsageError, match=r'keypoints\.layers is 99, but .* blocks'):
        KeypointEvaluator(str(scenes), layers=99).check(evaluated)


@pytest.mark.parametrize('layers', [1, 2])
def test_predictions_lie_in_their_crops(scenes, tmp_path, layers):
    [network] = open_networks(str(write_config(tmp_path)))
    data = KeypointData(scenes)
    result = measure_keypoints(network, data, KeypointProtocol(layers=layers, epochs=1, rates=(0.01,)))
    boxes = np.array([one.box for one in data.val.instances])
    apart = np.abs(result.predicted - (boxes[:, None, :2] + boxes[:, None, 2:] / 2))
    assert result.predicted.shape == (len(boxes), 13, 2) and result.left_out == 0
    assert (apart <= 0.625 * boxes[:, None, 2:].max(axis=2, keepdims=True)).all()


def test_the_place_looks_at_no_image(scenes, tmp_path):
    [network] = open_networks(str(write_config(tmp_path)))
    data = KeypointData(scenes)
    result = measure_keypoints(network, data, KeypointProtocol(epochs=1, rates=(0.01,)))
    guessed = mean_places(data.train.instances, data.val.instances)
    assert result.of_place == score(data.val, guessed, np.ones(len(guessed)))[0]
    known = np.stack([one.keypoints for one in data.val.instances])
    perfect, each = score(data.val, known[..., :2], np.ones(len(known)))
    assert perfect == pytest.approx(dict.fromkeys(NAMES, 100.0)) and (each == 100.0).all()
    assert 10 < result.of_place['pck20'] < 80


def test_train_and_val_have_the_same_keypoints(scenes, tmp_path):
    folder = shutil.copytree(scenes, tmp_path / 'scenes')
    path = folder / 'annotations' / 'person_keypoints_val2017.json'
    path.write_text(path.read_text().replace('"nose"', '"snout"'))
    with pytest.raises(UsageError, match=r'the keypoints of .*train2017\.json are nose, .* and those of .* snout'):
        KeypointData(folder)
    with pytest.raises(UsageError, match=r'keypoints\.data: there is no annotation file'):
        KeypointEvaluator(str(tmp_path))
    with pytest.raises(UsageError, match=r'keypoints\.data is None: give the folder'):
        KeypointEvaluator()


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--layers', 0), '--layers is 0'),
        (('--rates', -1.0), '--rates[0] is -1'),
        (('--most', 1), '--most is 1'),
        (('--layers', 99), 'keypoints.layers is 99, but'),
        (('--data', 'nowhere'), 'there is no annotation file nowhere/annotations/person_keypoints_train2017.json'),
    ],
)
def test_mistakes_are_one_line(tool, scenes, tmp_path, monkeypatch, capsys, words, message):
    assert run_tool(tool, monkeypatch, write_config(tmp_path), '--data', scenes, '--device', 'cpu', *words) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith('error: ') and message in said
