"""What every registered target promises to masked prediction."""

from __future__ import annotations

import inspect

import pytest
import torch

from mstkit.models import Target
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import VIT, views
from tests.models.tokenizers import write_patches

NAMES = sorted(name for name, cls in MODELS.module_dict.items() if inspect.isclass(cls) and issubclass(cls, Target))


def test_the_targets_are_found():
    assert {'Pixels', 'Tokens'} <= set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_a_step_predicts_it(tmp_path, name):
    cls = MODELS.get(name)
    write_patches(tmp_path / 'tokenizer.pth')
    settings = dict(tokenizer=str(tmp_path / 'tokenizer.pth')) if name == 'Tokens' else {}
    config = dict(type='SimMIM', backbone=VIT, mask_patch_size=8, target=dict(type=name, **settings))
    model = MODELS.build({**config, 'loss': 'cross_entropy' if cls.discrete else 'l1'})
    model.init_weights()
    model.train()
    model.set_progress(Progress(3, 10, 5, rank_seed=1, iteration=3))
    target = model.objectives['predict'].target
    assert not target.training and not any(parameter.requires_grad for parameter in target.parameters())
    made = []
    target.register_forward_hook(lambda module, given, output: made.append(output))
    (loss,) = model.loss([views()[0]]).values()
    loss.backward()
    assert torch.isfinite(loss)
    (values,) = made
    assert not values.requires_grad
    if cls.discrete:
        assert values.shape == (2, 16) and values.dtype == torch.int64
        assert values.min() >= 0 and values.max() < target.dims
    else:
        assert values.shape == (2, 16, target.dims) and values.dtype == torch.float32
    assert [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    drawn = model.panel(views()[0]).reconstruction
    assert drawn is None or drawn.shape == views()[0].shape
