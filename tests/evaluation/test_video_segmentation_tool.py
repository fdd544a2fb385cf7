from __future__ import annotations

import csv
import json
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from mstkit.evaluation.benchmarks.davis import find_videos, overall, read_annotation, score_video

from .tool_runs import load_tool, run_tool, write_config
from .videos import ColorNetwork, label_map, write_davis


@pytest.fixture(scope='module')
def tool():
    return load_tool('video_segmentation')


@pytest.fixture(scope='module')
def davis(tmp_path_factory):
    return write_davis(tmp_path_factory.mktemp('data') / 'DAVIS', frames=6)


def test_files_and_table_agree(tool, davis, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'new' / 'out'
    arguments = (write_config(tmp_path), '--data', davis, '--out', out, '--image-size', 64)
    assert run_tool(tool, monkeypatch, *arguments) == 0
    printed = capsys.readouterr().out
    assert '4 objects in 2 sequences' in printed
    (folder,) = [path for path in out.iterdir() if path.is_dir()]
    scores = {}
    for video in find_videos(davis):
        written = [read_annotation(path) for path in sorted((folder / video.name).glob('*.png'))]
        assert len(written) == 6
        assert np.array_equal(written[0].labels, read_annotation(video.annotations[0]).labels)
        assert written[3].colors[3:9] == [200, 0, 0, 0, 200, 0]
        scores[video.name] = score_video([one.labels for one in written], video)
    numbers = json.loads((out / 'davis.json').read_text())
    ((name, sums),) = numbers['overall'].items()
    assert sums == pytest.approx(overall(scores))
    assert f'{sums["J&F"]:.2f}' in printed and name in printed
    rows = list(csv.DictReader((out / 'davis.csv').read_text().splitlines()))
    assert [(row['sequence'], row['object']) for row in rows] == [
        ('going', '1'),
        ('going', '3'),
        ('coming', '1'),
        ('coming', '3'),
    ]
    assert float(rows[3]['J_mean']) == pytest.approx(100 * scores['coming'][3].region.mean, abs=0.006)
    assert numbers['objects'][3]['F_decay'] == pytest.approx(100 * scores['coming'][3].boundary.decay)
    with Image.open(folder.with_suffix('.png')) as sheet:
        assert sheet.width > 5 * 200 and sheet.height > 2 * 100


def test_objects_are_drawn_where_they_are(tool, davis, tmp_path, monkeypatch, capsys):
    """A network that sees colors follows the squares, and the image shows their colors over them."""
    monkeypatch.setattr(tool, 'open_networks', lambda *_: [ColorNetwork()])
    spy = Mock(wraps=tool.lay_out)
    monkeypatch.setattr(tool, 'lay_out', spy)
    arguments = ('any', '--data', davis, '--out', tmp_path, '--image-size', 64, '--sequences', 'going')
    assert run_tool(tool, monkeypatch, *arguments) == 0
    assert json.loads((tmp_path / 'davis.json').read_text())['overall']['colors']['J&F'] > 70
    (columns,) = (call.args[0] for call in spy.call_args_list)
    assert len(columns) == 5
    last = list(columns.values())[-1][0].astype(int)
    labels = np.array(Image.fromarray(label_map(5)).resize((200, 100), Image.Resampling.NEAREST))
    image = last[labels == 1].mean(axis=0)
    assert image[0] > image[1] + 100 and image[0] > image[2] + 100


def test_first_annotations_only_are_followed_and_said(tool, tmp_path, monkeypatch, capsys):
    davis = write_davis(tmp_path / 'DAVIS', frames=4)
    for path in davis.glob('Annotations/480p/*/0000[1-9].png'):
        path.unlink()
    monkeypatch.setattr(tool, 'open_networks', lambda *_: [ColorNetwork()])
    assert run_tool(tool, monkeypatch, 'any', '--data', davis, '--image-size', 64) == 2
    assert 'give --out' in capsys.readouterr().err
    assert run_tool(tool, monkeypatch, 'any', '--data', davis, '--image-size', 64, '--out', tmp_path / 'out') == 0
    assert '2 of 2 sequences have an annotation of their first frame only: not scored' in capsys.readouterr().out
    assert len(list((tmp_path / 'out' / 'colors').glob('*/*.png'))) == 8


def test_mistakes_exit_with_2_and_one_sentence(tool, davis, tmp_path, monkeypatch, capsys):
    source = write_config(tmp_path)
    cases = [
        ((source, '--data', tmp_path), 'ImageSets'),
        ((source, '--data', davis, '--split', 'test'), 'the splits here are val'),
        ((source, '--data', davis, '--sequences', 'comin'), 'Did you mean coming'),
        ((source, '--data', davis, '--radius', -1), 'radius of the propagation is -1'),
        ((source, '--data', davis, '--image-size', 5), 'give 8 px or more'),
        (('nowhere.pth', '--data', davis), "there is no file 'nowhere.pth'"),
    ]
    for arguments, message in cases:
        assert run_tool(tool, monkeypatch, *arguments) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith('error: ')
        assert message in lines[0]
