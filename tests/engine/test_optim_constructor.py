"""The optimizer holds the student's parameters, each with the decay that the recipe gives it."""

from __future__ import annotations

import logging

from mmengine.optim import build_optim_wrapper

from tests.models.builders import mst


def test_groups_are_the_students_and_decay_is_the_recipes(caplog):
    model = mst()
    config = dict(
        type='DistillationOptimWrapper',
        constructor='TrainableOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.04),
        paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
    )
    with caplog.at_level(logging.WARNING):
        wrapper = build_optim_wrapper(model, config)
    names = {id(p): n for n, p in model.named_parameters()}
    decay = {names[id(p)]: g['weight_decay'] for g in wrapper.optimizer.param_groups for p in g['params']}
    assert set(decay) == {n for n, p in model.named_parameters() if p.requires_grad}
    for name, value in decay.items():
        # As in DINO: what has one dimension is not decayed; class token, position and prototypes are.
        flat = dict(model.named_parameters())[name].ndim == 1
        assert value == (0.0 if flat else 0.04), name
    assert decay['backbone.cls_token'] == decay['backbone.pos_embed'] == 0.04
    assert not [r for r in caplog.records if 'requires_grad' in r.message]
