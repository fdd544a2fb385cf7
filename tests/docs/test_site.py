"""The site as it is built, and as a browser shows it on a desk and on a phone; it is built once for all of them."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from docs.site_builder.checks import check
from mstkit.registry import MODELS
from tests.report.browser import NAMES, PROGRAM, Browser

pytestmark = pytest.mark.slow
in_a_browser = pytest.mark.skipif(PROGRAM is None, reason=f'no browser: none of {", ".join(NAMES)} is installed')

SHOWN = (
    'index',
    'overview',
    'methods',
    'masks',
    'results',
    'configs/mae/index',
    'reference/models.maskers',
    'genindex',
)
OVERFLOW = 'document.documentElement.scrollWidth - document.documentElement.clientWidth'
DRAWER = "document.querySelector('.sidebar-drawer').getBoundingClientRect()"
KINDS = ('backbones', 'decoders', 'guides', 'heads', 'maskers', 'necks', 'objectives', 'targets', 'tokenizers')


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp('profile'))
    yield opened
    opened.close()


def page(site: Path, name: str) -> str:
    return (site / f'{name}.html').read_text(encoding='utf-8')


def test_links_lead_somewhere_and_pictures_have_a_text(site):
    assert check(site)[0] == []


def test_the_reference_has_every_component_on_the_page_of_its_kind(site):
    MODELS.import_from_location()
    found = 0
    for name, cls in MODELS.module_dict.items():
        kind = re.match(r'mstkit\.models\.(\w+)\.', cls.__module__)
        if kind and kind[1] in KINDS:
            found += 1
            assert f'id="{cls.__module__}.{cls.__name__}"' in page(site, f'reference/models.{kind[1]}'), name
    assert found > 50


def test_names_in_the_text_lead_to_the_reference(site):
    text = page(site, 'masks')
    place = 'reference/models.maskers.html#mstkit.models.maskers.attmask.AttMaskHigh'
    assert f'<a class="code-link reference internal" href="{place}">' in text
    assert 'href="configs/mst/mst_swin-t_100e.html"' in page(site, 'how_a_step_goes')


@in_a_browser
@pytest.mark.parametrize('name', SHOWN)
@pytest.mark.parametrize('width', [390, 1280])
def test_it_fits_fetches_nothing_and_complains_of_nothing(browser, site, name, width):
    browser.open(site / f'{name}.html', width)
    assert browser.run(OVERFLOW) == 0
    assert browser.complaints() == []
    assert [address for address in browser.requests() if not address.startswith(('file:', 'data:'))] == []


@in_a_browser
def test_wide_tables_scroll_within_their_frame(browser, site):
    browser.open(site / 'methods.html', 390)
    frame = "document.querySelector('.table-wrapper')"
    assert browser.run(f'{frame}.scrollWidth > {frame}.clientWidth')
    assert browser.run(f'getComputedStyle({frame}).overflowX') == 'auto'


@in_a_browser
def test_the_navigation_opens_on_a_phone_and_stands_there_on_a_desk(browser, site):
    browser.open(site / 'methods.html', 1280)
    assert browser.run(f'{DRAWER}.left') == 0
    browser.open(site / 'methods.html', 390)
    assert browser.run(f'{DRAWER}.right') <= 0
    browser.run("document.querySelector('.mobile-header label[for=__navigation]').click()")
    browser.run('new Promise(done => setTimeout(done, 600))')
    assert browser.run(f'{DRAWER}.left') == 0
    current = browser.run("document.querySelector('.sidebar-tree a.current').textContent")
    captions = browser.run("[...document.querySelectorAll('.sidebar-tree .caption')].map(c => c.textContent)")
    assert current == 'Methods'
    assert captions[:2] == ['Start', 'Pre-train']
    assert browser.run("document.querySelector('.sidebar-search').offsetWidth") > 100


@in_a_browser
def test_the_search_finds_a_component(browser, site):
    browser.open(site / 'search.html')
    browser.run("location.search = '?q=AttMaskHint'")
    time.sleep(3)
    found = "[...document.querySelectorAll('#search-results a')].map(a => a.getAttribute('href'))"
    assert any('reference/models.maskers.html' in address for address in browser.run(found))
