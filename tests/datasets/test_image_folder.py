"""Folders and lists as data sets: their rules, and what a mistake gets."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from mmpretrain.datasets import CIFAR10, CIFAR100
from PIL import Image
from torch.utils.data import DataLoader

from mstkit.datasets import EpochSampler, ImageFolder, TextList
from mstkit.datasets import folder_scan as folder_scan_module
from mstkit.errors import UsageError


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (6, 5), (sum(name.encode()) % 256, 0, 0)).save(path, 'PNG')
    return root


def listed(dataset: ImageFolder) -> list[str]:
    return [os.path.relpath(dataset.get_data_info(i)['img_path'], dataset.folder) for i in range(len(dataset))]


def labels(dataset) -> list[int | None]:
    return [dataset.get_data_info(i).get('gt_label') for i in range(len(dataset))]


@pytest.fixture
def said(monkeypatch) -> list[str]:
    lines: list[str] = []
    for module in ('image_folder', 'folder_scan', 'text_list'):
        monkeypatch.setattr(f'mstkit.datasets.{module}.print_log', lambda message, **_: lines.append(message))
    return lines


def test_imagenet_layout(tmp_path, said):
    make(tmp_path, 'train/b/2.png', 'train/b/1.JPEG', 'train/a/x.png', 'train/a/deep/y.PNG', 'val/a/1.png')
    (tmp_path / 'train' / 'empty').mkdir()
    (tmp_path / 'train' / 'notes.txt').write_text('x')
    (tmp_path / 'train' / '.hidden.png').write_bytes(b'')
    (tmp_path / 'train' / '.cache').mkdir()
    make(tmp_path, 'train/.cache/1.png')
    dataset = ImageFolder(tmp_path, pipeline=[dict(type='LoadRGB'), dict(type='CenterView', resize=4, crop=4)])
    assert listed(dataset) == ['a/deep/y.PNG', 'a/x.png', 'b/1.JPEG', 'b/2.png']
    assert labels(dataset) == [0, 0, 1, 1]
    assert dataset.metainfo['classes'] == ('a', 'b')
    assert dataset.get_cat_ids(3) == [1]
    assert dataset[2]['img'].shape == (4, 4, 3)
    assert len(said) == 1 and '4 images in 2 classes' in said[0] and '1 files that are no images (1 .txt)' in said[0]


def test_validation_keeps_the_classes_of_training(tmp_path):
    make(tmp_path, 'train/a/1.png', 'train/b/1.png', 'train/c/1.png', 'val/a/1.png', 'val/c/1.png')
    train = ImageFolder(tmp_path)
    assert labels(ImageFolder(tmp_path, split='val')) == [0, 1]
    assert labels(ImageFolder(tmp_path, split='val', metainfo=dict(classes=train.metainfo['classes']))) == [0, 2]
    with pytest.raises(UsageError, match="sub-folder 'c'"):
        ImageFolder(tmp_path, split='val', metainfo=dict(classes=['a', 'b']))


@pytest.mark.parametrize(
    'names',
    [
        ('1.png', '2.png'),
        ('only/1.png', 'only/2.png'),
        ('1.png', 'a/1.png', 'b/1.png'),
        ('only/x/1.png', 'only/y/2.png'),
    ],
)
def test_flat_and_mixed_folders_have_no_labels(tmp_path, names):
    dataset = ImageFolder(make(tmp_path, *names))
    assert listed(dataset) == sorted(names) and set(labels(dataset)) == {None}
    assert 'classes' not in dataset.metainfo
    with pytest.raises(UsageError, match='no classes'):
        ImageFolder(tmp_path, labeled=True)
    with pytest.raises(UsageError, match='max_images'):
        ImageFolder(tmp_path, max_per_class=1)
    with pytest.raises(UsageError, match='no labels'):
        dataset.get_cat_ids(0)


def test_labels_can_be_refused(tmp_path):
    dataset = ImageFolder(make(tmp_path, 'a/1.png', 'b/1.png'), labeled=False)
    assert labels(dataset) == [None, None]


def test_subsets(tmp_path, said):
    make(tmp_path, *(f'{c}/{i:02}.png' for c in 'abc' for i in range(10)))
    assert listed(ImageFolder(tmp_path, max_per_class=2)) == ['a/00.png', 'a/01.png', 'b/00.png', 'b/01.png',
                                                             'c/00.png', 'c/01.png']  # fmt: skip
    assert '30 images in 3 classes' in said[0] and '6 of them used' in said[0]
    assert listed(ImageFolder(tmp_path, max_images=3)) == ['a/00.png', 'b/00.png', 'c/00.png']
    assert len(ImageFolder(tmp_path, max_images=100)) == 30
    for setting in ('max_per_class', 'max_images'):
        with pytest.raises(UsageError, match=f'{setting} is 0'):
            ImageFolder(tmp_path, **{setting: 0})


def test_links(tmp_path, said):
    elsewhere = make(tmp_path / 'elsewhere', '1.png')
    root = make(tmp_path / 'root', 'a/1.png', 'c/1.png')
    (root / 'b').symlink_to(elsewhere)
    (root / 'c' / 'gone.png').symlink_to(tmp_path / 'nowhere.png')
    (root / 'c' / 'linked.png').symlink_to(elsewhere / '1.png')
    (root / 'c' / 'circle').symlink_to(root)
    (root / 'c' / 'self.png').symlink_to(root / 'c' / 'self.png')
    dataset = ImageFolder(root)
    assert listed(dataset) == ['a/1.png', 'b/1.png', 'c/1.png', 'c/linked.png']
    assert '3 broken links' in said[0]


def test_progress_is_said(tmp_path, said, monkeypatch):
    monkeypatch.setattr(folder_scan_module, '_SECONDS_BETWEEN_REPORTS', -1.0)
    ImageFolder(make(tmp_path, '1.png', '2.png'))
    assert '1 images so far' in said[1]


def test_own_extensions(tmp_path):
    make(tmp_path, '1.png', '2.weird')
    assert listed(ImageFolder(tmp_path, extensions=['WEIRD'])) == ['2.weird']


def test_which_folder_a_split_is(tmp_path):
    make(tmp_path, 'a/1.png', 'b/1.png')
    assert len(ImageFolder(tmp_path)) == 2
    with pytest.raises(UsageError, match='val'):
        ImageFolder(tmp_path, split='val')
    assert len(ImageFolder(tmp_path, split='')) == 2
    make(tmp_path, 'val/a/1.png')
    with pytest.raises(UsageError, match="no folder 'train'"):
        ImageFolder(tmp_path)


def test_mistaken_folders(tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file.png').write_bytes(b'')
    (tmp_path / 'texts').mkdir()
    (tmp_path / 'texts' / 'a.txt').write_text('')
    for root, words in (
        ('', 'no data root'),
        (None, 'no data root'),
        (tmp_path / 'missing', 'does not exist'),
        (tmp_path / 'file.png', 'is a file'),
        (tmp_path / 'empty', 'holds no images'),
        (tmp_path / 'texts', r'1 files that are no images \(1 .txt\)'),
    ):
        with pytest.raises(UsageError, match=words):
            ImageFolder(root)
    with pytest.raises(UsageError, match='maybe'):
        ImageFolder(tmp_path, labeled='maybe')
    with pytest.raises(UsageError, match='extensions'):
        ImageFolder(tmp_path, extensions='.png')


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_text_list(tmp_path):
    make(tmp_path / 'data', 'a b.png', 'c.png', 'sub/d 7.png')
    lines = '\ufeff# a comment\na b.png 1\n\n  c.png\t0\nsub/d 7.png 3\n'
    dataset = TextList(write(tmp_path / 'list.txt', lines), tmp_path / 'data', [dict(type='LoadRGB')])
    assert [os.path.relpath(dataset.get_data_info(i)['img_path'], tmp_path / 'data') for i in range(3)] == [
        'a b.png',
        'c.png',
        'sub/d 7.png',
    ]
    assert labels(dataset) == [1, 0, 3] and dataset.metainfo['classes'] == ('0', '1', '2', '3')
    assert dataset[2]['img'].shape == (5, 6, 3)


def test_text_list_without_labels(tmp_path):
    make(tmp_path, 'a.png', 'b c.png', 'two words/b.png')
    lines = f'a.png\nb c.png\r\ntwo words/b.png\n{tmp_path}/a.png\nlater/missing.png'
    dataset = TextList(write(tmp_path / 'list.txt', lines))  # relative to the list
    assert labels(dataset) == [None] * 5
    assert all(os.path.exists(dataset.get_data_info(i)['img_path']) for i in range(4))


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('a.png 1\na.png\n', 'line 2 .* has no label, unlike line 1'),
        ('# x\na.png\na.png 1\n', 'line 3 .* has a label, unlike line 2'),
        ('a.png cat\n', "line 1 .* label 'cat'"),
        ('a.png -1\n', "line 1 .* label '-1'"),
        (b'a.png\n\xff\xfe.png\n', 'line 2 .* UTF-8'),
        (b'a.png\0\n', 'line 1 .* zero byte'),
        ('# only this\n', 'names no images'),
        ('gone.png\ngone2.png\n', 'none of the first 2 files'),
    ],
)
def test_bad_lists(tmp_path, text, words):
    make(tmp_path, 'a.png')
    with pytest.raises(UsageError, match=words):
        TextList(write(tmp_path / 'list.txt', text))


def test_a_line_of_a_list_is_a_path_whatever_it_looks_like(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, 'a.png')
    lines = [
        'a.png',
        'pipe:touch canary',
        '| touch canary',
        'https://host/a.png',
        '$(touch canary).png',
        's3://a/b.png',
    ]
    dataset = TextList(write(tmp_path / 'list.txt', '\n'.join(lines)), pipeline=[dict(type='LoadRGB')])
    for number in range(1, len(lines)):
        sample = dataset[number]  # there is no such file: another one stands in
        path = os.path.join(str(tmp_path), lines[number])
        assert sample['img_path'] == str(tmp_path / 'a.png') and sample['replaced'][0] == path
        assert set(sample['replaced_reasons']) == {'there is no such file'}
    assert not (tmp_path / 'canary').exists()


def test_other_list_mistakes(tmp_path):
    make(tmp_path, 'a.png')
    with pytest.raises(UsageError, match='does not exist'):
        TextList(tmp_path / 'nothing.txt')
    with pytest.raises(UsageError, match='label 5 and metainfo names 2'):
        TextList(write(tmp_path / 'list.txt', 'a.png 5\n'), metainfo=dict(classes=['x', 'y']))


def test_built_from_a_config_through_mmengines_root_registry(tmp_path):
    from mmengine.registry import DATASETS as ROOT

    make(tmp_path, '1.png')
    with DefaultScope.overwrite_default_scope('mstkit'):
        dataset = ROOT.build(dict(type='ImageFolder', data_root=str(tmp_path), pipeline=[dict(type='LoadRGB')]))
    assert isinstance(dataset, ImageFolder) and dataset[0]['img'].shape == (5, 6, 3)


@pytest.mark.parametrize(('parent', 'labels_key'), [(CIFAR10, 'labels'), (CIFAR100, 'fine_labels')])
def test_mmpretrains_cifar(tmp_path, parent, labels_key):
    small = type('Small', (parent,), dict(train_list=[['batch', None]], test_list=[]))
    data = np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)
    folder = tmp_path / parent.base_folder
    folder.mkdir()
    (folder / 'batch').write_bytes(pickle.dumps({'data': data, labels_key: [0, 1, 2, 3, 4, 5]}))
    pipeline = [
        dict(type='LoadRGB'),
        dict(type='MultiCrop', global_crops=dict(size=32), local_crops=dict(size=16, count=2)),
        dict(type='PackViews'),
    ]
    with DefaultScope.overwrite_default_scope('mstkit'):
        dataset = small(data_root=str(tmp_path), download=False, pipeline=pipeline)
    loader = DataLoader(dataset, 3, sampler=EpochSampler(dataset, seed=1), collate_fn=default_collate)
    first, again = next(iter(loader)), next(iter(loader))
    assert [tuple(view.shape) for view in first['inputs']] == [(3, 3, 32, 32)] * 2 + [(3, 3, 16, 16)] * 2
    assert all((a == b).all() for a, b in zip(first['inputs'], again['inputs'], strict=True))
    assert [s.gt_label.item() for s in first['data_samples']] == [int(s.sample_idx) for s in first['data_samples']]


def test_long_lists_are_packed_and_read_the_same(tmp_path, monkeypatch):
    make(tmp_path, *(f'train/{name}/{i}.png' for name in 'ab' for i in range(4)))
    short = ImageFolder(tmp_path)
    monkeypatch.setattr('mstkit.datasets.file_dataset._PACKED_FROM', 8)
    long = ImageFolder(tmp_path)
    assert len(short.data_list) == 8 and not long.data_list and len(long) == len(short) == 8
    assert [long.get_data_info(i) for i in range(8)] == [short.get_data_info(i) for i in range(8)]
    assert len(ImageFolder(tmp_path, serialize_data=False).data_list) == 8
