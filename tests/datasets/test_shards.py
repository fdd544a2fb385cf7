"""Tar shards: what is written is read, each sample once per epoch, the same again, and mistakes are said."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import default_collate
from PIL import Image
from torch.utils.data import DataLoader

from mstkit.datasets import EpochSampler, ImageFolder, SampleKey, ShardDataset, ShardSampler, TextList
from mstkit.datasets.shards import reader as reader_module
from mstkit.datasets.shards.index import ShardIndex, count_samples, read_index, write_index
from mstkit.datasets.shards.locations import expand, last_name
from mstkit.datasets.shards.reader import LocalShard, StreamedShard
from mstkit.datasets.shards.writer import write_shards
from mstkit.engine.config.data_root import check_data_roots, set_data_root
from mstkit.errors import UsageError
from tests.docs.pages import tool

PIPELINE = [
    dict(type='LoadRGB'),
    dict(type='MultiCrop', global_crops=dict(size=8), local_crops=dict(count=0)),
    dict(type='PackViews'),
]
COUNT = 50


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> ImageFolder:
    root, draws = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for i in range(COUNT):
        path = root / f'c{i % 3}' / f'a.b {i:03}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draws.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(path)
    return ImageFolder(root, split='')


@pytest.fixture(scope='module')
def shards(images, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('shards') / 'train'
    write_shards(images, folder, max_samples=8)
    return folder


def streamed(folder: Path, **settings) -> ShardDataset:
    """The same shards, by URLs that can only be read through."""
    urls = [f'pipe:cat {path}' for path in sorted(folder.glob('*.tar'))]
    return ShardDataset(shards=urls, index=str(folder / 'index.json'), pipeline=PIPELINE, **settings)


def contents(dataset: ShardDataset) -> list[tuple[str, bytes, int]]:
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [(Path(info['img_path']).name, info['img_bytes'], info['gt_label']) for info in infos]


def members(folder: Path) -> list[tuple[str, bytes]]:
    """Name and content of every member, by nothing but the standard library."""
    found = []
    for path in sorted(folder.glob('*.tar')):
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member)
                assert content is not None, f'{member.name} is no file'
                found.append((member.name, content.read()))
    return found


def test_what_is_written_is_what_was_there_and_is_read(images, shards):
    there = [images.get_data_info(i) for i in range(COUNT)]
    wanted = sorted((Path(info['img_path']).read_bytes(), info['gt_label']) for info in there)
    files = members(shards)
    plain = [(image, int(label)) for (_, label), (_, image) in zip(files[::2], files[1::2], strict=True)]
    assert sorted(plain) == wanted and plain != wanted
    index = read_index(str(shards / 'index.json'))
    assert index.counts == (8, 8, 8, 8, 8, 8, 2) and index.classes == ('c0', 'c1', 'c2') and index.labeled
    local, remote = ShardDataset(shards.parent, pipeline=PIPELINE), streamed(shards)
    assert [sample[1:] for sample in contents(local)] == plain
    assert contents(local) == contents(remote)
    assert local.metainfo['classes'] == remote.metainfo['classes'] == ('c0', 'c1', 'c2')
    assert {type(shard) for shard in local.reader._shards.values()} == {LocalShard}
    assert {type(shard) for shard in remote.reader._shards.values()} == {StreamedShard}
    assert all('c0_a_b_' in name or label for name, _, label in contents(local))


def test_equal_inputs_give_equal_shards(images, shards, tmp_path):
    write_shards(images, tmp_path / 'again', max_samples=8)
    write_shards(images, tmp_path / 'other', max_samples=8, seed=1)
    write_shards(images, tmp_path / 'in_order', max_bytes=40 * 512, seed=None)
    for path in shards.iterdir():
        assert path.read_bytes() == (tmp_path / 'again' / path.name).read_bytes()
    assert members(shards) != members(tmp_path / 'other')
    assert sorted(dict(members(shards)).values()) == sorted(dict(members(tmp_path / 'other')).values())
    labels = [int(content) for name, content in members(tmp_path / 'in_order') if name.endswith('.cls')]
    assert labels == sorted(labels)
    sizes = [path.stat().st_size for path in (tmp_path / 'in_order').glob('*.tar')]
    assert len(sizes) >= 5 and max(sizes) <= 40 * 512 + tarfile.RECORDSIZE  # tar fills the last record up


def test_views_are_those_of_any_other_sampler(shards):
    local, remote = ShardDataset(shards.parent, pipeline=PIPELINE), streamed(shards)
    sampler = ShardSampler(remote, seed=3)
    sampler.set_epoch(2)
    keys = {int(key): key for key in sampler}
    other = EpochSampler(local, seed=3)
    other.set_epoch(2)
    for key in list(other)[:9]:
        one, two = local[key], remote[keys[int(key)]]
        assert all((a == b).all() for a, b in zip(one['inputs'], two['inputs'], strict=True))
        assert one['data_samples'].gt_label == two['data_samples'].gt_label


def ranks(dataset: ShardDataset, world: int, monkeypatch, epoch: int = 0, **settings) -> list[list[SampleKey]]:
    found = []
    for rank in range(world):
        monkeypatch.setattr('mstkit.datasets.sampling.get_dist_info', lambda rank=rank: (rank, world))
        sampler = ShardSampler(dataset, seed=5, **settings)
        sampler.set_loader(4, 2)
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    return found


@pytest.mark.parametrize('world', [1, 2, 3])
@pytest.mark.parametrize('settings', [dict(), dict(shuffle_buffer=5, streams=3), dict(shuffle=False)])
def test_every_sample_once_over_all_processes(shards, world, settings, monkeypatch):
    dataset = ShardDataset(shards.parent)
    epochs = [ranks(dataset, world, monkeypatch, epoch, **settings) for epoch in range(2)]
    for found in epochs:
        together = [int(key) for keys in found for key in keys]
        assert len(set(together)) == len(together) == COUNT - COUNT % world
        assert len({len(keys) for keys in found}) == 1
    assert epochs[0] == ranks(dataset, world, monkeypatch, 0, **settings)
    assert (epochs[0] == epochs[1]) is (settings == dict(shuffle=False))
    assert {key.epoch for keys in epochs[1] for key in keys} == {1}


def test_the_buffer_bounds_how_far_a_sample_moves(shards):
    dataset = ShardDataset(shards.parent)
    sampler = ShardSampler(dataset, shuffle_buffer=6)
    firsts = dataset.firsts
    row: list[Any] = []
    for shard in dict.fromkeys(dataset.shard_of(int(index)) for index in sampler.order()):
        row += range(firsts[shard], firsts[shard + 1])
    moved = [place - row.index(index) for place, index in enumerate(sampler.order().tolist())]
    assert max(map(abs, moved)) <= 6 < COUNT and np.abs(moved).mean() > 1


def test_each_worker_opens_each_of_its_shards_once(shards):
    """What the whole order is for: with a buffer below the size of a shard, nothing is read twice."""
    dataset = streamed(shards)
    sampler = ShardSampler(dataset, shuffle_buffer=6, streams=2)
    sampler.set_loader(4, 2)
    batches = [sampler.order()[i : i + 4] for i in range(0, COUNT, 4)]
    opened = []
    for worker in range(2):
        worker_set = pickle.loads(pickle.dumps(dataset))
        for batch in batches[worker::2]:
            for index in batch:
                worker_set.get_data_info(int(index))
                held = sum(len(shard._held) for shard in worker_set.reader._shards.values())
                assert held <= 6
        opened += [shard.opened for shard in worker_set.reader._shards.values()]
    assert set(opened) == {1} and len(opened) <= len(dataset.index.urls) + 1  # one lies on both sides of the cut


def test_workers_and_going_on_inside_an_epoch(shards):
    dataset = streamed(shards)
    sampler = ShardSampler(dataset, seed=2, shuffle_buffer=6)
    loader: DataLoader[Any] = DataLoader(
        dataset, 4, sampler=sampler, num_workers=2, collate_fn=default_collate, drop_last=True
    )
    sampler.set_loader(4, 2)
    whole = [[int(sample.sample_idx) for sample in batch['data_samples']] for batch in loader]
    assert len(whole) == 12 and len({index for batch in whole for index in batch}) == 48
    sampler.set_epoch(0, start=5 * 4)
    rest = [[int(sample.sample_idx) for sample in batch['data_samples']] for batch in loader]
    assert rest == whole[5:]


def test_foreign_shards_are_counted_and_indexed_once(shards, tmp_path):
    files = sorted(shards.glob('*.tar'))
    found = ShardDataset(shards=str(shards / 'shard-{000000..000002}.tar'))
    assert len(found) == 24 and found.labeled is True and 'classes' not in found.metainfo
    with pytest.raises(UsageError, match='is unknown before it is read: make an index once'):
        ShardDataset(shards=f'pipe:cat {files[0]}')
    write_index(tmp_path / 'index.json', count_samples([f'pipe:cat {path}' for path in files[:3]]))
    again = ShardDataset(shards=f'pipe:cat {files[1]}', index=str(tmp_path / 'index.json'))
    assert contents(again) == contents(found)[8:16]
    assert len(ShardDataset(shards=str(shards / '*.tar'))) == COUNT
    assert expand('s3-{0..2}.tar', 'https://host/a/') == [f'https://host/a/s3-{i}.tar' for i in range(3)]


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new('RGB', (9, 9), (value, 0, 0)).save(stream, 'png')
    return stream.getvalue()


@pytest.fixture
def broken(tmp_path) -> Path:
    """Ten samples: the fourth is no image, the sixth has none; and a shard whose end is missing."""
    with tarfile.open(tmp_path / 'a.tar', 'w') as tar:
        for i in range(10):
            if i == 5:
                add(tar, f'{i}.txt', b'a caption')
            else:
                add(tar, f'{i}.png', b'no image' if i == 3 else png(i))
    with tarfile.open(tmp_path / 'b.tar', 'w') as tar:
        for i in range(4):
            add(tar, f'{i}.png', png(i) + b' ' * 2000)
    write_index(tmp_path / 'index.json', count_samples([str(tmp_path / 'a.tar'), str(tmp_path / 'b.tar')]))
    content = (tmp_path / 'b.tar').read_bytes()
    (tmp_path / 'b.tar').write_bytes(content[: 2 * 3072 + 100])
    return tmp_path


@pytest.mark.parametrize('prefix', ['', 'pipe:cat '])
def test_unreadable_samples_are_replaced_and_said(broken, prefix, monkeypatch):
    monkeypatch.setattr(reader_module, '_PAUSE', 0.0)
    urls = [f'{prefix}{broken / name}' for name in ('a.tar', 'b.tar')]
    dataset = ShardDataset(shards=urls, index=str(broken / 'index.json'), pipeline=PIPELINE)
    assert len(dataset) == 14 and dataset.labeled is False
    found = [dataset[i]['data_samples'] for i in range(14)]
    replaced = {i: sample.replaced_reasons[0] for i, sample in enumerate(found) if 'replaced' in sample}
    assert set(replaced) == {3, 5, 12, 13}
    assert 'not in an image format' in replaced[3] and replaced[5] == 'the sample holds no image'
    assert 'after 2 samples' in replaced[13]
    assert found[3].replaced[0] == f'{urls[0]}/3.png' and found[3].img_path.startswith(urls[0])
    assert found[3].img_path == dataset[3]['data_samples'].img_path


def test_a_shard_that_is_gone_stops_the_run(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(reader_module, '_PAUSE', 0.0)
    write_index(tmp_path / 'index.json', read_index(str(shards / 'index.json')))
    index = str(tmp_path / 'index.json')
    for prefix, message in ((f'{tmp_path}/', 'cannot be opened'), ('pipe:false /', 'read in 3 attempts')):
        places = [f'{prefix}{path.name}' for path in sorted(shards.glob('*.tar'))]
        dataset = ShardDataset(shards=places, index=index, pipeline=PIPELINE)
        with pytest.raises(UsageError, match=message):
            dataset[0]


@pytest.mark.parametrize(
    'name',
    [
        'pipe:touch CANARY',
        ' pipe:touch CANARY',
        'PIPE:touch CANARY',
        'file:///etc/passwd',
        'https://host/a.tar',
        '/a.tar',
        '../a.tar',
        'a/../../a.tar',
        '~/a.tar',
        'a\\..\\..\\a.tar',
        'a\0.tar',
        '',
        '//host/a.tar',
        7,
        None,
    ],
)
@pytest.mark.parametrize('root', ['folder', 'here', 'pipe'])
def test_an_index_names_files_beside_it_and_nothing_else(shards, tmp_path, name, root, monkeypatch):
    name = name.replace('CANARY', str(tmp_path / 'canary')) if isinstance(name, str) else name
    content = json.loads((shards / 'index.json').read_text())
    content['shards'][0]['name'] = name
    (tmp_path / 'index.json').write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    settings = {
        'folder': dict(data_root=tmp_path),
        'here': dict(index='index.json'),
        'pipe': dict(data_root=f'pipe:cat {tmp_path}', split=''),
    }[root]
    with pytest.raises(UsageError, match=r'index of shards (that can be used|at) .*it names'):
        pytest.fail(str(contents(ShardDataset(**settings))))
    assert not (tmp_path / 'canary').exists()


def test_below_a_command_a_name_is_no_part_of_the_command(shards, tmp_path):
    content = json.loads((shards / 'index.json').read_text())
    (tmp_path / 'index.json').write_text(json.dumps(content))
    for path in shards.glob('*.tar'):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    by_command = ShardDataset(f'pipe:cat {tmp_path}', split='')
    assert contents(by_command) == contents(ShardDataset(shards.parent))
    for name in ('a.tar; touch CANARY', '$(touch CANARY).tar', 'a.tar`touch CANARY`', 'a.tar | touch CANARY', 'a&b'):
        content['shards'][0]['name'] = name.replace('touch CANARY', 'touch canary')
        (tmp_path / 'index.json').write_text(json.dumps(content))
        with pytest.raises(UsageError, match='below a URL, names consist of letters'):
            ShardDataset(f'pipe:cd {tmp_path} && cat .', split='')
    assert not (tmp_path / 'canary').exists()


def test_a_file_that_is_called_like_a_command_is_a_file(images, tmp_path, monkeypatch):
    """What a wildcard finds, and what is compressed, is opened as a path."""
    write_shards(images, tmp_path / 'out')
    monkeypatch.chdir(tmp_path)
    whole = (tmp_path / 'out' / 'shard-000000.tar').read_bytes()
    Path('pipe:touch canary;#.tar').write_bytes(gzip.compress(whole))
    Path('-').write_bytes(gzip.compress(whole))
    for pattern in ('*.tar', '-'):
        found = ShardDataset(shards=pattern)
        assert len(contents(found)) == COUNT
        assert {type(shard) for shard in found.reader._shards.values()} == {StreamedShard}
    with pytest.raises(UsageError, match=r'no index can be made .*Rename that file'):
        write_index('index.json', count_samples(expand('*.tar')))
    assert not Path('canary').exists()


def test_an_index_elsewhere_holds_names_and_the_config_says_where(shards, tmp_path):
    files = [str(path) for path in sorted(shards.glob('*.tar'))]
    write_index(tmp_path / 'index.json', count_samples(files))
    names = [shard['name'] for shard in json.loads((tmp_path / 'index.json').read_text())['shards']]
    assert names == [Path(path).name for path in files]
    found = ShardDataset(shards=files, index=str(tmp_path / 'index.json'))
    assert contents(found) == contents(ShardDataset(shards.parent))
    with pytest.raises(UsageError, match=r"two shards are called 'a\.tar'"):
        write_index(tmp_path / 'index.json', ShardIndex(('x/a.tar', 'y/a.tar'), (1, 1)))
    assert [last_name(url) for url in ('pipe:cat a.tar', 'pipe:cat b/a.tar', 'https://h/a.tar', 'x/a.tar')] == [
        'cat a.tar', 'a.tar', 'a.tar', 'a.tar',
    ]  # fmt: skip


def test_mistakes_are_said(shards, images, broken, tmp_path, monkeypatch):
    for settings, message in (
        (dict(data_root=tmp_path / 'no'), 'does not exist'),
        (dict(shards='/none/*.tar'), 'no file fits'),
        (dict(shards='/none/a.tar'), 'does not exist: correct the pattern'),
        (dict(shards=['a.tar', 'a.tar']), 'comes twice'),
        (dict(shards=str(broken / 'b.tar')), 'is cut off'),
        (dict(shards=str(broken / 'a.tar'), labeled=True), 'have no labels'),
        (dict(data_root=shards.parent, index='train/shard-000000.tar'), 'not an index of shards|cannot be read'),
        (dict(data_root='file:///none'), 'no index of shards at'),
        (dict(data_root=shards.parent, labeled='yes'), "labeled is 'yes'"),
    ):
        with pytest.raises(UsageError, match=message):
            pytest.fail(f'{settings}: {ShardDataset(**settings)}')
    few = ShardDataset(shards.parent, metainfo=dict(classes=('only', 'two')))
    with pytest.raises(UsageError, match=r"is '2', not a whole number from 0 to 1"):
        contents(few)
    with pytest.raises(UsageError, match='ShardSampler reads shards, and the data set is ImageFolder'):
        ShardSampler(images)
    with pytest.raises(UsageError, match='not empty: remove it'):
        write_shards(images, shards)
    monkeypatch.setitem(sys.modules, 'webdataset', None)
    with pytest.raises(UsageError, match=r"pip install 'webdataset>="):
        ShardDataset(shards.parent)


def test_a_url_as_data_root(shards, tmp_path):
    config = Config(dict(train_dataloader=dict(dataset=dict(type='ShardDataset', data_root=str(tmp_path)))))
    url = f'file://{shards.parent}'
    assert set_data_root(config, url) == ['train_dataloader.dataset']
    check_data_roots(config)
    dataset = ShardDataset(config.train_dataloader.dataset.data_root)
    assert contents(dataset)[0][1] == contents(ShardDataset(shards.parent))[0][1]
    config.train_dataloader.dataset.type = 'ImageFolder'
    with pytest.raises(UsageError, match='ImageFolder, which reads folders only'):
        set_data_root(config, 'https://host/images')


def run_tool(monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, 'argv', ['make_shards.py', *map(str, words)])
    try:
        tool('make_shards.py').main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_tool(images, tmp_path, monkeypatch, capsys):
    root = tmp_path / 'images'
    root.mkdir()
    lines = [f'{images.get_data_info(i)["img_path"]} {i % 2}' for i in range(6)]
    (root / 'bad.png').write_bytes(b'')
    (root / 'list.txt').write_text('\n'.join([*lines, f'{root / "bad.png"} 1']))
    out = tmp_path / 'out'
    assert run_tool(monkeypatch, '--images', root / 'list.txt', '--out', out, '--samples', 4, '--verify') == 0
    said = capsys.readouterr().out
    assert 'bad.png (the file is empty)' in said
    assert '6 samples of 2 classes in 2 shards' in said and '1 images could not be read and were left out' in said
    assert sorted(label for *_, label in contents(ShardDataset(out))) == [0, 0, 0, 1, 1, 1]
    assert len(TextList(root / 'list.txt')) == 7
    assert run_tool(monkeypatch, '--images', root / 'list.txt', '--out', out) == 2
    assert 'not empty: remove it' in capsys.readouterr().err
    assert run_tool(monkeypatch, '--index', out / 'shard-{000000..000001}.tar', '--out', tmp_path / 'i.json') == 0
    assert read_index(str(tmp_path / 'i.json')).counts == (4, 2)
