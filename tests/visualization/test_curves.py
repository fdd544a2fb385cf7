"""Curves over epochs."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from mstkit.errors import UsageError
from mstkit.visualization import Curve, draw_curves
from mstkit.visualization.accuracy_curves import COLORS

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'analysis' / 'plot_knn.py'


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    saved = []
    save = Figure.savefig

    def note_figure(self, *words, **more):
        saved.append(self)
        save(self, *words, **more)

    monkeypatch.setattr(Figure, 'savefig', note_figure)
    return saved


def test_lines_legend_and_random_init(tmp_path, figures):
    curves = [
        Curve('a', [(0, 10), (5, 30)], 0),
        Curve('b', [(5, 20), (10, 40)], len(COLORS)),
        Curve(None, [(0, 9), (5, 31)], 0, faint=True),
        Curve('nothing', [], 1),
    ]
    draw_curves({'student': curves, 'teacher': curves[:1]}, tmp_path / 'new' / 'x.png', untrained=9.5)
    with Image.open(tmp_path / 'new' / 'x.png') as image:
        assert image.format == 'PNG'
    assert [file.name for file in (tmp_path / 'new').iterdir()] == ['x.png']
    (figure,) = figures
    left, right = figure.axes
    assert left.get_ylim() == right.get_ylim()
    lines = {line.get_label(): line for line in left.lines}
    assert list(lines['a'].get_xdata()) == [0, 5]
    assert lines['a'].get_color() == lines['b'].get_color()
    assert lines['a'].get_linestyle() != lines['b'].get_linestyle(), 'colors that come again have another dash'
    hollow = [line for line in left.lines if line.get_markerfacecolor() == 'white']
    assert [list(line.get_xdata()) for line in hollow] == [[0]], 'the untrained network, once'
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['a', 'b', 'nothing', 'random init, mean']


def test_the_ending_chooses_the_format(tmp_path):
    draw_curves({'': [Curve('a', [(0, 1)], 0)]}, tmp_path / 'x.pdf')
    assert (tmp_path / 'x.pdf').read_bytes().startswith(b'%PDF')
    with pytest.raises(UsageError, match=r'\.png'):
        draw_curves({'': []}, tmp_path / 'x.doc')


def test_plot_knn_draws_runs(tmp_path, monkeypatch, capsys, figures):
    for run in 'ab':
        (tmp_path / run).mkdir()
        (tmp_path / run / 'knn.jsonl').write_text(
            '{"epoch": 0, "k": 5, "branches": {"student": {"k5_top1": 1.0}, "teacher": {"k5_top1": 2.0}}}\n'
        )

    def plot(*words: str) -> None:
        monkeypatch.setattr(sys, 'argv', ['plot_knn.py', *(str(tmp_path / word) for word in words)])
        runpy.run_path(str(TOOL), run_name='__main__')

    monkeypatch.chdir(tmp_path)
    plot('a', 'b')
    assert capsys.readouterr().out == 'written: knn.png\n'
    labels = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert labels == ['a, student', 'a, teacher', 'b, student', 'b, teacher']
    with pytest.raises(SystemExit, match='2'):
        plot('a', '.')
    assert 'has no knn.jsonl' in capsys.readouterr().err
