"""The plot of differences: what is drawn where, filled or hollow."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from PIL import Image

from mstkit.errors import UsageError
from mstkit.visualization.difference_plot import Estimate, draw_differences

PANELS = {
    'k-NN': {'block': {'one': Estimate(1.0, 0.5, 2.0, (0.8, 1.2)), 'two': Estimate(-1.0, -2.0, 0.5, certain=False)}},
    'linear': {'mst': {'two': Estimate(3.0, 2.0, 4.0)}},
}


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """The figures that are saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def note_figure(self, *words, **more):
        saved.append(self)
        save(self, *words, **more)

    monkeypatch.setattr(Figure, 'savefig', note_figure)
    return saved


def test_rows_are_shared_and_intervals_are_where_they_belong(figures, tmp_path):
    draw_differences(PANELS, tmp_path / 'x.png', 'points')
    (figure,) = figures
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ['k-NN', 'linear']
    assert [label.get_text() for label in first.get_yticklabels()] == ['block', 'mst']
    spans = [
        sorted(line.get_xdata()) for line in first.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == '-'
    ]
    assert [0.5, 2.0] in spans and [-2.0, 0.5] in spans
    dots = {line.get_xdata()[0]: line for line in first.lines if len(line.get_xdata()) == 1}
    assert dots[1.0].get_markerfacecolor() == dots[1.0].get_color() and dots[-1.0].get_markerfacecolor() == 'white'
    assert dots[1.0].get_color() != dots[-1.0].get_color(), 'groups have colors of their own'
    assert dots[1.0].get_ydata()[0] < dots[-1.0].get_ydata()[0] < 0.5, 'both in the first row, one above the other'
    (other,) = [line for line in second.lines if len(line.get_xdata()) == 1]
    assert 0.5 < other.get_ydata()[0] < 1.5 and other.get_color() == dots[-1.0].get_color()
    assert first.get_xlim() == second.get_xlim()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['one', 'two']
    with Image.open(tmp_path / 'x.png') as image:
        assert image.size[0] > 400


def test_one_method_needs_no_legend_and_an_unknown_format_is_refused(figures, tmp_path):
    draw_differences({'k-NN': {'block': {'': Estimate(0.0, -1.0, 1.0)}}}, tmp_path / 'y.png', 'points')
    assert not figures[0].legends
    with pytest.raises(UsageError, match='xyz'):
        draw_differences(PANELS, tmp_path / 'x.xyz', 'points')
