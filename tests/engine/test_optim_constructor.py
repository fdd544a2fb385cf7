"""The optimizer holds the student's parameters, each with the decay that the recipe gives it."""

from __future__ import annotations

import logging

import pytest
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper

from tests.models.builders import mst
from tests.models.mim_models import DECODER, build


def decay_of(model, **paramwise) -> dict[str, float]:
    """The decay of each parameter by the recipe, of which ``paramwise`` is a part."""
    config = dict(
        type='DistillationOptimWrapper',
        constructor='TrainableOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.04),
        paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0, **paramwise),
    )
    wrapper = build_optim_wrapper(model, config)
    names = {id(p): n for n, p in model.named_parameters()}
    return {names[id(p)]: g['weight_decay'] for g in wrapper.optimizer.param_groups for p in g['params']}


def test_groups_are_the_students_and_decay_is_the_recipes(monkeypatch):
    model, said = mst(), []
    monkeypatch.setattr(MMLogger, 'handle', lambda self, record: said.append(record.getMessage()))
    decay = decay_of(model)
    assert set(decay) == {n for n, p in model.named_parameters() if p.requires_grad}
    for name, value in decay.items():
        # As in DINO: what has one dimension is not decayed; class token, position and prototypes are.
        flat = dict(model.named_parameters())[name].ndim == 1
        assert value == (0.0 if flat else 0.04), name
    assert decay['backbone.cls_token'] == decay['backbone.pos_embed'] == 0.04
    assert not [line for line in said if 'requires_grad' in line]


class Said(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_what_is_fixed_beside_trained_parameters_is_said_once():
    """MAE's positions, of which mmengine would warn; what others say of parameters stays in the log."""
    model, logger, said = build('MAE'), MMLogger.get_current_instance(), Said()
    before = logger.level
    logger.addHandler(said)
    logger.setLevel('INFO')
    try:
        decay = decay_of(model)
        logger.warning('another is skipped since its requires_grad=False')
    finally:
        logger.removeHandler(said)
        logger.setLevel(before)
    lines = [line for line in said.lines if 'fixed' in line or 'skipped' in line]
    assert lines == ['fixed, not trained: backbone.pos_embed', 'another is skipped since its requires_grad=False']
    assert 'backbone.pos_embed' not in decay and not model.get_parameter('backbone.pos_embed').requires_grad


def test_ibots_mask_embedding_is_decayed_and_msts_is_not():
    ibot = dict(type='IBOT', decoder=None, patch_head=dict(type='IBOTHead'))
    assert decay_of(mst())['mask_token'] == 0.0
    decay = decay_of(mst(**ibot))
    assert decay['mask_token'] == 0.04
    assert decay['backbone.ln1.weight'] == decay['backbone.layers.0.attn.qkv.bias'] == 0.0
    assert decay_of(mst(type='DINO', decoder=...))['mask_token'] == 0.04  # AttMask in DINO
    assert decay_of(mst(mask_token_decay=True))['mask_token'] == 0.04
    assert decay_of(mst(**ibot), custom_keys={'mask_token': dict(decay_mult=0.5)})['mask_token'] == 0.02
    assert 'mask_token' not in decay_of(mst(type='DINO', decoder=..., masker=None))


@pytest.mark.parametrize('paramwise', [None, dict(bias_decay_mult=0.0, custom_keys=dict(embed=dict(lr_mult=0.1)))])
def test_an_objective_may_learn_faster(paramwise):
    """Each of its parameters by the same factor, whatever else the recipe says of them; schedules keep the ratio."""
    rank = dict(type='LossPrediction', decoder=DECODER)
    rates = []
    for lr_mult in (1.0, 5.0):
        model = build('MAE', objectives=dict(rank=dict(rank, lr_mult=lr_mult)))
        config = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.04), paramwise_cfg=paramwise)
        wrapper = build_optim_wrapper(model, dict(config, constructor='TrainableOptimWrapperConstructor'))
        names = {id(p): n for n, p in model.named_parameters() if p.requires_grad}
        groups = wrapper.optimizer.param_groups
        rates.append(
            {names[id(p)]: (g['lr'], g['weight_decay']) for g in groups for p in g['params'] if id(p) in names}
        )
    usual, faster = rates
    assert usual.keys() == faster.keys() and any(name.startswith('objectives.rank.predictor') for name in usual)
    for name, (rate, decay) in usual.items():
        factor = 5.0 if name.startswith('objectives.rank.') else 1.0
        assert faster[name] == (pytest.approx(factor * rate), decay), name
