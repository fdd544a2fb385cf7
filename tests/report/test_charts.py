"""Numbers behind the charts, what the SVG holds, and the escaping of everything that is not markup."""

from __future__ import annotations

import html.parser
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from jinja2 import UndefinedError
from markupsafe import Markup
from matplotlib import font_manager
from PIL import ImageFont

from mstkit.report.chart_scales import choose_rows, domain, linear_ticks, log_ticks, scale, smooth, thin
from mstkit.report.charts import MARKS, STYLES, Chart, Line, describe, draw, style
from mstkit.report.markdown_blocks import blocks
from mstkit.report.number_words import duration, number, several
from mstkit.report.page_templates import code_spans, environment
from mstkit.report.panel_sheets import Embedded

from . import pieces
from .pieces import colors, dashes, figure, piece


def svg(chart):
    return ElementTree.fromstring(pieces.svg(chart, 'x'))


def path_points(element):
    words = element.get('d').replace('M', ' M').replace('L', ' L').split(' M')[1:]
    return [[tuple(map(float, pair.split())) for pair in part.split('L')] for part in words]


def test_text_is_escaped_and_markup_is_not():
    evil = '"><script>'
    shown = environment().from_string('<a href="{{ x }}" class="k">{{ x }}{{ y }}</a>').render(x=evil, y=Markup('<i>'))
    assert shown == '<a href="&#34;&gt;&lt;script&gt;" class="k">&#34;&gt;&lt;script&gt;<i></a>'
    assert (
        piece('parts.html.j2', 'bullets', ['<b>&', Markup('<i>x</i>')])
        == '<ul><li>&lt;b&gt;&amp;</li><li><i>x</i></li></ul>'
    )
    table = piece('parts.html.j2', 'table', ['<b>', '"<b>'], [['<b>', '<b>']], '<b>', stacked=False)
    assert '<b>' not in table
    assert table.count('&lt;b&gt;') == 7
    assert code_spans('<b> `<i>`') == '&lt;b&gt; <code>&lt;i&gt;</code>'


def test_every_template_escapes_and_none_switches_it_off():
    names = environment().list_templates(extensions=['j2'])
    assert 'page.html.j2' in names
    for name in names:
        loader = environment().loader
        assert loader is not None
        source, _, _ = loader.get_source(environment(), name)
        assert environment().autoescape is True
        assert not re.search(r'\|\s*safe\b|autoescape|Markup', source), name


def test_a_name_that_nobody_gave_is_an_error():
    with pytest.raises(UndefinedError, match='nobody'):
        environment().from_string('{{ nobody }}').render()


def test_numbers_in_words():
    assert [number(x) for x in (0.001, 3.3318e-06, 15000.0, 1e9, 54.4836, 0.0, -1.0)] == [
        '0.001', '3.332e-6', '15000', '1e9', '54.48', '0', '-1',
    ]  # fmt: skip
    assert (number(None), number(math.nan), number(math.inf)) == ('–', 'not a number', 'infinite')
    assert [duration(x) for x in (5, 89.6, 1500, 7200, 300000)] == ['5 s', '90 s', '25 min', '2 h', '3.5 days']
    assert (several(['a']), several(['a', 'b', 'c'])) == ('a', 'a, b and c')


def test_thinning_keeps_the_spikes():
    values = np.random.default_rng(0).normal(size=20_000)
    values[[777, 12_345]] = 50, -60
    points = [(float(x), float(y)) for x, y in enumerate(values)]
    kept = thin(points, bins=100)
    assert 200 < len(kept) <= 400
    assert kept == sorted(kept)
    assert {(777.0, 50.0), (12345.0, -60.0), points[0], points[-1]} <= set(kept)
    for part in np.array_split(np.arange(20_000), 100):  # each bin keeps its extremes
        inside = [y for x, y in kept if part[0] <= x <= part[-1]]
        assert (min(inside), max(inside)) == (values[part].min(), values[part].max())
    assert thin(points[:400], bins=100) == points[:400]
    points[5000] = (5000.0, math.nan)
    assert any(math.isnan(y) for _, y in thin(points, bins=100)), 'a gap stays a gap'


def test_the_running_mean_is_that_of_a_plain_loop():
    values = np.random.default_rng(1).normal(size=200)
    points = [(float(x), float(y)) for x, y in enumerate(values)]
    smoothed = smooth(points)
    assert smoothed is not None
    curve, count = smoothed
    assert count == 11
    for index, (x, mean) in enumerate(curve):
        reach = min(5, index, 199 - index)
        assert (x, mean) == (index, pytest.approx(values[index - reach : index + reach + 1].mean()))
    assert smooth(points[:59]) is None


def test_a_table_of_many_rows_has_the_extremes():
    first = [(float(x), math.sin(x)) for x in range(5000)]
    first[1234] = (1234.0, 9.0)
    second = [(x + 0.5, 0.0) for x in range(10)]
    rows, total = choose_rows([first, second], most=100)
    assert total == 5010
    assert 100 <= len(rows) <= 104
    assert rows == sorted(rows)
    assert {0.0, 4999.0, 1234.0, 0.5} <= set(rows)
    assert choose_rows([second]) == ([x for x, _ in second], 10)


def test_ticks_are_round_and_inside():
    assert linear_ticks(0.02, 0.97) == [0.2, 0.4, 0.6, 0.8]
    assert linear_ticks(0, 3, whole=True) == [0, 1, 2, 3]
    assert linear_ticks(-1e-3, 1e-3, about=4) == [-1e-3, -5e-4, 0, 5e-4, 1e-3]
    assert log_ticks(3e-6, 1e-3) == pytest.approx([1e-5, 1e-4, 1e-3])
    assert log_ticks(2.5, 30) == [5, 10, 20]
    for low, high in ((0.3, 0.3), (5.0, 5.0), (0.0, 0.0), (-2.0, -2.0)):
        ends = domain([low, high])
        assert ends[0] < low < ends[1] or ends[0] == low == 0 < ends[1]
        assert linear_ticks(*ends)
    to_y = scale((1.0, 100.0), (186.0, 10.0), logarithmic=True)
    assert (to_y(1), to_y(10), to_y(100)) == pytest.approx((186, 98, 10))


def test_a_curve_is_drawn_where_it_belongs_with_gaps_where_it_is_not_finite():
    points = [(0.0, 1.0), (1.0, 3.0), (2.0, math.nan), (3.0, 2.0), (4.0, 1.0)]
    tree = svg(Chart('t', [Line('a', points, 0)]))
    (line,) = [path for path in tree.iter('path') if path.get('class') == 'line']
    first, second = path_points(line)
    assert [len(first), len(second)] == [2, 2]
    assert [x for x, _ in first + second] == pytest.approx([46, 122, 274, 350])
    ys = [y for _, y in first + second]
    assert ys[1] < ys[2] < ys[0] == ys[3], 'up is more'
    assert 'a: 1 at epoch 0, 1 at epoch 4, lowest 1 at 0, highest 3 at 1, 1 values not finite.' in describe(
        Chart('t', [Line('a', points, 0)])
    )


@pytest.mark.parametrize(
    'values', [[0.0010467, 0.0010533], [1e-7, 3.3e-7], [0.2, 0.9], [12345.0, 12345.9], [-0.00123, 4e-6]]
)
def test_no_label_of_an_axis_is_cut_off(values):
    """Measured in the widest of the usual fonts, at the size of the style sheet."""
    font = ImageFont.truetype(font_manager.findfont('DejaVu Sans'), 11)
    drawing = draw(Chart('t', [Line('a', [(float(x), y) for x, y in enumerate(values)], 0)]))
    labels = [number(value) for layer in drawing.layers for value, _ in layer.ticks]
    assert labels and max(font.getlength(label) for label in labels) <= drawing.frame.left - 5
    assert drawing.frame.left < drawing.frame.right / 2 and drawing.ticks[0][1] >= drawing.frame.left


def test_smoothing_never_hides_the_raw_curve():
    points = [(float(x), float(x % 7)) for x in range(300)]
    chart = Chart('t', [Line('a', points, 0)])
    raw = [path for path in svg(chart).iter('path') if path.get('class') == 'raw']
    assert sum(len(part) for path in raw for part in path_points(path)) == 300
    assert 'Thick: running mean of 15 values; thin: as logged.' in figure(chart, 'x')
    plain = svg(Chart('t', [Line('a', points, 0)], smoothed=False))
    assert not [path for path in plain.iter('path') if path.get('class') == 'raw']


def test_a_logarithmic_image_is_there_where_it_shows_more():
    wide = Chart('t', [Line('a', [(0, 1e-6), (1, 1e-3)], 0)])
    assert [g.get('class') for g in svg(wide) if g.tag == 'g'] == ['x', 'linear', 'logarithmic']
    for values in ((1.0, 2.0), (0.0, 5.0), (-1.0, 9.0)):
        chart = Chart('t', [Line('a', list(enumerate(values)), 0)])
        assert [g.get('class') for g in svg(chart) if g.tag == 'g'] == ['x', 'linear']
    assert 'type="checkbox"' in figure(wide, 'x')


def test_each_image_has_words():
    tree = svg(Chart('loss <1>', [Line('a & b', [(0, 1.0)], 0)], levels={'ln K': 2.0}))
    names = tree.get('aria-labelledby').split()
    by_id = {node.get('id'): node.text for node in tree.iter()}
    assert by_id[names[0]] == 'loss <1>'
    assert 'a & b: 1 at epoch 0' in by_id[names[1]]
    assert 'ln K is at 2.' in by_id[names[1]]


def test_styles_differ_by_more_than_color():
    curves = [name for name in colors()[0] if name.startswith('curve')]
    assert len(set(MARKS)) == len(set(dashes())) == len(curves) == STYLES
    assert len({style(number).classes for number in range(4 * STYLES)}) == 4 * STYLES


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, two):
    bright, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize('mode', [0, 1], ids=['light', 'dark'])
def test_contrast(mode):
    """WCAG 2.2: 4.5 for text (1.4.3), 3 for what carries information in a figure (1.4.11)."""
    assert contrast('#000000', '#FFFFFF') == pytest.approx(21)
    named = colors()[mode]
    for behind in ('page', 'card'):
        for name in ('text', 'soft', 'link', 'good', 'warn', 'bad'):
            assert contrast(named[name], named[behind]) >= 4.5, (name, behind)
    for index in range(STYLES):
        assert contrast(named[f'curve{index}'], named['card']) >= 3, index


def test_markdown_of_the_tools():
    text = (
        '# Title\n\n| a | b \\| c |\n| --- | --- |\n| `x` | <i> |\n\n- one\n- two\n\nWords `code` <b>.\n\n![p](q.png)\n'
    )
    found = blocks(text)
    shown = piece('markdown.html.j2', 'markdown', found, {'q.png': Embedded('data:,q', (3, 2))})
    assert 'Title' not in shown
    assert '<th scope="col">b | c</th>' in shown
    assert '<code>x</code>' in shown
    assert '&lt;i&gt;' in shown
    assert '<ul><li>one</li><li>two</li></ul>' in shown
    assert '<p>Words <code>code</code> &lt;b&gt;.</p>' in shown
    assert '<img src="data:,q" alt="p" width="3" height="2" class="whole">' in shown
    unread = piece('markdown.html.j2', 'markdown', found, {'q.png': None})
    assert '<p class="note">q.png cannot be read.</p>' in unread


def test_the_parts_of_a_figure_belong_together():
    class Ids(html.parser.HTMLParser):
        def __init__(self):
            super().__init__()
            self.ids, self.references = [], []

        def handle_starttag(self, tag, attributes):
            for name, value in attributes:
                if name == 'id':
                    self.ids.append(value)
                elif name in ('for', 'aria-labelledby'):
                    self.references += value.split()

    seen = Ids()
    seen.feed(figure(Chart('a b', [Line('a', [(0, 1e-3), (1, 1.0)], 0)]), 'here'))
    assert len(set(seen.ids)) == len(seen.ids)
    assert set(seen.references) <= set(seen.ids)
