"""Checkpoints: written in one step, plain, found again, and never of another model."""

from __future__ import annotations

import functools
import json
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub

from mstkit.engine.checkpoints import checkpointing
from mstkit.engine.checkpoints.checkpointing import weights_of
from mstkit.errors import UsageError
from mstkit.interop import load_backbone
from mstkit.models import Pretrainer
from mstkit.registry import MODELS

from ..models.builders import NECK, VIT, mst
from ..models.moby import moby
from . import running


def test_a_save_that_dies_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    checkpointing.save({'state_dict': {'a': torch.ones(2)}}, path)
    before = path.read_bytes()
    monkeypatch.setattr(os, 'replace', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        checkpointing.save({'state_dict': {'a': torch.zeros(2)}}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_plain_takes_everything_apart(tmp_path):
    class Named(dict):
        pass

    value = Named(
        a=np.float64(0.5), b=[np.arange(3), (Path('x'), True)], c=OrderedDict(d=np.int64(3)), e=torch.ones(2), f=None
    )
    checkpointing.save({'state_dict': value}, tmp_path / 'c.pth')
    read = torch.load(tmp_path / 'c.pth', weights_only=True)['state_dict']
    assert running.same(read, {'a': 0.5, 'b': [[0, 1, 2], ('x', True)], 'c': {'d': 3}, 'e': torch.ones(2), 'f': None})
    assert type(read['a']) is float and type(read['c']['d']) is int
    with pytest.raises(TypeError, match='object'):
        checkpointing.plain({'a': object()})


def test_message_hub_goes_round(tmp_path):
    hub = MessageHub.get_instance('round-trip')
    for value in (1.0, 2.5):
        hub.update_scalar('train/loss', value)
    hub.update_info('best', {'k': 20, 'top1': 0.25})
    hub.update_info('not plain', object())
    checkpointing.save({'state_dict': {}, 'message_hub': checkpointing.hub_state(hub)}, tmp_path / 'c.pth')
    other = MessageHub.get_instance('round-trip-2')
    checkpointing.restore_hub(other, torch.load(tmp_path / 'c.pth', weights_only=True)['message_hub'])
    assert other.get_scalar('train/loss').data[0].tolist() == [1.0, 2.5]
    assert other.get_scalar('train/loss').mean(2) == 1.75
    assert other.get_info('best') == {'k': 20, 'top1': 0.25}
    assert other.get_info('not plain') is None


def test_another_model_is_named():
    own = {'a': torch.ones(2), 'b': torch.ones(3), 'c': torch.ones(1)}
    checkpointing.check_same_model(own, dict(own), 'x.pth')
    with pytest.raises(
        UsageError, match=r'x\.pth .*1 missing \(c\); 1 unexpected \(d\); 1 of another shape \(b \(4,\)'
    ):
        checkpointing.check_same_model(own, {'a': torch.ones(2), 'b': torch.ones(4), 'd': torch.ones(1)}, 'x.pth')


@functools.cache
def names_before_objectives(method: str) -> list[str]:
    """The state dict's names of the small models of tests/models/, as mstkit had them before objectives."""
    return json.loads(Path(__file__).with_name('names_before_objectives.json').read_text())[method]


def written_before_objectives(model: Pretrainer, method: str) -> dict[str, Any]:
    """A checkpoint of that time, with the weights of today's model where the name is the same."""
    own = model.state_dict()
    old = {name: own.get(name, torch.ones(2)).clone() for name in names_before_objectives(method)}
    return {'state_dict': old, 'meta': {'epoch': 3}}


def with_patches() -> Pretrainer:
    return mst(patch_head=dict(type='IBOTHead'), patch_neck=dict(NECK))


OLD = pytest.mark.parametrize(('method', 'build'), [('MSTAlgorithm', with_patches), ('MoBY', moby)])


@OLD
@pytest.mark.parametrize('branch', ['student', 'teacher'])
def test_a_backbone_from_before_objectives_is_loaded_completely(method, build, branch):
    model = build()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn_like(value))
    checkpoint = written_before_objectives(model, method)
    source = model.branches()[branch]
    target = MODELS.build(VIT)
    report = load_backbone(target, checkpoint, branch)
    assert set(report.loaded) == set(source.state_dict())
    assert (report.share, report.missing, report.unexpected, report.resized) == (1.0, (), (), ())
    assert running.same(target.state_dict(), source.state_dict())


@OLD
def test_a_run_from_before_objectives_cannot_be_resumed_and_says_why(method, build):
    model = build()
    own, old = model.state_dict(), weights_of(written_before_objectives(model, method))
    with pytest.raises(UsageError) as refusal:
        checkpointing.check_same_model(own, old, 'x.pth')
    said = str(refusal.value)
    assert said.startswith('x.pth was written by an older version of mstkit, in which the parameters of necks')
    assert 'load_from=x.pth instead of --resume' in said and 'start a new run' in said and '--pretrained' in said
    # That way out is open: both backbones start as they were.
    taken = [name for name in own if name.startswith(('backbone.', 'teacher.backbone.'))]
    assert set(taken) <= set(old)
    fitting = {name: value for name, value in old.items() if name in taken}
    assert f'Loaded {len(taken)} tensors' in checkpointing.load_what_fits(own, fitting, 'x.pth')
    # Of another model, it is the ordinary sentence.
    with pytest.raises(UsageError, match='checkpoint of another model'):
        checkpointing.check_same_model(own, {f'student.{name}': value for name, value in old.items()}, 'x.pth')


def test_a_starting_point_may_lack_parts():
    own = {'a': torch.ones(2), 'b': torch.ones(3)}
    line = checkpointing.load_what_fits(own, {'a': torch.ones(2), 'z': torch.ones(1)}, 'x.pth')
    assert line == 'Loaded 1 tensors from x.pth; 1 stay as initialized (b); 1 not used (z).'
    with pytest.raises(UsageError, match='does not fit'):
        checkpointing.load_what_fits(own, {'z': torch.ones(1)}, 'x.pth')
    with pytest.raises(UsageError, match='shapes differ'):
        checkpointing.load_what_fits(own, {'a': torch.ones(5)}, 'x.pth')


def test_only_the_last_ones_stay(tmp_path):
    running.train(tmp_path, train_cfg=dict(by_epoch=True, max_epochs=4))
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_3.pth', 'epoch_4.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_4.pth')
    assert not list(tmp_path.glob('.*.partial'))


def test_new_checkpoint_is_there_before_the_old_one_goes(tmp_path, monkeypatch):
    """With one checkpoint to keep, a run killed at any file operation still has one."""
    existing = []
    replace = os.replace

    def watch(source, target):
        existing.append(sorted(path.name for path in tmp_path.glob('epoch_*.pth')))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', watch)
    running.train(tmp_path, default_hooks__checkpoint=dict(type='AtomicCheckpointHook', max_keep_ckpts=1))
    # Each epoch: the checkpoint, then last_checkpoint.
    assert existing == [
        [],
        ['epoch_1.pth'],
        ['epoch_1.pth'],
        ['epoch_1.pth', 'epoch_2.pth'],
        ['epoch_2.pth'],
        ['epoch_2.pth', 'epoch_3.pth'],
    ]
    assert [path.name for path in tmp_path.glob('epoch_*.pth')] == ['epoch_3.pth']


@pytest.mark.parametrize('settings', [dict(max_keep_ckpts=0), dict(backend_args=dict(backend='s3'))])
def test_what_the_hook_cannot_do_is_refused(tmp_path, settings):
    with pytest.raises(UsageError, match='checkpoint'):
        running.build(tmp_path / 'w', default_hooks__checkpoint=dict(type='AtomicCheckpointHook', **settings))
    assert not (tmp_path / 'w').exists()
