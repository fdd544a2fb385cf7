"""What an evaluation learns from and what it is judged on: two sets of the same classes that share nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Subset

from mstkit.datasets import ImageFolder, ShardDataset, TextList
from mstkit.datasets.shards.writer import write_shards
from mstkit.datasets.splits import splits_among
from mstkit.engine.hooks.knn_hook import KNNHook
from mstkit.errors import UsageError
from mstkit.evaluation import EvaluatedNetwork, check_sets, open_sets
from mstkit.evaluation import image_sets as image_sets_module
from mstkit.scenes import BuiltinScenes

from .evaluated_networks import CLASSES, CountingNetwork, make_folders
from .tool_runs import load_tool, run_tool, write_config


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return make_folders(tmp_path_factory.mktemp('data'))


def test_two_folders_are_opened_as_they_are(data):
    train, val = open_sets(data / 'train', data / 'val')
    assert (len(train), len(val)) == (24, 9) and train.metainfo['classes'] == val.metainfo['classes'] == CLASSES


@pytest.mark.parametrize(
    ('names', 'splits'),
    [
        (['train', 'val'], ['train', 'val']),
        (['Train', 'TEST', 'cat'], ['Train', 'TEST']),
        (['test', 'validation'], ['test', 'validation']),
        (['training', 'testing', 'extra'], ['training', 'testing']),
        (['bus', 'car', 'train'], []),  # the vehicle
        (['cat', 'dog', 'test'], []),
        (['train'], []),
        ([], []),
        (['cat', 'dog'], []),
    ],
)
def test_names_of_splits(names, splits):
    assert splits_among(names) == splits


def test_a_folder_of_splits_is_none_of_classes(data, tmp_path):
    with pytest.raises(
        UsageError, match=f'holds train and val, which are splits .* give one of them, {data}/train, {data}/val'
    ):
        open_sets(data, data / 'val')
    with pytest.raises(UsageError, match='are splits'):
        EvaluatedNetwork(CountingNetwork(), data / 'train', data)
    with pytest.raises(UsageError, match='are splits'):
        ImageFolder.classes_of(dict(data_root=str(data), split='', labeled=True))
    with pytest.raises(UsageError, match='are splits'):
        ImageFolder(data, split='', metainfo=dict(classes=CLASSES))
    assert len(ImageFolder(data, split='', labeled=True, metainfo=dict(classes=['train', 'val']))) == 33
    together = ImageFolder(data, split='')  # for a pre-training, which may want all images there are
    assert len(together) == 33 and 'gt_label' not in together.get_data_info(0)
    shutil.copytree(data / 'train', tmp_path / 'Train')
    shutil.copytree(data / 'val', tmp_path / 'Val')
    for split, words in (
        ('train', "has a folder 'Train' and no folder 'train'"),
        ('val', "split='Train', which exists"),
    ):
        with pytest.raises(UsageError, match=words):
            ImageFolder(tmp_path, split=split)


@pytest.fixture
def links(data, tmp_path) -> Path:
    """The train images of ``data`` in other clothes."""
    (tmp_path / 'link').symlink_to(data / 'train')
    for how in ('by_class', 'soft', 'hard', 'copy', 'renamed', 'one'):
        for name in CLASSES:
            folder = tmp_path / how / name
            if how == 'by_class':
                folder.parent.mkdir(exist_ok=True)
                folder.symlink_to(data / 'train' / name)
                continue
            folder.mkdir(parents=True)
            for file in (data / ('val' if how == 'one' else 'train') / name).iterdir():
                if how == 'soft':
                    (folder / f'of {file.name}').symlink_to(file)
                elif how == 'hard':
                    os.link(file, folder / f'of {file.name}')
                else:
                    shutil.copy(file, folder / (f'of {file.name}' if how == 'renamed' else file.name))
    (tmp_path / 'one' / CLASSES[1] / 'stray.png').symlink_to(data / 'train' / CLASSES[1] / '03.png')
    return tmp_path


@pytest.mark.parametrize(
    ('val', 'words'),
    [
        ('link', 'are the same folder'),
        ('by_class', 'same class folders, by links: dark, light, red'),
        ('soft', '24 of the 24 images of val are in train too'),
        ('hard', '24 of the 24 images of val are in train too'),
        ('one', '1 of the 10 images of val are in train too'),
        ('copy', 'looks like a copy of train .* 24 of its 24 files .* 12 of 12 that were compared'),
    ],
)
def test_images_are_not_compared_with_themselves(data, links, val, words):
    for first, second in ((data / 'train', links / val), (links / val, data / 'train')):
        if val == 'one' and first != data / 'train':
            words = '1 of the 24 images'
        with pytest.raises(UsageError, match=words + '.* give --allow-overlap'):
            open_sets(first, second)
        assert [len(part) > 0 for part in open_sets(first, second, allow_overlap=True)] == [True, True]


def test_one_folder_in_the_other(data, tmp_path):
    shutil.copytree(data / 'train', tmp_path / 'all')
    shutil.copytree(data / 'val', tmp_path / 'all' / 'held_out')
    metainfo = dict(classes=(*CLASSES, 'held_out'))
    for train, val in (('all', 'all/held_out'), ('all/held_out', 'all')):
        folders = [ImageFolder(tmp_path / part, split='', metainfo=metainfo) for part in (train, val)]
        with pytest.raises(UsageError, match='held_out is part of'):
            check_sets(*folders)
    # A name that only begins in the same way is another folder.
    shutil.copytree(data / 'val', tmp_path / 'all_else')
    folders = [ImageFolder(tmp_path / part, split='', metainfo=metainfo) for part in ('all/held_out', 'all_else')]
    with pytest.raises(UsageError, match='looks like a copy'):
        check_sets(*folders)


def test_large_folders_are_compared_by_their_folders(data, links, monkeypatch):
    monkeypatch.setattr(image_sets_module, '_MAX_FILES', 5)
    monkeypatch.setattr(image_sets_module, '_paths', None)
    for val, words in (('link', 'are the same folder'), ('by_class', 'same class folders')):
        with pytest.raises(UsageError, match=words):
            open_sets(data / 'train', links / val)
    open_sets(data / 'train', links / 'soft')


def test_lists_and_shards(data, tmp_path):
    lines = [
        f'{path} {label}' for label, name in enumerate(CLASSES) for path in sorted((data / 'train' / name).iterdir())
    ]
    for name, part in (('a', lines[::2]), ('b', lines[1::2]), ('c', lines[:1] + lines[1::2])):
        (tmp_path / f'{name}.txt').write_text('\n'.join(part))
    lists = {name: TextList(tmp_path / f'{name}.txt') for name in 'abc'}
    check_sets(lists['a'], lists['b'])  # two halves of one folder
    for train, val, count in ((lists['a'], lists['c'], '1 of the 13'), (lists['a'], lists['a'], '12 of the 12')):
        with pytest.raises(UsageError, match=f'{count} images of val are in train too'):
            check_sets(train, Subset(val, range(2)))
    metainfo = dict(classes=tuple(str(label) for label in range(3)))
    folder = ImageFolder(data / 'train', split='')
    folder._metainfo.update(metainfo)
    with pytest.raises(UsageError, match='12 of the 12 images'):
        check_sets(folder, lists['b'])
    write_shards(lists['a'], tmp_path / 'shards', max_samples=5)
    write_shards(lists['b'], tmp_path / 'others', max_samples=5)
    (tmp_path / 'link').symlink_to(tmp_path / 'shards')
    shards = [ShardDataset(tmp_path / name, metainfo=metainfo) for name in ('shards', 'others', 'link')]
    check_sets(*shards[:2])
    with pytest.raises(UsageError, match='3 of the 3 shards of val are in train too'):
        check_sets(shards[0], shards[2])


def test_the_hook_of_a_training(data):
    logged: list[str] = []
    model = torch.nn.Module()
    model.backbone = torch.nn.Identity()
    runner = SimpleNamespace(logger=SimpleNamespace(warning=logged.append, info=logged.append), model=model)
    train, val = (dict(type='ImageFolder', data_root=str(data), split=split) for split in ('train', 'val'))
    scenes = dict(type='BuiltinScenes', num_images=20, image_size=16)
    whole = dict(type='ImageFolder', data_root=str(data), split='', labeled=True)
    for first, second, words in (
        (train, dict(train, data_root=f'{data}/../{data.name}'), 'train and val are the same folder'),
        (train, train, 'train_dataset and val_dataset are the same'),
        (scenes, scenes, 'train_dataset and val_dataset are the same'),
        (whole, val, 'which are splits of a data set and no classes'),
    ):
        with pytest.raises(UsageError, match=f'k-NN cannot be measured: .*{words}'):
            KNNHook(first, second, required=True).before_run(runner)
        hook = KNNHook(first, second)
        hook.before_run(runner)
        assert hook.loaders is None and 'k-NN is off: ' in logged[-1] and words in logged[-1]
        if words.endswith('folder'):
            with pytest.raises(UsageError, match=r'set KNNHook\.allow_overlap=True'):
                KNNHook(first, second, required=True).before_run(runner)
        if first is not whole:
            hook = KNNHook(first, second, allow_overlap=True)
            hook.before_run(runner)
            assert hook.loaders is not None and set(hook.loaders) == {'train', 'val'}
    hook = KNNHook(train, val, max_train=4)
    hook.before_run(runner)
    assert hook.loaders is not None and len(hook.loaders['train'].dataset) == 4


def test_scenes_of_two_splits_share_nothing():
    check_sets(*(BuiltinScenes(split, num_images=20, image_size=16) for split in ('train', 'val')))


@pytest.mark.parametrize('name', ['evaluate', 'knn'])
def test_the_tools_refuse_and_obey(data, links, tmp_path, name, monkeypatch, capsys):
    tool, source = load_tool(name), write_config(tmp_path)
    suite = ('--suite', 'knn', '--work-dir', tmp_path / 'w') if name == 'evaluate' else ('--image-size', 32)
    if name == 'knn':
        monkeypatch.setattr(tool, 'read_pretrained', lambda path: dict(meta={}, state_dict={}))
        monkeypatch.setattr(tool, 'read_config', lambda *_: dict(model=dict(backbone={})))
    for train, val, words in (
        (data, data / 'val', 'are splits of a data set and no classes'),
        (data / 'train', data, 'are splits of a data set and no classes'),
        (data / 'val', data / 'val', 'train and val are the same folder'),
        (data / 'train', links / 'soft', '24 of the 24 images of val are in train too'),
    ):
        assert run_tool(tool, monkeypatch, source, '--train', train, '--val', val, *suite) == 2
        assert words in capsys.readouterr().err
    if name == 'evaluate':
        said: list[str] = []
        monkeypatch.setattr(image_sets_module, 'print_log', lambda message, **_: said.append(message))
        both = ('--train', data / 'val', '--val', data / 'val', '--allow-overlap', '--set', 'knn.ks=1')
        assert run_tool(tool, monkeypatch, source, *both, *suite) == 0
        assert said == [f'train and val are the same folder, {data}/val: the numbers will be too good.']
        assert '100.0' in capsys.readouterr().out
