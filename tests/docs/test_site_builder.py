"""What makes the site of the pages: links between files become links between pages, and what is wrong is found."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from docs.site_builder import config_pages, navigation
from docs.site_builder.checks import check, is_an_address
from docs.site_builder.links import page_of, rewrite
from docs.site_builder.staging import finish, stage

from .pages import ROOT


def rewritten(text: str, file: str) -> tuple[str, list[str]]:
    linked: list[str] = []
    return rewrite(text, PurePosixPath(file), ROOT, lambda other: linked.append(str(other))), linked


@pytest.mark.parametrize(
    ('file', 'link', 'page'),
    [
        ('README.md', 'docs/en/masks.md#look-at-it', 'masks.md#look-at-it'),
        ('README.md', 'docs/en/images/demo_panels.png', 'images/demo_panels.png'),
        ('docs/en/methods.md', '../../configs/mst/mst_deit-s_300e.py', 'configs/mst/mst_deit-s_300e.md'),
        ('docs/en/methods.md', '../../configs/data2vec/README.md#data2vec-20', 'configs/data2vec/index.md#data2vec-20'),
        ('configs/mae/README.md', '../simmim/README.md', '../simmim/index.md'),
        ('configs/mae/README.md', '../../docs/en/masks.md', '../../masks.md'),
        ('configs/mae/README.md', '../simmim', '../simmim/index.md'),
        ('CONTRIBUTING.md', 'tools/train.py', 'source/tools/train.py.md'),
        ('benchmarks/README.md', '../docs/en/scaling.md', 'scaling.md'),
        ('README.md', 'LICENSE', 'source/LICENSE.md'),
    ],
)
def test_a_link_between_files_becomes_one_between_pages(file, link, page):
    text, linked = rewritten(f'See [this]({link}).', file)
    assert text == f'See [this]({page}).'
    assert len(linked) == 1 and (ROOT / linked[0]).exists()


@pytest.mark.parametrize(
    'text',
    [
        '[a](https://example.org/x.md)',
        '[a](#shapes)',
        'in code: `maskers[0](step.md)` and ``a ` [b](c.md)``',
        '```python\nx[a](b.md)\n```\n',
    ],
)
def test_what_leads_elsewhere_or_is_code_stays(text):
    assert rewritten(text, 'README.md') == (text, [])


def test_a_link_to_nothing_stops_the_build():
    with pytest.raises(FileNotFoundError, match=r'README\.md links to docs/en/gone\.md'):
        rewritten('`code` and [a](docs/en/gone.md)', 'README.md')


def test_every_page_is_staged_and_stands_in_the_navigation(tmp_path):
    stage(ROOT, tmp_path)
    finish(tmp_path)
    for path in (ROOT / 'docs' / 'en').rglob('*.md'):
        assert (tmp_path / path.relative_to(ROOT / 'docs' / 'en')).is_file()
    for path in (ROOT / 'configs').rglob('*.py'):
        assert f'## configs/{path.relative_to(ROOT / "configs")}' in (
            tmp_path / page_of(PurePosixPath(path.relative_to(ROOT)))
        ).read_text(encoding='utf-8')
    index = (tmp_path / 'index.md').read_text(encoding='utf-8')
    for page in navigation.documents(tmp_path):
        assert index.count(f'\n/{page}\n') == 1, page
    assert f':caption: {navigation.LAST}' not in index, 'a page is in no group of docs/site_builder/navigation.py'


def test_a_page_that_no_group_names_is_there_all_the_same():
    found = navigation.groups({'masks', 'news'})
    assert found == {'Pre-train': ['masks'], navigation.LAST: ['news']}


def test_the_page_of_a_config_says_what_it_inherits():
    configs = config_pages.read_configs(ROOT / 'configs')
    (config,) = [one for one in configs if str(one.file) == 'mst/mst_swin-t_100e.py']
    text = config_pages.page(config, [])
    assert '```bash\nbash tools/dist_train.sh configs/mst/mst_swin-t_100e.py 16 --auto-scale-lr\n```' in text
    assert '[mst_swin-t](../_base_/models/mst_swin-t.md)' in text
    assert config.text.strip() in text


GOOD = '<h1 id="top">x</h1><a href="b.html#there">b</a><a href="#top">t</a><img src="p.png" alt="A mask in gray">'


def site(tmp_path, body: str, **more: str):
    (tmp_path / 'a.html').write_text(body, encoding='utf-8')
    (tmp_path / 'b.html').write_text('<p id="there">x</p>', encoding='utf-8')
    (tmp_path / 'p.png').write_bytes(b'')
    for name, text in more.items():
        (tmp_path / f'{name}.css').write_text(text, encoding='utf-8')
    return check(tmp_path)


def test_a_good_site_has_no_problems(tmp_path):
    assert site(tmp_path, GOOD + '<a href="https://arxiv.org/abs/2106.05656">p</a>', own='p { color: red }') == (
        [],
        ['https://arxiv.org/abs/2106.05656'],
    )


@pytest.mark.parametrize(
    ('body', 'problem'),
    [
        ('<a href="c.html">c</a>', 'a.html: c.html leads nowhere'),
        ('<a href="b.html#gone">c</a>', 'a.html: b.html#gone leads to a page that has no such place'),
        ('<a href="#gone">c</a>', 'a.html: #gone leads to a page that has no such place'),
        ('<img src="p.png">', 'a.html: the picture p.png has no text'),
        ('<img src="p.png" alt="images/p.png">', 'a.html: the picture p.png has no text'),
        ('<img src="q.png" alt="A mask">', 'a.html: q.png leads nowhere'),
        ('<script src="https://cdn.org/x.js"></script>', 'a.html: https://cdn.org/x.js would be fetched'),
        ('<a href="https://no domain/x">c</a>', 'a.html: https://no domain/x is not an address'),
    ],
)
def test_what_is_wrong_is_found(tmp_path, body, problem):
    assert site(tmp_path, GOOD + body)[0] == [problem]


def test_a_style_sheet_that_fetches_is_found(tmp_path):
    problems, _ = site(tmp_path, GOOD, own='@import "https://fonts.org/x.css";', other='a{background:url(//x.org/y)}')
    assert problems == ['other.css would fetch something', 'own.css would fetch something']


@pytest.mark.parametrize(
    'address', ['https://', 'https://localhost/x', 'ftp://a.org', 'https://a.org/{x}', 'https://a..org']
)
def test_what_is_no_address(address):
    assert not is_an_address(address)
