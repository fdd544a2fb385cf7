"""Parameters with the same settings share a group, nothing else changes, and older runs go on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from mstkit.engine.optim import merged_groups, optim_constructor
from tests.models.builders import mst
from tests.models.mim_models import build

from . import running
from .test_resume import MID_EPOCH, interrupt

WRAPPER = dict(
    type='DistillationOptimWrapper',
    constructor='TrainableOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.04),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
MUON = dict(WRAPPER, optimizer=dict(type='MuonAdamW', lr=1e-3, weight_decay=0.04))


def optimizer_of(model, wrapper=WRAPPER) -> torch.optim.Optimizer:
    return build_optim_wrapper(model, wrapper).optimizer


def one_each(monkeypatch) -> None:
    """As it was: a group for each parameter."""
    monkeypatch.setattr(optim_constructor, 'merged', list)


def settings_of(optimizer, model) -> dict[str, dict]:
    names = {id(p): n for n, p in model.named_parameters()}
    return {
        names[id(p)]: {name: value for name, value in group.items() if name != 'params'}
        for group in optimizer.param_groups
        for p in group['params']
    }


@pytest.mark.parametrize('wrapper', [WRAPPER, MUON], ids=['AdamW', 'Muon'])
def test_each_parameter_has_the_settings_that_it_had(monkeypatch, wrapper):
    model = build('MAE')
    optimizer = optimizer_of(model, wrapper)
    few = len(optimizer.param_groups)
    found = settings_of(optimizer, model)
    one_each(monkeypatch)
    separate = optimizer_of(model, wrapper)
    assert len(separate.param_groups) == len(found) > 20
    assert settings_of(separate, model) == found
    distinct = {repr(sorted(one.items(), key=str)) for one in found.values()}
    assert few == len(distinct) <= 4, 'and no more groups than there are settings'


def test_parameters_of_a_group_stand_in_the_models_order():
    model = mst()
    places = {id(p): number for number, p in enumerate(model.parameters())}
    for group in optimizer_of(model).param_groups:
        numbers = [places[id(p)] for p in group['params']]
        assert numbers == sorted(numbers)


def test_other_settings_are_other_groups():
    one, two, three = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    groups: list[dict[str, Any]] = [dict(params=[one], lr=0.1), dict(params=[two]), dict(params=[three], lr=0.1)]
    first, second = merged_groups.merged(groups)
    assert [id(p) for p in first['params']] == [id(one), id(three)] and first['lr'] == 0.1
    assert [id(p) for p in second['params']] == [id(two)] and 'lr' not in second
    assert groups[0]['params'] == [one], 'what was given is not changed'


CHANGES = dict(
    default_hooks__checkpoint=MID_EPOCH,
    optim_wrapper__constructor='TrainableOptimWrapperConstructor',
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
        dict(type='CosineAnnealingWeightDecay', eta_min_ratio=10, begin=0, end=3, convert_to_iter_based=True),
    ],
)


def test_a_run_begun_with_a_group_for_each_parameter_goes_on_alike(tmp_path, monkeypatch):
    """To the bit, rates and decay included."""
    running.train(tmp_path / 'whole', **CHANGES)
    with monkeypatch.context() as patch:
        one_each(patch)
        interrupt(tmp_path / 'cut', 6, **CHANGES)
    old = torch.load(tmp_path / 'cut' / 'iter_6.pth', weights_only=True)
    assert all(len(group['params']) == 1 for group in old['optimizer']['param_groups'])
    running.train(tmp_path / 'cut', resume=True, **CHANGES)
    assert running.same_state(tmp_path / 'whole' / 'iter_12.pth', tmp_path / 'cut' / 'iter_12.pth')
    new = torch.load(tmp_path / 'cut' / 'iter_12.pth', weights_only=True)
    assert len(new['optimizer']['param_groups']) < len(old['optimizer']['param_groups'])


def test_what_is_of_another_optimizer_is_left_as_it_is(monkeypatch):
    model = mst()
    wrapper = build_optim_wrapper(model, WRAPPER)
    own = dict(optimizer=wrapper.optimizer.state_dict(), param_schedulers=[])
    assert merged_groups.regrouped(own, wrapper, model) is None, 'its own'
    one_each(monkeypatch)
    decayed = optimizer_of(model, dict(WRAPPER, paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.5)))
    other = dict(optimizer=decayed.state_dict(), param_schedulers=[])
    assert merged_groups.regrouped(other, wrapper, model) is None, 'it tells biases from norms, this run does not'
    plain = dict(optimizer=optimizer_of(model).state_dict())
    assert merged_groups.regrouped(plain, wrapper, model) is not None
    damaged = merged_groups.regrouped(dict(plain, param_schedulers=3), wrapper, model)
    assert damaged is not None and damaged['param_schedulers'] == 3
    damages: tuple[Any, ...] = (
        None,
        [],
        dict(param_groups=3, state={}),
        dict(param_groups=[dict(params=[5])], state={}),
    )
    for damage in damages:
        assert merged_groups.regrouped(dict(optimizer=damage), wrapper, model) is None
