"""The page in a headless Chromium: it loads nothing, complains of nothing, fits a phone, and its controls work."""

from __future__ import annotations

import pytest

from mstkit.report import build_page

from .browser import NAMES, PROGRAM, Browser
from .pieces import colors
from .toy import STAMP, make_ablation, make_run, training, write_lines

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=f'no browser: none of {", ".join(NAMES)} is installed')

SHOWN = "[...document.querySelectorAll('.sheet')].filter(s => !s.hidden).map(s => s.querySelector('img').src).join()"
OVERFLOW = 'document.documentElement.scrollWidth - document.documentElement.clientWidth'
# What sticks out to the right although its ancestors do not scroll.
STICKS_OUT = """[...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scrolls, .unseen, pre') &&
  e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.tagName + '.' + e.className).join()"""


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp('profile'))
    yield opened
    opened.close()


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    """The page of a run with a long log, and that of an ablation."""
    root = tmp_path_factory.mktemp('pages')
    run = make_run(root / 'a_run_with_a_rather_long_name_that_has_no_place_to_break')
    write_lines(run / STAMP / 'vis_data' / 'scalars.json', training(range(1, 3001)))
    files = {}
    for name, folder in (('run', run), ('ablation', make_ablation(root / 'abl'))):
        files[name] = root / f'{name}.html'
        files[name].write_text(build_page([folder]), encoding='utf-8')
    return files


def color(text):
    red, green, blue = (int(part) for part in text.removeprefix('rgb(').removesuffix(')').split(',')[:3])
    return f'#{red:02X}{green:02X}{blue:02X}'


@pytest.mark.parametrize('name', ['run', 'ablation'])
@pytest.mark.parametrize('width', [360, 1280])
def test_it_loads_nothing_complains_of_nothing_and_fits(browser, pages, name, width):
    browser.open(pages[name], width)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.run(OVERFLOW) == 0
    assert browser.run(STICKS_OUT) == ''
    assert browser.complaints() == []
    own = pages[name].resolve().as_uri()
    assert [address for address in browser.requests() if address != own and not address.startswith('data:')] == []


def test_what_the_page_must_not_do_is_refused_and_seen(browser, pages, tmp_path):
    """The two tests above would see a request and an error, if there were any."""
    text = pages['run'].read_text(encoding='utf-8')
    bad = tmp_path / 'bad.html'
    more = '<img src="other.png" alt="x"><p onclick="x()">y</p></main>'
    bad.write_text(text.replace('</main>', more), encoding='utf-8')
    browser.open(bad)
    assert any('Content Security Policy' in said for said in browser.complaints())
    worse = tmp_path / 'worse.html'
    worse.write_text('<p>x<img src="other.png">', encoding='utf-8')
    browser.open(worse)
    assert any(address.endswith('other.png') for address in browser.requests())
    wide = tmp_path / 'wide.html'
    wide.write_text('<meta name=viewport content="width=device-width"><p style="width:500px">x', encoding='utf-8')
    browser.open(wide, 360)
    assert browser.run(OVERFLOW) > 0


def test_the_slider_moves_by_key_and_the_image_changes(browser, pages):
    browser.open(pages['run'])
    browser.run("document.querySelector('.slider input').focus()")
    said = "document.querySelector('.slider output').textContent"
    last = browser.run(SHOWN)
    assert browser.run(said) == 'epoch 4'
    assert last.count('data:') == 1
    browser.press('ArrowLeft')
    assert browser.run(said) == 'epoch 0'
    first = browser.run(SHOWN)
    assert first.count('data:') == 1
    assert first != last
    assert browser.run("document.querySelector('.slider input').getAttribute('aria-valuetext')") == 'epoch 0'
    browser.press('End')
    assert browser.run(SHOWN) == last


def test_one_slider_moves_all_runs_of_a_comparison(browser, pages):
    browser.open(pages['ablation'])
    shown = (
        "[...document.querySelectorAll('.sheet')].filter(s => !s.hidden)"
        '.map(s => s.dataset.run + s.dataset.epoch).join()'
    )
    assert browser.run(shown) == '04,14'
    browser.run("document.querySelector('.slider input').focus()")
    browser.press('Home')
    assert browser.run(shown) == '00,10'


def test_charts_have_data_that_can_be_seen(browser, pages):
    browser.open(pages['run'])
    drawn = browser.run(
        "[...document.querySelectorAll('figure.chart')].map(f => [f.querySelector('h3').textContent,"
        " [...f.querySelectorAll('.linear .line')].map(l => l.getTotalLength()),"
        " [...f.querySelectorAll('.linear .line')].map(l => getComputedStyle(l).stroke)])"
    )
    titles = [title for title, _, _ in drawn]
    assert titles[:2] == ['k-NN accuracy', 'Entropy and divergence']
    assert 'Loss terms' in titles
    for title, lengths, strokes in drawn:
        assert lengths, title
        assert all(length > 100 for length in lengths), title
        assert len(set(strokes)) == len(strokes), title
    loss = "[...document.querySelectorAll('figure.chart')].find(f => f.querySelector('h3').textContent == 'Loss terms')"
    assert browser.run(f"{loss}.querySelector('.raw').dataset.points") == '3000'
    assert 'Thinned: ' in browser.run(f'{loss}.textContent')
    assert browser.run(f"{loss}.querySelectorAll('tbody tr').length") < 210


def test_values_are_read_with_the_pointer_and_with_keys(browser, pages):
    browser.open(pages['run'])
    read = (
        "(() => { const f = document.querySelector('figure.chart');"
        " return [f.querySelector('.where output'), ...f.querySelectorAll('.legend output')].map(o => o.textContent);"
        ' })()'
    )
    newest = ['4', '50', '34']
    assert browser.run(read) == newest
    browser.run("document.querySelector('.plot').focus()")
    browser.press('Home')
    assert browser.run(read) == ['0', '30', '30']
    browser.press('ArrowRight')
    assert browser.run(read) == ['1', '35', '31']
    assert browser.run("getComputedStyle(document.querySelector('.cursor')).visibility") == 'visible'
    browser.run("document.querySelector('.plot').blur()")
    assert browser.run(read) == newest
    browser.run("document.querySelector('.plot').scrollIntoView({block: 'center'})")
    left, top, width, height = browser.run(
        "(() => { const b = document.querySelector('.plot svg').getBoundingClientRect();"
        ' return [b.left, b.top, b.width, b.height]; })()'
    )
    browser.move(left + width * (46 + 0.52 * 304) / 360, top + height / 2)  # a little to the right of the middle
    assert browser.run(read) == ['2', '40', '32']


def test_the_axis_becomes_logarithmic_by_key(browser, pages):
    browser.open(pages['run'])
    shown = (
        "['.linear', '.logarithmic'].map(c => "
        "getComputedStyle(document.querySelector('figure:has(.log) ' + c)).display)"
    )
    assert browser.run(shown) == ['inline', 'none']
    browser.run("document.querySelector('.log').focus()")
    browser.press(' ')
    assert browser.run("document.querySelector('.log').checked")
    assert browser.run(shown) == ['none', 'inline']


def test_light_and_dark(browser, pages):
    for mode, dark in enumerate((False, True)):
        browser.open(pages['run'], dark=dark)
        found = browser.run(
            '[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,'
            " getComputedStyle(document.querySelector('figure.chart')).backgroundColor,"
            " getComputedStyle(document.querySelector('.note, .unit')).color]"
        )
        assert [color(one) for one in found] == [colors()[mode][name] for name in ('page', 'text', 'card', 'soft')]


def test_without_its_script_everything_essential_is_there(browser, pages):
    browser.open(pages['run'], script=False)
    seen = browser.call('DOM.getDocument', depth=-1)
    assert seen
    tree = browser.call('Accessibility.getFullAXTree')['nodes']
    images = [node['name']['value'] for node in tree if node.get('role', {}).get('value') == 'image']
    assert sum('epoch 0, image' in name for name in images) == 3
    assert sum('epoch 4, image' in name for name in images) == 3
    assert not [node for node in tree if node.get('role', {}).get('value') == 'slider'], 'it would do nothing'


def test_what_has_the_focus_is_seen(browser, pages):
    browser.open(pages['run'])
    for _ in range(3):
        browser.press('Tab')
        width, kind = browser.run('(s => [s.outlineWidth, s.outlineStyle])(getComputedStyle(document.activeElement))')
        assert (width, kind) == ('3px', 'solid')
