"""The command that follows boxes: table, files and pictures agree; the evaluator gives the same numbers."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.box_tracking import follow_box, still_box
from mstkit.evaluation.benchmarks.tracking_files import OTB, find_tracked, read_boxes
from mstkit.evaluation.benchmarks.tracking_scores import NAMES, overall, score_boxes
from mstkit.evaluation.evaluators import TrackingEvaluator
from mstkit.networks import open_networks
from tests.programs import run_program

from .tool_runs import load_tool, run_tool, write_config
from .videos import ColorNetwork, write_got10k, write_otb

WRITERS = {'OTB': write_otb, 'GOT-10k': write_got10k}


@pytest.fixture(scope='module')
def tool():
    return load_tool('tracking')


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp('videos')
    return {layout: write(root / layout, 4) for layout, write in WRITERS.items()}


@pytest.mark.parametrize('layout', WRITERS)
def test_files_and_table_agree(tool, folders, layout, tmp_path, monkeypatch, capsys):
    config, out = write_config(tmp_path), tmp_path / 'new' / 'out'
    assert run_tool(tool, monkeypatch, config, '--data', folders[layout], '--out', out, '--size', 48) == 0
    printed = capsys.readouterr().out
    videos = find_tracked(folders[layout])
    assert f'has the layout of {layout}: {len(videos)} boxes to follow' in printed
    found = json.loads((out / 'tracking.json').read_text())
    still, network = found['results']
    assert still == 'box that does not move' and found['settings']['size'] == 48
    assert found['layout'] == layout == found['data'] and found['frames_per_second'][network] > 0
    [folder] = [path for path in out.iterdir() if path.is_dir()]
    scores = {still: [score_boxes(still_box(video), video) for video in videos], network: []}
    for video in videos:
        if layout == OTB:
            boxes = read_boxes(folder / f'{video.name}.txt') - [1, 1, 0, 0]
        else:
            boxes = read_boxes(folder / video.name / f'{video.name}_001.txt')
            seconds = (folder / video.name / f'{video.name}_time.txt').read_text().split()
            assert len(seconds) == 4 and all(float(one) > 0 for one in seconds)
        assert boxes.shape == (4, 4) and boxes[0].tolist() == video.boxes[0].tolist()
        scores[network].append(score_boxes(boxes, video))
    rows = list(csv.DictReader((out / 'tracking.csv').read_text().splitlines()))
    assert [row['sequence'] for row in rows] == 2 * [video.name for video in videos]
    for place, name in enumerate((still, network)):
        sums = found['results'][name]
        assert sums == pytest.approx(overall(scores[name]), abs=0.01)
        assert f'{name} {" ".join(f"{sums[key]:.2f}" for key in NAMES)}' in ' '.join(printed.split())
        for row, one in zip(rows[place * len(videos) :], scores[name], strict=False):
            assert row['network'] == name and float(row['ao']) == pytest.approx(one.values['ao'], abs=0.02)
    assert [one['sr50'] for one in found['videos']] == pytest.approx([float(row['sr50']) for row in rows], abs=0.006)
    with Image.open(folder.with_name(f'{folder.name}.png')) as sheet:
        assert sheet.width > 5 * 160 and sheet.height > len(videos) * 160


def test_the_evaluator_is_the_same_measurement(folders, tmp_path):
    [network] = open_networks(str(write_config(tmp_path)))
    evaluator = TrackingEvaluator(str(folders['GOT-10k']), size=48, frames=2)
    evaluated = SimpleNamespace(network=network, device=torch.device('cpu'), seed=3, batch_size=5)
    evaluator.check(evaluated)
    found = evaluator(evaluated)
    videos = find_tracked(folders['GOT-10k'])
    direct = [score_boxes(follow_box(network, one, evaluator.settings).boxes, one) for one in videos]
    still = [score_boxes(still_box(one), one) for one in videos]
    wanted = {f'tracking_{name}': value for name, value in overall(direct).items()}
    wanted |= {f'tracking_still_{name}': value for name, value in overall(still).items()}
    assert found == wanted and set(evaluator.headlines()) <= set(found)
    with pytest.raises(UsageError, match='a region of 5 px is smaller than a patch'):
        TrackingEvaluator(str(folders['GOT-10k']), size=5).check(evaluated)
    with pytest.raises(UsageError, match=r'tracking\.data is None: give the folder'):
        TrackingEvaluator()
    with pytest.raises(UsageError, match=r'tracking\.data: there is no folder'):
        TrackingEvaluator(str(tmp_path / 'none'))


def test_boxes_are_drawn_where_they_are(tool, folders, tmp_path, monkeypatch):
    """A network that sees colors follows the squares, and the picture has a red frame around them."""
    monkeypatch.setattr(tool, 'open_networks', lambda *_: [ColorNetwork()])
    spy = Mock(wraps=tool.lay_out)
    monkeypatch.setattr(tool, 'lay_out', spy)
    assert run_tool(tool, monkeypatch, 'any', '--data', folders['OTB'], '--out', tmp_path, '--sequences', 'Going') == 0
    results = json.loads((tmp_path / 'tracking.json').read_text())['results']
    assert results['colors']['ao'] > 70 > 50 > results['box that does not move']['ao']
    [columns] = [call.args[0] for call in spy.call_args_list]
    last = list(columns.values())[-1][0].astype(int)
    red = (np.abs(last - tool.COLORS['found']) < 8).all(axis=2)
    rows, across = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    # Frames of 128 px are shown with 160; the square is at 21 .. 45, 4 .. 28.
    sides = np.array([across[0], rows[0], across[-1], rows[-1]]) * 128 / 160
    assert np.abs(sides - [21, 4, 45, 28]).max() < 5


def test_first_boxes_only_are_followed_and_said(tool, tmp_path, monkeypatch, capsys):
    data = write_got10k(tmp_path / 'data', 3, 'test')
    monkeypatch.setattr(tool, 'open_networks', lambda *_: [ColorNetwork()])
    words = ('any', '--data', data, '--split', 'test')
    assert run_tool(tool, monkeypatch, *words) == 2
    assert 'has boxes of first frames only: give --out' in capsys.readouterr().err
    assert run_tool(tool, monkeypatch, *words, '--out', tmp_path / 'out') == 0
    assert '2 of 2 videos have a box of their first frame only: not scored' in capsys.readouterr().out
    assert len(list((tmp_path / 'out' / 'colors').glob('*/*_001.txt'))) == 2
    assert json.loads((tmp_path / 'out' / 'tracking.json').read_text())['results'] == {}
    with pytest.raises(UsageError, match='there is nothing to compare with'):
        TrackingEvaluator(str(data), split='test')


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--region', 0.5), '--region is 0.5'),
        (('--size', 5), 'a region of 5 px is smaller than a patch'),
        (('--neighbors', 0), '--neighbors is 0'),
        (('--split', 'train'), "has no split 'train': the folders here are val"),
        (('--sequences', 'goin'), "has no video 'goin'. Did you mean going"),
    ],
)
def test_mistakes_are_one_line(tool, folders, tmp_path, monkeypatch, capsys, words, message):
    assert run_tool(tool, monkeypatch, write_config(tmp_path), '--data', folders['GOT-10k'], *words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith('error: ') and message in said[0]


def test_make_scenes_draws_videos(tmp_path):
    done = run_program('tools/make_scenes.py', tmp_path / 'a', '--videos', '--val', 2, '--size', 32, '--frames', 3)
    assert done.returncode == 0, done
    assert [(one.name, len(one.frames)) for one in find_tracked(tmp_path / 'a')] == [
        ('val_000000', 3),
        ('val_000001', 3),
    ]
    assert not (tmp_path / 'a' / 'train').exists()
    done = run_program('tools/make_scenes.py', tmp_path / 'b', '--depth', '--frames', 3)
    assert done.returncode == 2 and '--frames is 3, but scenes have a single image' in done.stderr
    assert not (tmp_path / 'b').exists()
