"""Unreadable files: replaced in a repeatable way, counted, named once, and too many of them end the run."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import default_collate
from PIL import Image
from torch.utils.data import DataLoader

from mstkit.datasets import EpochSampler, ImageFolder, SampleKey, TextList
from mstkit.datasets.unreadable_images import UnreadableFiles
from mstkit.engine.hooks import unreadable_image_hook as hook_module
from mstkit.engine.hooks.unreadable_image_hook import UnreadableImageHook
from mstkit.errors import UsageError

PIPELINE = [
    dict(type='LoadRGB'),
    dict(type='MultiCrop', global_crops=dict(size=8), local_crops=dict(count=0)),
    dict(type='PackViews'),
]


def make(root: Path, count: int, broken: list[int]) -> Path:
    for i in range(count):
        path = root / f'c{i % 2}' / f'{i:03}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        if i in broken:
            path.write_bytes(b'' if i % 3 else b'no image')
        else:
            Image.new('RGB', (9, 9), (i, 2 * i % 256, 0)).save(path)
    return root


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, line: str) -> None:
        self.lines.append(line)

    info = warning


def train(dataset, hook: UnreadableImageHook, epochs: int = 2, workers: int = 0, cfg=None) -> list[str]:
    """What mmengine's loop does, as far as the hook sees it; returns the log."""
    sampler = EpochSampler(dataset, seed=0)
    loader = DataLoader(dataset, 10, sampler=sampler, num_workers=workers, collate_fn=default_collate)
    runner = SimpleNamespace(train_dataloader=loader, logger=Log(), cfg=cfg or Config())
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for i, batch in enumerate(loader):
            hook.before_train_iter(runner, i, batch)
            hook.after_train_iter(runner, i, batch)
        hook.after_train_epoch(runner)
    hook.after_train(runner)
    return runner.logger.lines


def test_replacement_is_said_and_repeatable(tmp_path):
    dataset = ImageFolder(make(tmp_path, 20, broken=[2, 4]), pipeline=PIPELINE)
    broken = [i for i in range(20) if dataset.get_data_info(i)['img_path'].endswith(('002.png', '004.png'))]
    for index in range(20):
        key = SampleKey(index, epoch=1, seed=2)
        sample, again = dataset[key], dataset[key]
        info = sample['data_samples']
        assert info.sample_idx == index
        assert all((a == b).all() for a, b in zip(sample['inputs'], again['inputs'], strict=True))
        if index not in broken:
            assert 'replaced' not in info
            continue
        assert info.replaced[0] == dataset.get_data_info(index)['img_path'] != info.img_path
        assert info.replaced_reasons[0] and len(info.replaced) == len(info.replaced_reasons)
        assert info.gt_label.item() == int(Path(info.img_path).parent.name == 'c1')
    index = broken[0]
    seen = {dataset[SampleKey(index, epoch)]['data_samples'].img_path for epoch in range(8)}
    assert len(seen) > 2  # not always the same stand-in


def test_missing_files_of_a_list_are_replaced(tmp_path):
    make(tmp_path, 4, broken=[])
    (tmp_path / 'list.txt').write_text('c0/000.png\nc1/001.png\ngone.png\n')
    dataset = TextList(tmp_path / 'list.txt', pipeline=PIPELINE)
    info = dataset[2]['data_samples']
    assert info.replaced == [str(tmp_path / 'gone.png')] and info.replaced_reasons == ['there is no such file']
    assert dataset[-1]['data_samples'].sample_idx == 2


@pytest.mark.parametrize('workers', [0, 1])
def test_nothing_readable_at_all(tmp_path, workers):
    dataset = ImageFolder(make(tmp_path, 4, broken=[0, 1, 2, 3]), pipeline=PIPELINE)
    with pytest.raises(UsageError, match='4 different images in a row'):
        list(DataLoader(dataset, 2, num_workers=workers, collate_fn=default_collate))


@pytest.mark.parametrize('workers', [0, 1])
def test_one_of_200_is_named_once_and_training_goes_on(tmp_path, workers):
    dataset = ImageFolder(make(tmp_path, 200, broken=[17]), pipeline=PIPELINE)
    lines = train(dataset, UnreadableImageHook(), workers=workers)
    assert len(lines) == 2
    assert '017.png' in lines[0] and 'empty' in lines[0]
    assert '1 of 200' in lines[1]


def test_two_of_200_are_one_percent_three_are_more(tmp_path):
    root = make(tmp_path, 200, broken=[17, 18])
    assert '2 of 200' in train(ImageFolder(root, pipeline=PIPELINE), UnreadableImageHook(min_files=0))[-1]
    (root / 'c0' / '000.png').write_bytes(b'')
    dataset = ImageFolder(root, pipeline=PIPELINE)
    with pytest.raises(UsageError, match='3 of the 200 images cannot be read, which is more than 1 % and more than 0'):
        train(dataset, UnreadableImageHook(min_files=0))
    assert '3 of 200' in train(dataset, UnreadableImageHook())[-1]
    assert '3 of 200' in train(dataset, UnreadableImageHook(max_fraction=0.015, min_files=0))[-1]


@pytest.mark.parametrize(('size', 'allowed'), [(1, 0), (3, 0), (4, 1), (6, 1), (20, 5), (60, 5), (500, 5), (1000, 10)])
def test_a_small_data_set_may_have_a_few(size, allowed):
    files = UnreadableFiles()
    assert files.allowed(size) == allowed
    files.add({f'{i}.png': 'empty' for i in range(allowed)})
    files.check(size)
    assert files.add({f'{i}.png': 'empty' for i in range(allowed + 1)}) == {f'{allowed}.png': 'empty'}
    with pytest.raises(UsageError, match=f'{allowed + 1} of the {size} images cannot be read') as caught:
        files.check(size, 'OPTION')
    # What the sentence advises is enough.
    (share,) = re.findall(r'OPTION=([\d.]+)\.$', str(caught.value))
    advised = float(share)
    assert UnreadableFiles(max_fraction=advised).allowed(size) >= allowed + 1


def test_one_of_60_does_not_stop_a_training_six_do(tmp_path):
    root = make(tmp_path, 60, broken=[17])
    assert '1 of 60' in train(ImageFolder(root, pipeline=PIPELINE), UnreadableImageHook())[-1]
    for i in range(5):
        (root / 'c0' / f'{2 * i:03}.png').write_bytes(b'')
    config = Config(dict(custom_hooks=[dict(type='ProgressHook'), dict(type='UnreadableImageHook')]))
    with pytest.raises(UsageError, match=r'allow more with --cfg-options custom_hooks\.1\.max_fraction=0\.101\.'):
        train(ImageFolder(root, pipeline=PIPELINE), UnreadableImageHook(), cfg=config)


def test_all_readable(tmp_path):
    dataset = ImageFolder(make(tmp_path, 6, broken=[]), pipeline=PIPELINE)
    assert train(dataset, UnreadableImageHook()) == ['images of the training set: all could be read']


def test_ranks_are_counted_together(monkeypatch, tmp_path):
    """A file that two ranks met counts once; files of several ranks add up."""
    dataset = ImageFolder(make(tmp_path, 100, broken=[]), pipeline=PIPELINE)
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=dataset), logger=Log(), cfg=Config())
    monkeypatch.setattr(hook_module.dist, 'get_world_size', lambda: 2)
    hook = UnreadableImageHook(min_files=0)
    hook._add(runner, {'a.png': 'x'})
    monkeypatch.setattr(hook_module.dist, 'all_gather_object', lambda mine: [mine, {'a.png': 'x'}])
    hook.after_train_epoch(runner)
    assert hook.unreadable == {'a.png': 'x'} and len(runner.logger.lines) == 1
    monkeypatch.setattr(hook_module.dist, 'all_gather_object', lambda mine: [mine, {'b.png': 'y'}])
    with pytest.raises(UsageError, match='2 of the 100'):
        hook.after_train_epoch(runner)


def test_other_batches_and_settings():
    hook = UnreadableImageHook()
    runner = SimpleNamespace(train_dataloader=SimpleNamespace(dataset=range(3)), logger=Log())
    for batch in (None, [1, 2], dict(inputs=[np.zeros(1)]), dict(inputs=1, data_samples=[None])):
        hook.before_train_iter(runner, 0, batch)
    assert not hook.unreadable
    with pytest.raises(UsageError, match='max_fraction is 2'):
        UnreadableImageHook(max_fraction=2)
    with pytest.raises(UsageError, match='min_files is -1'):
        UnreadableImageHook(min_files=-1)
