"""What DDP is told, and that two processes get with it what plain DDP gives them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine import dist
from mmengine.model import MMDistributedDataParallel
from torch import Tensor, nn

from mstkit.engine.optim.optim_wrapper import DistillationOptimWrapper
from mstkit.engine.parallel.model_wrapping import ddp_settings
from mstkit.models import TrainedModel
from mstkit.structures import Progress
from tests.models.builders import NECK, mst, part_of, views

STEPS = 3
PLAIN = dict(broadcast_buffers=False, find_unused_parameters=False)


def model() -> Any:
    """Both heads with a center each, attention, a decoder, and a masker that leaves some images whole."""
    torch.manual_seed(5)
    return mst(
        patch_head=dict(type='IBOTHead', out_dim=32),
        neck=dict(NECK, norm_last_layer=True),
    )


@contextmanager
def monitored() -> Iterator[list]:
    """The all-reduces inside."""
    seen: list = []
    with pytest.MonkeyPatch.context() as patch:
        original = dist.all_reduce

        def note(data: Tensor, op: str = 'sum') -> None:
            seen.append(data)
            original(data, op)

        patch.setattr(dist, 'all_reduce', note)
        yield seen


def trained(rank: int, settings: dict[str, Any]) -> tuple[dict[str, torch.Tensor], int]:
    """The weights after some steps on this rank's share of the batches, and the exchanges of one ``after_step``."""
    built = model()
    wrapped = MMDistributedDataParallel(built, **{k: v for k, v in settings.items() if k != 'type'})
    optimizer = torch.optim.AdamW([p for p in built.parameters() if p.requires_grad], lr=1e-3)
    wrapper = DistillationOptimWrapper(optimizer, precision='fp32', clip_norm=0.3)
    wrapper.initialize_count_status(wrapped, 0, STEPS)
    for step in range(STEPS):
        progress = Progress(step, STEPS, 1, rank_seed=rank, iteration=step)
        built.set_progress(progress)
        wrapper.set_progress(progress)
        shares = [view[rank::2] for view in views(batch=4, local=1, seed=step)]
        with wrapper.optim_context(wrapped):
            losses = wrapped(shares, mode='loss')
        wrapper.update_params(built.parse_losses(losses)[0])
        with monitored() as exchanges:
            built.after_step()
    return {name: value.clone() for name, value in built.state_dict().items()}, len(exchanges)


def _rank(rank: int) -> tuple[dict[str, Any], dict[str, Any]]:
    ours = ddp_settings(model(), None, None)
    return ours, {name: trained(rank, settings) for name, settings in (('plain', PLAIN), ('ours', ours))}


def test_two_processes_get_what_plain_ddp_gives(run_two):
    (settings, first), (_, second) = run_two(_rank)
    assert settings['static_graph'] and settings['gradient_as_bucket_view']
    start = model().state_dict()
    for found in (first, second):
        for name, value in found['plain'][0].items():
            torch.testing.assert_close(found['ours'][0][name], value, rtol=0, atol=0, msg=name)
    moved = {part_of(name) for name, value in first['ours'][0].items() if not torch.equal(value, start[name])}
    assert moved == {'backbone', 'ce.neck', 'ce.head', 'patch.head', 'restore.decoder', 'mask_token', 'teacher'}
    assert first['ours'][1] == second['ours'][1] == 1  # one exchange for both centers


class StaticModel(TrainedModel):
    static_graph = True


@pytest.mark.parametrize(
    ('model', 'given', 'wrapper', 'static'),
    [
        (StaticModel(), None, dict(type='OptimWrapper'), True),
        (StaticModel(), None, dict(accumulative_counts=2), False),
        (StaticModel(), None, SimpleNamespace(_accumulative_counts=2), False),
        (StaticModel(), dict(static_graph=False), None, False),
        (nn.Linear(1, 1), None, None, False),
    ],
)
def test_where_the_graph_is_static(model, given, wrapper, static):
    settings = ddp_settings(model, given, wrapper)
    assert settings['static_graph'] is static
    assert settings['gradient_as_bucket_view'] and not settings['find_unused_parameters']


def test_a_wrapper_of_ones_own_is_left_alone():
    own = dict(type='MMFullyShardedDataParallel', use_orig_params=True)
    assert ddp_settings(nn.Linear(1, 1), own, None) == own
