"""Muon for the matrices of transformer blocks, AdamW for the rest."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

import mstkit.engine.optim.muon_adamw as room
from mstkit.engine import MuonAdamW
from mstkit.engine.launch.launch import read_config
from mstkit.engine.optim.muon_adamw import block_matrices, orthogonal
from mstkit.errors import UsageError
from mstkit.registry import MODELS


@pytest.fixture
def in_float32(monkeypatch):
    monkeypatch.setattr(room, 'has_bf16', lambda device: False)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 3))


def weight(model: nn.Sequential, layer: int) -> nn.Parameter:
    return model.get_parameter(f'{layer}.weight')


def train(model: nn.Module, *optimizers: torch.optim.Optimizer, steps: int = 5) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        images = torch.randn(8, 12, generator=generator)
        model(images).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.skipif(not hasattr(torch.optim, 'Muon'), reason='torch has Muon from 2.9 on')
def test_the_weights_are_those_of_torchs_muon_and_adamw(in_float32, monkeypatch):
    # torch iterates in bf16 whatever the device has.
    monkeypatch.setattr(room, 'has_bf16', lambda device: True)
    ours, theirs = network(), network()
    matrices = [weight(ours, 0), weight(ours, 2)]
    train(ours, MuonAdamW(ours.parameters(), matrices, lr=1e-2, matrix_lr=0.05, weight_decay=0.1))
    inner = [weight(theirs, 0), weight(theirs, 2)]
    others = [p for p in theirs.parameters() if not any(p is matrix for matrix in inner)]
    muon = torch.optim.Muon(inner, lr=0.05, weight_decay=0.1, momentum=0.95)
    train(theirs, muon, torch.optim.AdamW(others, lr=1e-2, weight_decay=0.1))
    for name, parameter in theirs.named_parameters():
        moved = (parameter - network().get_parameter(name)).abs().max()
        difference = (ours.get_parameter(name) - parameter).abs().max()
        assert moved > 1e-3
        assert difference < 0.02 * moved, name  # a batched product in bf16 rounds otherwise


@pytest.mark.parametrize('shape', [(3, 40, 16), (2, 16, 40), (1, 24, 24)])
def test_orthogonal_brings_singular_values_near_one_and_keeps_the_singular_vectors(in_float32, shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonal(matrices)
    assert found.shape == matrices.shape
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6 and values.max() < 1.25
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.mT @ found @ right.mT  # diagonal where the vectors are the same
    off = inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))
    assert off.abs().max() < 1e-4


def test_a_zero_gradient_moves_nothing_and_is_no_division_by_zero(in_float32):
    model = network()
    optimizer = MuonAdamW(model.parameters(), [weight(model, 0)], weight_decay=0.0)
    before = copy.deepcopy(model.state_dict())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_loss_scaler_of_fp16_is_undone_and_an_overflow_moves_nothing(in_float32):
    plain, scaled = network(), network()
    make = lambda model: MuonAdamW(model.parameters(), [weight(model, 0)], lr=1e-2, fused=True)  # noqa: E731
    one, other = make(plain), make(scaled)
    train(plain, one, steps=2)
    train(scaled, other, steps=2)
    assert other._step_supports_amp_scaling  # what makes the scaler hand these two over
    vars(other).update(grad_scale=torch.tensor(8.0), found_inf=torch.tensor(0.0))  # as the scaler sets them
    for parameter, same in zip(plain.parameters(), scaled.parameters(), strict=True):
        parameter.grad = torch.ones_like(parameter)
        same.grad = torch.full_like(same, 8.0)
    one.step()
    other.step()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(scaled.state_dict()[name], tensor, rtol=1e-6, atol=1e-7)
    before = copy.deepcopy(scaled.state_dict())
    momentum = other.state[weight(scaled, 0)]['momentum_buffer'].clone()
    vars(other).update(found_inf=torch.tensor(1.0))
    for parameter in scaled.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    other.step()
    for name, tensor in scaled.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(other.state[weight(scaled, 0)]['momentum_buffer'], momentum)


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(in_float32):
    through, halted = network(), network()
    make = lambda model: MuonAdamW(model.parameters(), [weight(model, 0), weight(model, 2)], lr=1e-2)  # noqa: E731
    one = make(through)
    train(through, one, steps=3)
    halted.load_state_dict(through.state_dict())
    other = make(halted)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    train(through, one)
    train(halted, other)
    for name, tensor in through.state_dict().items():
        assert torch.equal(tensor, halted.state_dict()[name]), name


def test_groups_keep_their_settings_and_multiples_of_the_rate():
    model = network()
    groups = [
        dict(params=[weight(model, 0), model.get_parameter('0.bias')], lr=2e-3, weight_decay=0.5),
        dict(params=[weight(model, 2)], weight_decay=0.0),
        dict(params=[model.get_parameter('2.bias'), *model[4].parameters()]),
    ]
    matrices = [weight(model, 0), weight(model, 2)]
    optimizer = MuonAdamW(groups, matrices, lr=1e-3, matrix_lr=0.02, weight_decay=0.1, matrix_weight_decay=0.3)
    seen = [(g['muon'], g['lr'], g['weight_decay'], len(g['params'])) for g in optimizer.param_groups]
    assert seen == [
        (False, 2e-3, 0.5, 1),
        (True, 0.04, 0.3, 1),  # twice the rate; its own decay is replaced
        (True, 0.02, 0.0, 1),  # no decay stays none
        (False, 1e-3, 0.1, 3),
    ]


@pytest.mark.parametrize(
    'config, per_block, blocks',
    [
        ('mst/mst_vit-tiny_folder.py', 4, 6),
        ('mae/mae_vit-tiny_folder.py', 4, 8),  # two blocks of the decoder
        ('mmpretrain/simclr_vit-tiny_folder.py', 4, 6),
    ],
)
def test_the_matrices_are_those_in_trained_blocks(config, per_block, blocks):
    model = MODELS.build(read_config(f'configs/{config}').model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [names[id(matrix)] for matrix in block_matrices(model)]
    assert len(found) == per_block * blocks
    assert all('.layers.' in name and name.endswith('weight') for name in found)
    assert not any(name.startswith('teacher') or 'predict.weight' in name for name in found)


def test_a_config_names_it_and_the_model_gives_the_matrices():
    config = read_config('configs/mst/mst_vit-tiny_folder.py')
    config.optim_wrapper.optimizer = dict(type='MuonAdamW', lr=1e-3, matrix_lr=0.02, weight_decay=0.04)
    model = MODELS.build(config.model)
    with DefaultScope.overwrite_default_scope('mstkit'):
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    muon = [group for group in wrapper.optimizer.param_groups if group['muon']]
    assert sum(len(group['params']) for group in muon) == 24 and {group['lr'] for group in muon} == {0.02}
    inside = {id(parameter) for group in wrapper.optimizer.param_groups for parameter in group['params']}
    assert inside == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}


def test_mistakes_are_answered():
    model = network()
    with pytest.raises(UsageError, match=r'no matrices to update.*TrainableOptimWrapperConstructor'):
        MuonAdamW(model.parameters())
    with pytest.raises(UsageError, match=r'shape \(20,\)'):
        MuonAdamW(model.parameters(), [model.get_parameter('0.bias')])
    with pytest.raises(UsageError, match='matrix_lr'):
        MuonAdamW(model.parameters(), [weight(model, 0)], matrix_lr=0)
    with pytest.raises(UsageError, match='momentum'):
        MuonAdamW(model.parameters(), [weight(model, 0)], momentum=1)
