"""What hooks add up during an epoch is the same after a run was killed inside it and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mstkit.datasets.unreadable_images import replaced_in
from mstkit.engine.hooks import hook_memory
from mstkit.engine.hooks.hook_memory import RememberingHook
from mstkit.interop import read_checkpoint
from mstkit.registry import DATASETS, MODELS
from mstkit.structures import TokenOutput

from . import running, toy
from .test_resume import MID_EPOCH, interrupt


@MODELS.register_module(force=True)
class WatchedToy(toy.ToyDistiller):
    """Says something about each of its steps, and has features."""

    def forward(self, inputs: Tensor, index: Tensor, mode: str = 'tensor', **others: Any) -> dict[str, Tensor]:
        losses = super().forward(inputs, index, mode)
        self.entropy = losses['loss'].detach().sqrt()
        return {**losses, 'loss_ce': 2 * losses['loss']}

    def last_statistics(self) -> dict[str, Tensor]:
        return {'teacher_entropy': self.entropy, 'hidden_fraction': self.entropy / 3}

    def branches(self) -> dict[str, nn.Module]:
        return {'student': Features(self.body)}


class Features(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward_tokens(self, images: Tensor) -> TokenOutput:
        pooled = self.body(images)
        return TokenOutput(pooled[:, None], pooled, (1, 1))


@DATASETS.register_module(force=True)
class BrokenVectors(toy.ToyVectors):
    """Samples 2, 6 and 13 are replaced, as unreadable files are."""

    def __getitem__(self, index: int) -> dict:
        broken = dict(replaced=[f'{int(index)}.jpg']) if index in (2, 6, 13) else {}
        return {**super().__getitem__(index), 'data_samples': DataSample(metainfo=broken)}


@FUNCTIONS.register_module('collate_vectors', force=True)
def collate(samples: list[dict]) -> dict:
    return dict(
        inputs=torch.stack([sample['inputs'] for sample in samples]),
        index=torch.tensor([sample['index'] for sample in samples]),
        data_samples=[sample['data_samples'] for sample in samples],
    )


WATCHED = dict(
    model__type='WatchedToy',
    train_dataloader__dataset=dict(type='BrokenVectors'),
    train_dataloader__collate_fn=dict(type='collate_vectors'),
    custom_hooks=[
        dict(type='ProgressHook'),
        dict(type='CollapseMonitorHook', num_images=6),
        dict(type='UnreadableImageHook', max_fraction=0.5),
    ],
)


def records(work_dir: Path) -> str:
    return (work_dir / 'collapse.jsonl').read_text()


def replaced(runner) -> set[str]:
    return set(next(hook.unreadable for hook in runner.hooks if hasattr(hook, 'unreadable')))


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> dict[str, Any]:
    return dict(folder=tmp_path_factory.mktemp('whole'))


# Of epochs of four iterations of four images: in the first step, where the kept images begin, at the very end.
@pytest.mark.parametrize('stop', [1, 5, 7, 8, 11, 12])
def test_the_records_are_those_of_a_run_that_was_not_interrupted(tmp_path, whole, stop):
    changes = dict(WATCHED, default_hooks__checkpoint=MID_EPOCH)
    if 'records' not in whole:
        runner = running.train(whole['folder'], **changes)
        whole.update(records=records(whole['folder']), replaced=replaced(runner))
    assert whole['replaced'] == {'2.jpg', '6.jpg', '13.jpg'}
    assert len(whole['records'].splitlines()) == 3
    interrupt(tmp_path, stop, **changes)
    runner = running.train(tmp_path, resume=True, **changes)
    assert records(tmp_path) == whole['records'], 'to the last digit'
    assert replaced(runner) == whole['replaced'], 'also those that were met before'


def test_a_good_record_is_not_overwritten_by_an_empty_one(tmp_path):
    """Killed after the record of the epoch, with a checkpoint of its last iteration."""

    class Killed(Exception):
        pass

    class AtTheEnd(Hook):
        priority = 'LOWEST'

        def after_train_epoch(self, runner) -> None:
            if runner.epoch == 1:
                raise Killed

    changes = dict(WATCHED, default_hooks__checkpoint=MID_EPOCH)
    runner = running.build(tmp_path, **changes)
    runner.register_hook(AtTheEnd())
    with pytest.raises(Killed):
        runner.train()
    before = records(tmp_path)
    running.train(tmp_path, resume=True, **changes)
    assert records(tmp_path).startswith(before)
    last = [json.loads(line) for line in before.splitlines()][-1]
    assert last['epoch'] == 2 and last['num_images'] == 6 and last['teacher_entropy'] > 0


def test_a_checkpoint_of_an_epochs_end_holds_no_images(tmp_path):
    runner = running.train(tmp_path, **WATCHED)
    saved = read_checkpoint(tmp_path / 'epoch_3.pth')[hook_memory.KEY]
    assert set(saved) == {'UnreadableImageHook'}
    assert saved['UnreadableImageHook'] == dict(iter=12, memories=[dict.fromkeys(replaced(runner), '')])


class Counting(RememberingHook):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def memory(self, inside_epoch: bool) -> int:
        return self.count

    def recall(self, memories: list[Any], rank: int) -> None:
        self.count = memories[rank]


@pytest.mark.parametrize(
    ('iteration', 'processes', 'expected'),
    [(7, 2, 30), (8, 2, 0), (7, 3, 0)],
    ids=['the same place', 'another iteration', 'another number of processes'],
)
def test_each_process_gets_its_own(monkeypatch, iteration, processes, expected):
    hook = Counting()
    hook.count = 30
    monkeypatch.setattr(hook_memory.dist, 'all_gather_object', lambda own: [20, own])
    checkpoint: dict[str, Any] = dict(meta=dict(epoch=1, iter=7))
    hook.before_gathering_checkpoint(SimpleNamespace(epoch=1), inside_epoch=True)
    hook.before_save_checkpoint(SimpleNamespace(epoch=1), checkpoint)
    assert checkpoint['hooks'] == dict(Counting=dict(iter=7, memories=[20, 30]))
    monkeypatch.setattr(hook_memory.dist, 'get_world_size', lambda: processes)
    monkeypatch.setattr(hook_memory.dist, 'get_rank', lambda: 1)
    fresh = Counting()
    fresh.after_load_checkpoint(SimpleNamespace(), checkpoint)
    fresh.before_train(SimpleNamespace(iter=iteration))
    assert fresh.count == expected


def test_the_replaced_samples_are_seen(tmp_path):
    assert replaced_in(collate([BrokenVectors()[2], BrokenVectors()[3]])) == {'2.jpg': ''}
