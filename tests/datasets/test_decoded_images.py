"""Images that stay in memory decoded: the same views as from files, and what is kept where."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset

from mstkit.datasets import EpochSampler, ImageFolder, LoadRGB, MultiCrop, PackViews, SampleKey, TextList
from mstkit.datasets import decoded_images as decoded_module
from mstkit.datasets import memory_budget as budget_module
from mstkit.datasets.decoded_images import DecodedImages
from mstkit.datasets.file_dataset import keep_in_memory
from mstkit.datasets.image_head import Head
from mstkit.errors import UsageError
from mstkit.utils.free_memory import check_bytes, free_memory, in_words, local_processes

VIEWS = dict(
    type='MultiCrop',
    global_crops=dict(size=16, scale=(0.4, 1.0)),
    local_crops=dict(size=8, scale=(0.1, 0.5), count=2),
    blur_sigma=(0.1, 0.6),
)
PIPELINE = [dict(type='LoadRGB'), VIEWS, dict(type='PackViews')]
WHOLE = [dict(type='LoadRGB'), dict(type='CenterView', resize=18, crop=16), dict(type='PackViews')]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Twelve images of several sizes and formats in two classes; one on its side, one broken, one without a head."""
    rng = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / 'ab'[number % 2] / f'{number}.{"png" if number % 3 == 0 else "jpg"}'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + number, 24, 3), np.uint8)).save(path)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (20, 40, 3), np.uint8)).save(tmp_path / 'a' / 'turned.jpg', exif=turned)
    whole = (tmp_path / 'b' / '1.jpg').read_bytes()
    (tmp_path / 'b' / 'cut.jpg').write_bytes(whole[: -len(whole) // 8])  # its header is fine
    (tmp_path / 'b' / 'text.jpg').write_text('no image')
    return tmp_path


@pytest.fixture
def said(monkeypatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(budget_module, 'print_log', lambda message, **_: lines.append(message))
    return lines


def kept(root: Path, pipeline=PIPELINE, **settings) -> ImageFolder:
    dataset = ImageFolder(root, pipeline=pipeline, **settings)
    keep_in_memory(dataset)
    return dataset


def store(dataset: ImageFolder | TextList) -> DecodedImages:
    assert dataset.decoded is not None
    return dataset.decoded


def batches(dataset, epochs: int = 2, **settings) -> list[dict]:
    sampler = EpochSampler(dataset, seed=3)
    loader = DataLoader(dataset, batch_size=5, sampler=sampler, collate_fn=default_collate, **settings)
    found = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        found += list(loader)
    return found


def check_same_views(first: list, second: list) -> None:
    assert len(first) == len(second) == 4
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def check_equal(first: list[dict], second: list[dict]) -> None:
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        check_same_views(one['inputs'], other['inputs'])
        for a, b in zip(one['data_samples'], other['data_samples'], strict=True):
            assert a.gt_label == b.gt_label and a.metainfo == b.metainfo


@pytest.mark.parametrize(
    'loading',
    [
        dict(),
        dict(num_workers=1),
        dict(num_workers=2),
        dict(num_workers=2, persistent_workers=True),
        dict(num_workers=1, persistent_workers=True, multiprocessing_context='spawn'),
    ],
    ids=['none', 'one', 'two', 'persistent', 'spawn'],
)
def test_views_are_those_of_the_files_and_workers_share_them(folder, loading):
    dataset = kept(folder)
    check_equal(batches(dataset, **loading), batches(ImageFolder(folder, pipeline=PIPELINE, memory=False)))
    # 13 of the 15 can be read, and this process sees what its workers have decoded
    readable = sum(Image.open(path).size[0] * Image.open(path).size[1] * 3 for path in readables(folder))
    assert store(dataset).filled() == (13, readable)


def readables(folder: Path) -> list[Path]:
    return [path for path in folder.rglob('*.*') if path.stem not in ('cut', 'text')]


def test_a_file_is_decoded_once(folder, monkeypatch):
    read: list[str] = []
    original = decoded_module.read_image

    def read_image(path: str) -> np.ndarray:
        read.append(path)
        return original(path)

    monkeypatch.setattr(decoded_module, 'read_image', read_image)
    dataset = kept(folder)
    batches(dataset, epochs=3)
    assert sorted(path for path in read if 'cut' not in path) == sorted(map(str, readables(folder)))
    assert len([path for path in read if 'cut' in path]) >= 3  # tried, and replaced, in every epoch


def test_a_copy_is_given(folder):
    dataset = kept(folder, [LoadRGB()])
    first = dataset[0]['img']
    before = first.copy()
    first[:] = 0
    assert (dataset[0]['img'] == before).all() and before.any()


def test_evaluation_refuses_a_broken_file_as_from_files(folder):
    index = next(i for i, path in enumerate(paths(ImageFolder(folder))) if 'cut' in path)
    with pytest.raises(UsageError, match=r'cut\.jpg.*cannot be read') as from_memory:
        kept(folder, WHOLE, test_mode=True)[index]
    with pytest.raises(UsageError) as from_file:
        ImageFolder(folder, pipeline=WHOLE, test_mode=True, memory=False)[index]
    assert str(from_memory.value) == str(from_file.value)


def paths(dataset) -> list[str]:
    return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]


def test_data_sets_of_the_same_files_share_them(folder, said):
    first, bank = kept(folder), kept(folder, WHOLE)
    some = ImageFolder(folder, pipeline=WHOLE, max_images=5)
    keep_in_memory(ConcatDataset([some, first]))
    assert bank.decoded is first.decoded is some.decoded
    assert [line.split(':')[0] for line in said] == ['ImageFolder'] * 3
    assert '15 images stay in memory once decoded' in said[0] and '1 are not kept' in said[0]
    assert '5 images are shared' in said[2]
    list(bank)
    assert store(first).filled()[0] == 13

    path = Path(next(path for path in paths(first) if path.endswith('2.jpg')))
    Image.new('RGB', (9, 9), (200, 0, 0)).save(path)
    changed = kept(folder, [LoadRGB()])
    assert changed.decoded is not first.decoded
    assert changed[paths(changed).index(str(path))]['img'].shape == (9, 9, 3)


def test_a_subset_keeps_its_own_images_alone(folder):
    dataset = ImageFolder(folder, pipeline=WHOLE)
    subset: Subset = Subset(dataset, [0, 2, 5])
    keep_in_memory(subset)
    assert len(store(dataset).listing.names) == 3
    for number in range(3):
        subset[number]
    assert store(dataset).filled()[0] == 3
    plain = ImageFolder(folder, pipeline=WHOLE, memory=False)
    assert torch.equal(dataset[1]['inputs'], plain[1]['inputs']) and store(dataset).filled()[0] == 3


def test_rows_follow_paths_not_numbers(folder):
    dataset = kept(folder, [LoadRGB()])
    plain = ImageFolder(folder, pipeline=[LoadRGB()], memory=False)
    list(dataset)
    turned = dataset.get_subset([3, 1])
    assert (turned[0]['img'] == plain[3]['img']).all() and (turned[1]['img'] == plain[1]['img']).all()


def test_a_list_keeps_too_and_names_a_file_twice(folder):
    (folder / 'list.txt').write_text('a/0.png\nb/1.jpg\na/0.png\n')
    dataset = TextList(folder / 'list.txt', pipeline=[LoadRGB()])
    keep_in_memory(dataset)
    assert (dataset[0]['img'] == dataset[2]['img']).all() and store(dataset).filled()[0] == 1


@pytest.mark.parametrize('side', [31, 32, 33, 63, 64, 65, 80, 200])
def test_photographs_that_are_read_reduced_stay_on_file(tmp_path, side):
    rng = np.random.default_rng(side)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (side + number, side, 3), np.uint8)).save(tmp_path / f'{number}.jpg')
    pipeline = [LoadRGB(scaled=True), MultiCrop(**{k: v for k, v in VIEWS.items() if k != 'type'}), PackViews()]
    dataset, plain = kept(tmp_path, pipeline), ImageFolder(tmp_path, pipeline=pipeline, memory=False)
    for epoch in range(40):
        key = SampleKey(epoch % 3, epoch, 0)
        check_same_views(dataset[key]['inputs'], plain[key]['inputs'])
    # from 64 px on a crop of all of it has four times the sides of its view of 16 px, twice at half the size
    assert store(dataset).filled()[0] == (3 if side < 64 else 0)
    whole = kept(tmp_path, [LoadRGB()])
    list(whole)
    assert store(whole).filled()[0] == (3 if side < 64 else 0)


def test_a_scaled_set_does_not_take_whole_images_from_another(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)).save(tmp_path / '0.jpg')
    whole = kept(tmp_path, [LoadRGB()])
    scaled = kept(tmp_path, [LoadRGB(scaled=True), MultiCrop(**{k: v for k, v in VIEWS.items() if k != 'type'})])
    assert scaled.decoded is not whole.decoded
    plain = ImageFolder(tmp_path, pipeline=scaled.pipeline.transforms, memory=False)
    for one, other in zip(scaled[0]['img'], plain[0]['img'], strict=True):
        assert (one == other).all()


def test_auto_waits_for_a_training_and_sizes_do_not(folder):
    assert ImageFolder(folder, pipeline=WHOLE).decoded is None
    assert ImageFolder(folder, pipeline=WHOLE, memory=True).decoded is not None
    assert ImageFolder(folder, pipeline=WHOLE, memory='1 GB').decoded is not None
    dataset = kept(folder, WHOLE, memory=False)
    assert dataset.decoded is None


def test_what_does_not_fit(folder, said, monkeypatch):
    monkeypatch.setattr(budget_module, 'free_memory', lambda: 30_000)  # decoded they take 25 KB
    assert kept(folder).decoded is None
    assert said == [
        'ImageFolder: images are read from their files in every epoch: 15 decoded images take '
        f'{in_words(size_of(folder))}, and half of what is free is 14.6 KiB'
    ]
    assert kept(folder, memory='20 KiB').decoded is None
    assert "ImageFolder.memory='20 KiB' and what is free is 20 KiB" in said[-1]
    assert kept(folder, memory=True).decoded is not None
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    monkeypatch.setattr(decoded_module, '_stores', type(decoded_module._stores)())
    with pytest.raises(
        UsageError, match=r'15 decoded images take .* KiB, more than the 14.6 KiB that are free, for each'
    ):
        kept(folder, memory=True)


def size_of(folder: Path) -> int:
    named = [path for path in folder.rglob('*.*') if path.stem != 'text']
    return sum(Image.open(path).size[0] * Image.open(path).size[1] * 3 for path in named)


def test_what_is_promised_is_not_free(folder, tmp_path_factory, said, monkeypatch):
    other = tmp_path_factory.mktemp('other')
    Image.new('RGB', (60, 60)).save(other / '0.png')
    size = size_of(folder)
    monkeypatch.setattr(decoded_module, '_stores', type(decoded_module._stores)())
    monkeypatch.setattr(budget_module, 'free_memory', lambda: 2 * size + 100)
    first = kept(folder)
    assert first.decoded is not None and decoded_module.promised() == size
    assert kept(other, [LoadRGB()], memory='1GiB').decoded is not None
    assert kept(other, [LoadRGB()], memory='1GiB').decoded is not None  # the same again: shared
    monkeypatch.setattr(budget_module, 'free_memory', lambda: size + 100)
    Image.new('RGB', (61, 60)).save(other / '1.png')
    assert kept(other, [LoadRGB()]).decoded is None


def test_a_large_set_is_judged_by_some_of_its_headers(tmp_path, said, monkeypatch):
    names = [f'{number}.png' for number in range(budget_module.PROBED * 3)]
    (tmp_path / 'list.txt').write_text('\n'.join(names))
    Image.new('RGB', (4, 4)).save(tmp_path / '0.png')
    opened: list[str] = []

    def read_head(path: str) -> Head:
        opened.append(path)
        return Head(100, 100, 1)

    monkeypatch.setattr(decoded_module, 'read_head', read_head)
    asked: list[int] = []
    get_data_info = TextList.get_data_info
    monkeypatch.setattr(TextList, 'get_data_info', lambda self, idx: asked.append(idx) or get_data_info(self, idx))  # type: ignore[func-returns-value]
    monkeypatch.setattr(budget_module, 'free_memory', lambda: 10 * 2**20)
    dataset = TextList(tmp_path / 'list.txt', pipeline=[LoadRGB()])
    keep_in_memory(dataset)
    assert dataset.decoded is None and len(opened) == budget_module.PROBED
    assert len(set(asked)) == budget_module.PROBED  # nor are the paths of the others looked up
    assert '1536 decoded images take about 43.9 MiB, and half of what is free is 5 MiB' in said[0]


def test_other_readers_read_files(folder, said):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='mmpretrain.PackInputs')]
    assert kept(folder, pipeline).decoded is None
    assert 'LoadImageFromFile does, and not LoadRGB' in said[0]
    with pytest.raises(UsageError, match='memory is True, but images cannot be kept'):
        ImageFolder(folder, pipeline=pipeline, memory=True)


@pytest.mark.parametrize('value', [1, None, 'much', '0', '-2GiB', '2 GiB of it'])
def test_wrong_settings(folder, value):
    with pytest.raises(UsageError, match=r'ImageFolder\.memory is'):
        ImageFolder(folder, memory=value)


def test_copies_share_in_this_process_and_pickles_read_files(folder):
    dataset = kept(folder, [LoadRGB()])
    list(dataset)
    assert copy.deepcopy(dataset).decoded is dataset.decoded
    elsewhere = pickle.loads(pickle.dumps(dataset))
    assert elsewhere.decoded is None
    assert (elsewhere[0]['img'] == dataset[0]['img']).all()


def test_memory_is_given_back(folder):
    dataset = kept(folder)
    file = store(dataset)._file
    os.fstat(file)
    del dataset
    with pytest.raises(OSError, match='Bad file descriptor'):
        os.fstat(file)


def test_sizes_in_words():
    assert [check_bytes('x', text) for text in ('2GiB', '1.5 MB', '300k', '7')] == [2**31, 1572864, 307200, 7]
    assert [in_words(size) for size in (999, 2048, 2.5 * 2**20, 3 * 2**30, 2**41)] == [
        '999 bytes',
        '2 KiB',
        '2.5 MiB',
        '3 GiB',
        '2 TiB',
    ]


@pytest.mark.parametrize('version', [1, 2])
def test_free_memory_is_the_least_of_machine_and_groups(tmp_path, version):
    proc, groups = tmp_path / 'proc', tmp_path / 'groups'
    (proc / 'self').mkdir(parents=True)
    assert free_memory(str(proc), str(groups)) is None
    (proc / 'meminfo').write_text('MemTotal: 9000 kB\nMemAvailable:    8000 kB\n')
    assert free_memory(str(proc), str(groups)) == 8000 * 1024
    first = '4:cpu,memory:/job/step\n' if version == 1 else '0::/job/step\n'
    (proc / 'self' / 'cgroup').write_text(f'9:pids:/\n{first}')
    root = groups / 'memory' if version == 1 else groups
    limit, usage, word = ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file')
    if version == 2:
        limit, usage, word = 'memory.max', 'memory.current', 'inactive_file'
    for group, (most, used) in {'job/step': ('max', 10), 'job': (5000, 4000), '': (10**15, 10)}.items():
        (root / group).mkdir(parents=True, exist_ok=True)
        (root / group / limit).write_text(f'{most}\n')
        (root / group / usage).write_text(f'{used}\n')
    assert free_memory(str(proc), str(groups)) == 1000
    (root / 'job' / 'memory.stat').write_text(f'cache 7\n{word} 300\nactive_file 50\n')
    assert free_memory(str(proc), str(groups)) == 1300
    (proc / 'self' / 'cgroup').write_text(first.replace('/job/step', '/not/seen/here'))
    assert free_memory(str(proc), str(groups)) == 8000 * 1024


def test_local_processes(monkeypatch):
    for name in ('LOCAL_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_SIZE', 'SLURM_NTASKS_PER_NODE'):
        monkeypatch.delenv(name, raising=False)
    assert local_processes() == 1
    monkeypatch.setenv('SLURM_NTASKS_PER_NODE', '4')
    assert local_processes() == 4
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    assert local_processes() == 2
