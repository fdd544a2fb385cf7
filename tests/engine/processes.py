"""A model, and a few of its training steps, for processes that work together."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from mstkit.engine.optim.muon_adamw import MuonAdamW, block_matrices
from mstkit.engine.optim.optim_wrapper import DistillationOptimWrapper
from mstkit.engine.parallel.model_wrapping import ddp_settings
from mstkit.engine.parallel.sharding import shard
from mstkit.structures import Progress
from mstkit.utils.local_shards import is_spread
from tests.models.builders import NECK, mst, views

STEPS = 4


def model(seed: int = 5, **parts: Any) -> Any:
    """An attention-guided masker, two heads, a decoder."""
    torch.manual_seed(seed)
    return mst(
        **parts,
        patch_head=dict(type='IBOTHead', out_dim=32),
        neck=dict(NECK, norm_last_layer=True),
        decoder=dict(type='CNNImageDecoder', channels=8, batch_norm=False),
    )


def wrapper_of(built: Any, muon: bool = False) -> DistillationOptimWrapper:
    # The large eps: where a gradient is nothing but rounding, Adam would make whole steps of it.
    trained, settings = [p for p in built.parameters() if p.requires_grad], dict(lr=1e-2, eps=1e-3)
    optimizer = (
        MuonAdamW(trained, block_matrices(built), **settings) if muon else torch.optim.AdamW(trained, **settings)
    )
    wrapper = DistillationOptimWrapper(optimizer, precision='fp32', clip_norm=0.1)
    wrapper.initialize_count_status(built, 0, STEPS)
    return wrapper


def train(rank: int, built: Any, run: Any, wrapper: OptimWrapper, steps: range, local: int = 2) -> None:
    for step in steps:
        progress = Progress(step, STEPS, 2, rank_seed=rank, iteration=step)
        built.set_progress(progress)
        wrapper.set_progress(progress)
        with wrapper.optim_context(run):
            losses = run([view[rank::2] for view in views(batch=4, local=local, seed=step)], mode='loss')
        wrapper.update_params(built.parse_losses(losses)[0])
        built.after_step()


def in_ddp(built: Any) -> Any:
    """Wrapped as the runner wraps it."""
    settings = ddp_settings(built, None, None)
    return MMDistributedDataParallel(built, **{name: value for name, value in settings.items() if name != 'type'})


def in_parts(built: Any) -> Any:
    """Spread over the processes, with the weights that it has."""
    built.init_weights = lambda: None
    return shard(built, dict(type='FullyShard'))


def whole(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: (value.full_tensor() if is_spread(value) else value).clone() for name, value in state.items()}
