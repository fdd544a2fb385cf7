"""The command that measures depth: table, JSON and pictures agree; the evaluator gives the same numbers."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.depth_of_networks import DepthData, DepthProtocol, measure_depth
from mstkit.evaluation.evaluators import DepthEvaluator
from mstkit.networks import open_networks
from mstkit.scenes.depth_files import ensure_depth_scenes

from .tool_runs import load_tool, run_tool, write_config


@pytest.fixture(scope='module')
def tool():
    return load_tool('depth')


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return ensure_depth_scenes(tmp_path_factory.mktemp('depth') / 'scenes', 12, 6, 32)


def test_files_and_table_agree(tool, scenes, tmp_path, monkeypatch, capsys):
    config, out = write_config(tmp_path), tmp_path / 'new' / 'out'
    words = ('--data', scenes, '--out', out, '--epochs', 2, '--most', 8, '--device', 'cpu', '--rates', 0.003, 0.01)
    assert run_tool(tool, monkeypatch, config, *words) == 0
    printed = capsys.readouterr().out
    assert '4 of 12 train images are left out (--most)' in printed
    found = json.loads((out / 'depth.json').read_text())
    assert found['data'] == 'scenes' and found['protocol']['most'] == 8
    place, network = found['results']
    assert place == 'mean at each place'
    assert found['results'][network]['rate'] in (0.003, 0.01)
    for name, values in found['results'].items():
        cells = (f'{values[key]:.{2 if key[0] == "d" else 3}f}' for key in ('rmse', 'abs_rel', 'd1', 'd2', 'd3'))
        assert f'{name} {" ".join(cells)}' in ' '.join(printed.split())
    [picture] = out.glob('*.png')
    sheet = np.asarray(Image.open(picture))
    assert sheet.shape[0] > 6 * 160 and sheet.shape[1] > 3 * 160


def test_the_evaluator_is_the_same_measurement(scenes, tmp_path):
    [network] = open_networks(str(write_config(tmp_path)))
    evaluator = DepthEvaluator(str(scenes), epochs=1, rates=0.01)
    evaluated = SimpleNamespace(network=network, device=torch.device('cpu'), seed=3, batch_size=5)
    evaluator.check(evaluated)
    found = evaluator(evaluated)
    direct = measure_depth(network, DepthData(scenes), DepthProtocol(epochs=1, rates=(0.01,)), seed=3)
    names = {*direct.scores, *(f'place_{name}' for name in direct.scores)}
    assert {name.removeprefix('depth_') for name in found} == names
    assert next(iter(found)) == 'depth_d1' and set(evaluator.headlines()) <= set(found)
    assert found['depth_rmse'] == pytest.approx(direct.scores['rmse'], rel=1e-3)
    assert found['depth_place_rmse'] == direct.of_place['rmse']
    with pytest.raises(UsageError, match=r'depth\.layers is 99, but .* blocks'):
        DepthEvaluator(str(scenes), layers=99).check(evaluated)


@pytest.mark.parametrize('layers', [1, 2])
def test_tokens_of_equally_spaced_blocks(scenes, tmp_path, layers):
    """A linear layer on more blocks sees as many channels, and depth beyond the limit is unknown."""
    [network] = open_networks(str(write_config(tmp_path)))
    data = DepthData(scenes)
    result = measure_depth(network, data, DepthProtocol(layers=layers, epochs=1, rates=(0.01,), farthest=6.0))
    assert result.predicted.shape == (6, network.image_size, network.image_size)
    assert float(result.predicted.max()) <= 6.0 and result.left_out == 0


def test_the_place_is_the_mean_of_the_train_images(scenes, tmp_path):
    [network] = open_networks(str(write_config(tmp_path)))
    data = DepthData(scenes)
    result = measure_depth(network, data, DepthProtocol(epochs=1, rates=(0.01,)))
    size = network.image_size
    train, val = data.images('train', size, None, 2000), data.images('val', size, None)
    apart = (train.depth.double().mean(dim=0) - val.depth.double()).square().mean(dim=(1, 2)).sqrt().mean()
    assert result.of_place['rmse'] == pytest.approx(float(apart), rel=1e-5)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--layers', 0), '--layers is 0'),
        (('--rates', -1.0), r'--rates\[0\] is -1'),
        (('--most', 1), '--most is 1'),
        (('--val', 'test'), 'there is no folder'),
        (('--layers', 99), 'depth.layers is 99, but'),
        (('--farthest', 1.0), 'is known up to 1 m'),
    ],
)
def test_mistakes_are_one_line(tool, scenes, tmp_path, monkeypatch, capsys, words, message):
    assert run_tool(tool, monkeypatch, write_config(tmp_path), '--data', scenes, '--device', 'cpu', *words) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith('error: ') and message.replace('\\', '') in said
