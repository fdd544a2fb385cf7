"""``~`` in paths, file names that are not UTF-8, and JSON with a mark at its beginning."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from PIL import Image

from mstkit.datasets import ImageFolder
from mstkit.datasets.coco_json import coco_classes, read_coco
from mstkit.engine.checkpoints.resumable_runner import ResumableRunner
from mstkit.engine.launch.launch import read_config
from mstkit.errors import UsageError, exit_cleanly
from mstkit.utils.home_folder import expand_homes, expand_word, expanded

ODD = os.fsdecode(b'caf\xe9.png')  # Latin-1, as on old disks


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('HOME', str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ('word', 'wanted'),
    [
        ('~/a', 'HOME/a'),
        ('~', 'HOME'),
        ('--data-root=~/a b', '--data-root=HOME/a b'),
        ('train_dataloader.dataset.data_root=~/a', 'train_dataloader.dataset.data_root=HOME/a'),
        ('timm:vit@~/a.pth', 'timm:vit@HOME/a.pth'),
        ('random:~/a.pth', 'random:HOME/a.pth'),
        ('~nobody-of-that-name/a', '~nobody-of-that-name/a'),
        ('a~/b', 'a~/b'),
        ('backup~', 'backup~'),
        ('--k', '--k'),
        ('', ''),
    ],
)
def test_words_of_a_command_line(home, word, wanted):
    assert expand_word(word) == wanted.replace('HOME', str(home))


def test_paths_of_files(home):
    assert expanded('~/a.pth') == home / 'a.pth'
    # A file may be called so, and pathlib's own expanduser raises.
    assert expanded('~nobody-of-that-name') == Path('~nobody-of-that-name')
    assert expanded(Path('a') / 'b') == Path('a/b')


def test_every_tool_sees_the_home_folder(home, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['~/tool.py', '--data-root=~/a', '~/b'])
    exit_cleanly(lambda: None)()
    assert sys.argv == ['~/tool.py', f'--data-root={home}/a', f'{home}/b']


def test_configs(home):
    (home / 'a.py').write_text(
        "data = dict(data_root='~/images', roots=['~/a', 'b~/c'], pair=('~', 1), keep='~x')\nload_from = '~/a.pth'\n"
    )
    config = read_config(home / 'a.py')
    assert config.data == dict(data_root=f'{home}/images', roots=[f'{home}/a', 'b~/c'], pair=(str(home), 1), keep='~x')
    assert config.load_from == f'{home}/a.pth'
    assert expand_homes(3) == 3 and expand_homes(None) is None and expand_homes((1, 'a')) == (1, 'a')


def test_names_that_are_not_utf8_are_logged_and_printed(tmp_path, monkeypatch):
    """As in a run: the file of the log and the screen get every line, odd bytes as escapes."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding='utf-8')
    monkeypatch.setattr(sys, 'stdout', screen)
    root = tmp_path / 'images'
    root.mkdir()
    try:
        Image.new('RGB', (9, 9)).save(root / 'a.png')
        (root / ODD).write_bytes(b'')
    except OSError:
        pytest.skip('this disk takes UTF-8 names only')
    runner = SimpleNamespace(
        _log_dir=str(tmp_path),
        _work_dir=str(tmp_path),
        timestamp='now',
        _experiment_name='odd names',
        _distributed=False,
    )
    monkeypatch.setattr(logging, 'raiseExceptions', True)
    monkeypatch.setattr(ResumableRunner, 'timestamp', 'now')
    odd = ResumableRunner.__new__(ResumableRunner)
    odd.__dict__.update({name: value for name, value in vars(runner).items() if name != 'timestamp'})
    logger = odd.build_logger(log_file=str(tmp_path / 'a.log'))
    dataset = ImageFolder(root, split='', pipeline=[dict(type='LoadRGB')])
    broken = next(i for i in range(2) if dataset.get_data_info(i)['img_path'].endswith(ODD))
    sample = dataset[broken]
    logger.warning('unreadable: %s', sample['replaced'][0])
    assert f'unreadable: {root}/caf\\udce9.png' in (tmp_path / 'a.log').read_text(encoding='utf-8')

    def main() -> None:
        print(sample['replaced'][0])
        raise UsageError(f'{ODD} cannot be read')

    errors = io.TextIOWrapper(io.BytesIO(), encoding='utf-8')
    monkeypatch.setattr(sys, 'stderr', errors)
    with pytest.raises(SystemExit, match='2'):
        exit_cleanly(main)()
    assert errors.buffer.getvalue() == b'error: caf\\udce9.png cannot be read\n'
    screen.flush()
    assert b'caf\\udce9.png\n' in screen.buffer.getvalue()


def test_json_with_a_mark(tmp_path):
    content = dict(
        images=[dict(id=1, file_name='a.png', width=9, height=9)],
        categories=[dict(id=1, name='cat')],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 5, 5], area=25, iscrowd=0)],
    )
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(content), encoding='utf-8-sig')
    assert read_coco(path) == content and coco_classes(path) == ('cat',)
    from mmdet.evaluation import CocoMetric

    from mstkit.downstream.coco_metric import CocoFolderMetric

    with pytest.raises(json.JSONDecodeError, match='BOM'):
        CocoMetric(ann_file=str(path))
    metric = CocoFolderMetric(ann_file=str(path))
    assert metric._coco_api.cats == {1: dict(id=1, name='cat')}


def test_a_config_is_changed_in_place():
    config = Config(dict(a=[dict(b='~/c')]))
    expand_homes(config._cfg_dict)
    assert config.a[0].b == os.path.expanduser('~/c')
