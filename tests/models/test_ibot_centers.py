"""iBOT's two centers do not depend on how many processes share the batch."""

from __future__ import annotations

import torch

from mstkit.models import Pretrainer
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import NECK, VIT, views

STEPS = 2


def model() -> Pretrainer:
    torch.manual_seed(5)
    built = MODELS.build(
        dict(
            type='IBOT',
            backbone=VIT,
            neck=dict(NECK),
            head=dict(type='DINOHead'),
            patch_head=dict(type='IBOTHead'),
            masker=dict(type='BlockMasker'),
            data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3),
        )
    )
    built.init_weights()
    return built.train()


def centers(rank: int, world: int) -> dict[str, torch.Tensor]:
    """After some steps on this rank's share of the batches; ranks draw other masks, the teacher sees the same."""
    built = model()
    for step in range(STEPS):
        built.set_progress(Progress(step, 10, 5, rank_seed=rank, iteration=step))
        built.loss([view[rank::world] for view in views(batch=4, local=1, seed=step)])
        built.after_step()
    return {name: value for name, value in built.state_dict().items() if name.endswith('head.center')}


def test_centers_of_two_processes_equal_those_of_one(run_two):
    expected = centers(0, 1)
    assert set(expected) == {'objectives.ce.head.center', 'objectives.patch.head.center'}
    assert all(value.abs().max() > 1e-4 for value in expected.values())
    for found in run_two(centers, 2):
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)
