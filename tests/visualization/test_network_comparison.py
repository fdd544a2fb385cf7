"""The figure of several networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from mstkit.analysis.network_comparison import Comparison, DroppedCurve, compare_networks, measure_network
from mstkit.visualization.network_comparison_figure import draw_comparison

from ..analysis.maps import WatchedNetwork


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


def compare(*networks: WatchedNetwork, dropped=()) -> Comparison:
    images = list(torch.randn(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
    names = [f'network {index} with quite a long name' for index in range(len(networks))]
    return compare_networks(
        [measure_network(net, name, 'a toy', images) for name, net in zip(names, networks, strict=True)],
        [curve._replace(network=names[0]) for curve in dropped],
    )


def panels(figure) -> list:
    """The axes with something on them, row by row, without color bars and the legend."""
    return [axes for axes in figure.axes if axes.axison and axes.get_title() != 'CKA']


def inside(figure) -> bool:
    """Whether all words are on the sheet."""
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    boxes = [text.get_window_extent() for text in figure.findobj(lambda part: hasattr(part, 'get_fontsize'))]
    return all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in boxes if b.width > 1)


@pytest.mark.parametrize(('count', 'pair_panels'), [(1, 0), (2, 1), (4, 6)])
def test_every_network_and_every_pair_has_its_panels(tmp_path, figures, count, pair_panels):
    comparison = compare(*(WatchedNetwork(depth=2 + index, seed=index) for index in range(count)))
    files = [tmp_path / 'x.png', tmp_path / 'x.pdf']
    draw_comparison(comparison, files, 'Title', ['a note'])
    assert files[1].read_bytes().startswith(b'%PDF')
    with Image.open(files[0]) as image:
        assert image.width > 700
    found = panels(figures[0])
    assert len(found) == 4 * count + pair_panels
    for row in range(3):
        of_row = found[row * count : (row + 1) * count]
        assert len({panel.get_ylim() for panel in of_row}) == 1, 'networks are compared on one scale'
        assert len({round(panel.get_position().y0, 6) for panel in of_row}) == 1
    shapes = [panel.images[0].get_array().shape for panel in found[3 * count :]]
    assert shapes[:count] == [(2 + index, 2 + index) for index in range(count)]
    if count == 2:
        assert shapes[2:] == [(3, 2)], 'x is the first network, y the second'
        matrix = comparison.cka[comparison.networks[0].name, comparison.networks[1].name]
        np.testing.assert_allclose(found[-1].images[0].get_array(), matrix.T)
    assert inside(figures[0])


def test_dots_means_and_the_line_of_even_attention(tmp_path, figures):
    comparison = compare(WatchedNetwork(depth=4, seed=0, heads=3, stages=(0, 0, 1, 1)))
    draw_comparison(comparison, [tmp_path / 'x.png'], 'Title')
    distance, entropy, divergence, _ = panels(figures[0])
    dots, means = (line.get_ydata() for line in distance.lines[:2])
    expected = np.stack([np.asarray(block.distance) for block in comparison.networks[0].blocks])
    np.testing.assert_allclose(dots, expected.flatten())
    np.testing.assert_allclose(means, expected.mean(axis=1))
    assert list(distance.lines[1].get_xdata()) == [1, 2, 3, 4]
    (even,) = entropy.patches
    assert even.get_data().values == pytest.approx([np.log(16)] * 4)
    assert not divergence.patches
    assert [line.get_xdata()[0] for line in distance.lines[2:]] == [2.5], 'where the second stage begins'
    (legend,) = (axes.get_legend() for axes in figures[0].axes if axes.get_legend())
    assert len(legend.get_texts()) == 3
    assert {'pixels of the input', 'nats'} <= {panel.get_ylabel() for panel in figures[0].axes}


def test_dropped_blocks_have_a_panel_of_their_own(tmp_path, figures):
    dropped = [
        DroppedCurve('', 'k20_top1', 'end', [(0, 60.0), (1, 50.0)]),
        DroppedCurve('', 'k20_top1', 'stage3', [(0, 60.0), (1, 58.0)]),
    ]
    draw_comparison(compare(WatchedNetwork(2, 0), WatchedNetwork(2, 1), dropped=dropped), [tmp_path / 'x.png'], 'T')
    last = panels(figures[0])[-1]
    assert last.get_ylabel() == 'k-NN top-1, % (k = 20)'
    assert [line.get_linestyle() for line in last.lines] == ['-', ':']
    assert list(last.lines[1].get_ydata()) == [60, 58]
    assert 'Dotted, for Swin' in ' '.join(text.get_text() for text in figures[0].texts)


def test_one_head_and_one_block_leave_no_gap(tmp_path, figures):
    """No divergence, no line to draw, and the figure is still there without a warning."""
    draw_comparison(compare(WatchedNetwork(1, 0, heads=1)), [tmp_path / 'x.png'], 'T')
    assert len(panels(figures[0])) == 4
