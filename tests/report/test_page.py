"""The page as a file: what is on it, what is not, and what the tool says."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html.parser
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mstkit.errors import UsageError
from mstkit.report import build_page
from mstkit.report.panel_sheets import choose, read_sheet
from mstkit.structures import PanelData
from mstkit.visualization import draw_panels
from tests.programs import load_program, run_program

from .toy import CONFIG, make_ablation, make_downstream, make_run

VOID = ('meta', 'link', 'img', 'input', 'br')


class Outline(html.parser.HTMLParser):
    """Checks that elements are closed in order, and collects what a page asks for."""

    def __init__(self, page):
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.attributes: set[str] = set()
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            self.attributes.add(name)
            if name in ('src', 'href', 'srcset', 'action', 'data', 'poster'):
                (self.links if value.startswith('#') else self.addresses).append(value)
            if name == 'id':
                self.ids.append(value)
            if tag == 'img' and name == 'alt':
                assert value

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ('style', 'script'):
            self.texts.append(data)

    @property
    def text(self):
        return ' '.join(self.texts)


def test_the_page_of_a_run_holds_everything(tmp_path):
    folder = make_run(tmp_path / 'run')
    result = dict(source='work/epoch_4.pth', branch='teacher', train='a/train', val='a/val', date='2026-01-02')
    (folder / 'evaluation').mkdir()
    metrics = {'linear': {'top1': 61.25}, 'knn': {'k20': 50.5, 'k10': 49.75}}
    more = {'headlines': {'knn': ['k20']}, 'failed': {'cluster': 'too few images'}}
    (folder / 'evaluation' / 'x.json').write_text(json.dumps({**result, **more, 'metrics': metrics}))
    page = Outline(build_page([folder]))
    for words in (
        '4 of 4 epochs.', 'No sign of collapse', 'drawn because the config has none', 'ImageFolder: 80 images',
        'AttentionGuidedMasker', 'linear: top1', '61.25', 'epoch_4.pth, teacher', '1 more numbers',
        'cluster failed: too few images', 'PyTorch', '2.9.0', '--seed 1234', 'mask (4 % hidden)',
        'Warnings of the log (1)', '(2 times)',
    ):  # fmt: skip
        assert words in page.text, words
    assert 'Not on this page' not in page.text
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)


def test_nothing_is_loaded_and_nothing_but_our_script_may_run(tmp_path):
    text = build_page([make_run(tmp_path / 'run')])
    page = Outline(text)
    assert page.addresses
    assert all(address.startswith('data:') for address in page.addresses)
    assert not page.attributes & {'style', 'onclick', 'onload', 'onerror', 'srcdoc'}
    assert 'url(' not in text
    assert '@import' not in text
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert 'unsafe' not in policy
    for tag in ('style', 'script'):
        (content,) = re.findall(rf'<{tag}>(.*?)</{tag}>', text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_words_of_others_stay_words(tmp_path):
    evil = '<img src=x onerror=alert(1)>'
    config = CONFIG.replace("'images'", f"'{evil}'").replace('AttentionGuidedMasker', evil)
    folder = make_run(tmp_path / 'x"><script>alert(1)', config=config)
    (folder / 'cell.json').write_text(json.dumps(dict(status='failed', error=evil, command=evil)))
    (folder / 'evaluation').mkdir()
    content = dict(source=evil, branch=evil, metrics={evil: {evil: 1.0}})
    (folder / 'evaluation' / 'x.json').write_text(json.dumps(content))
    records = [json.loads(line) for line in (folder / 'knn.jsonl').read_text().splitlines()]
    for record in records:
        record['branches'][evil] = record['branches']['student']
    (folder / 'knn.jsonl').write_text(''.join(json.dumps(record) + '\n' for record in records))
    for folders in ([folder], [folder, make_run(tmp_path / 'other')]):
        page = build_page(folders)
        assert page.count('<script>') == 1
        assert '<img src=x' not in page
        assert evil in Outline(page).text


def test_what_is_missing_is_on_the_page(tmp_path):
    folder = make_run(tmp_path / 'run', epochs=2)
    (folder / 'collapse.jsonl').unlink()
    (folder / 'knn.jsonl').write_text((folder / 'knn.jsonl').read_text()[:-9])
    page = Outline(build_page([folder]))
    assert 'Not on this page' in page.text
    assert 'There is no collapse.jsonl' in page.text
    assert '1 line of knn.jsonl could not be read' in page.text


def test_two_runs_are_compared(tmp_path):
    one = make_run(tmp_path / 'one')
    two = make_run(tmp_path / 'two', loss=2.0, config=CONFIG.replace('prob=0.1', 'prob=0.3'))
    page = Outline(build_page([one, two]))
    for words in ('2 runs', 'model.masker.prob', '0.3', 'No sign of collapse in 2 of 2 runs', 'one, after epoch 4'):
        assert words in page.text, words
    assert 'model.masker.num ' not in page.text
    assert 'Teacher’s momentum' not in page.text, 'the same plan for both'
    same = Outline(build_page([one, make_run(tmp_path / 'three')]))
    assert 'All settings are the same' in same.text


def test_an_ablation_and_a_transfer(tmp_path):
    folder = make_ablation(tmp_path / 'abl')
    Image.new('RGB', (400, 200), 'red').save(folder / 'ablation.png')
    page = Outline(build_page([folder]))
    for words in ('Ablation abl', '24.0 ± 0.0', 'a | <i>b</i>', 'out of <b>memory</b>', '1\xa0finished, 1\xa0failed'):
        assert words in page.text, words
    assert any(address.startswith('data:image/webp') for address in page.addresses)
    assert page.text.index('24.0 ± 0.0') > page.text.index('ablation.md, as the tool wrote it'), 'folded'
    (folder / 'ablation.md').write_text('# x\n\nmst better than random.\n\n![x](ablation_differences.png)\n')
    Image.new('RGB', (400, 200), 'red').save(folder / 'ablation_differences.png')
    page = Outline(build_page([folder]))
    assert 'as the tool wrote it' not in page.text, 'a verdict is not folded'
    assert page.text.index('mst better than random.') < page.text.index('1\xa0finished, 1\xa0failed')
    task = tmp_path / 'tr' / 'detection'
    for start, best in (('pre-trained', 0.4), ('random-init', 0.2)):
        run = make_downstream(task / start / 'seed0', best)
        (run / 'run.json').write_text(json.dumps(dict(status='finished', command='python x')))
    Image.new('RGB', (300, 200), 'blue').save(tmp_path / 'tr' / 'detection_predictions.png')
    page = Outline(build_page([tmp_path / 'tr']))
    for words in ('Transfer tr: detection', 'box AP, last, %', '40.0', '20.0', 'Predictions'):
        assert words in page.text, words


@pytest.mark.parametrize(
    ('mask', 'restored', 'columns'),
    [
        (True, True, ('input', 'attention', 'mask', 'restored')),
        (True, False, ('input', 'attention', 'mask')),
        (False, True, ('input', 'attention', 'restored')),
        (False, False, ('input', 'attention')),
    ],
)
def test_sheets_are_cut_into_rows_and_their_columns_told_apart(tmp_path, mask, restored, columns):
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (3, 3, 40, 40)).astype(np.float32))
    hidden = torch.zeros(3, 5, 5, dtype=torch.bool)
    hidden[:2, 1, 1:4] = True
    data = PanelData(
        images, torch.rand(3, 5, 5), hidden if mask else None, images.flip(0).contiguous() if restored else None
    )
    draw_panels(data, [0] * 3, [1] * 3, tmp_path / 'named.png')
    named = read_sheet(7, tmp_path / 'named.png', rows=2)
    with Image.open(tmp_path / 'named.png') as file:  # as sheets were before their files named the columns
        Image.fromarray(np.asarray(file)).save(tmp_path / 'a.png')
    sheet = read_sheet(7, tmp_path / 'a.png', rows=2)
    written = {'mask': 'mask (8 % hidden)', 'restored': 'reconstruction'}
    assert named is not None and named.columns == tuple(written.get(name, name) for name in columns)
    assert sheet is not None and named == dataclasses.replace(sheet, columns=named.columns)
    assert sheet is not None and sheet.columns == columns
    assert (len(sheet.rows), sheet.epoch) == (2, 7)
    assert sheet.size == (len(columns) * 148 - 4, 144)
    assert sheet.hidden == (pytest.approx(6 / 75) if mask else None)


def test_five_columns_are_cut_and_named_as_the_sheet_says(tmp_path):
    images, hidden = torch.rand(2, 3, 40, 40) * 255, torch.ones(2, 5, 5, dtype=torch.bool)
    parts = (images, torch.rand(2, 5, 5), hidden, images.flip(0), images.flip(1))
    data = PanelData(*parts, attention_of='EMAGuide', reconstruction_with='true means')
    draw_panels(data, [0] * 3, [1] * 3, tmp_path / 'a.png')
    sheet = read_sheet(1, tmp_path / 'a.png')
    titles = ('input', 'attention (ema)', 'mask (100 % hidden)', 'reconstruction (true means)', 'target')
    assert sheet is not None and (sheet.columns, len(sheet.rows)) == (titles, 2)
    for words in ('{', '7', '[7]'):  # a file that somebody else wrote
        with Image.open(tmp_path / 'a.png') as file:
            info = PngInfo()
            info.add_text('columns', words)
            file.save(tmp_path / 'b.png', pnginfo=info)
        other = read_sheet(1, tmp_path / 'b.png')
        assert other is not None and other.columns == ()


def test_another_kind_of_sheet_is_shown_whole_and_a_damaged_one_not_at_all(tmp_path):
    Image.effect_noise((300, 200), 50).save(tmp_path / 'a.png')
    sheet = read_sheet(1, tmp_path / 'a.png')
    assert sheet is not None
    assert (sheet.columns, len(sheet.rows), sheet.size) == ((), 1, (300, 200))
    (tmp_path / 'b.png').write_bytes((tmp_path / 'a.png').read_bytes()[:500])
    assert read_sheet(1, tmp_path / 'b.png') is None
    chosen = choose({epoch: tmp_path for epoch in range(100)}, most=5)
    assert list(chosen) == [0, 25, 50, 74, 99]


def test_the_tool_writes_the_page_or_one_clear_message(tmp_path):
    folder = make_run(tmp_path / 'run')
    done = run_program('tools/report.py', folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'written: {folder}/report.html (')
    assert (folder / 'report.html').read_text().startswith('<!DOCTYPE html>')
    (tmp_path / 'empty').mkdir()
    refused = run_program('tools/report.py', folder, tmp_path / 'empty', '--out', tmp_path / 'x.html')
    assert refused.returncode == 2
    assert refused.stderr.strip().splitlines() == [
        f'error: {tmp_path}/empty holds no logs of a run: give a work dir of tools/train.py, tools/ablate.py or '
        'tools/transfer.py.'
    ]
    assert not (tmp_path / 'x.html').exists()


def test_a_wrong_name_for_the_page_is_refused(tmp_path):
    write_report = load_program('tools/report.py').write_report
    folder = make_run(tmp_path / 'run')
    with pytest.raises(UsageError, match=r'its name ends in .html'):
        write_report([str(folder)], str(tmp_path / 'x.pdf'))
    (tmp_path / 'file').touch()
    with pytest.raises(UsageError, match='cannot be written'):
        write_report([str(folder)], str(tmp_path / 'file' / 'x.html'))
