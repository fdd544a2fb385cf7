"""Batch normalization over several views: of each view by itself, or of all views together (MST, table 6).

MST's appendix C takes batch statistics from the images of a batch, not from all their views together, and updates the
running statistics from the global views alone. What becomes of the local views' own statistics the paper leaves open;
here they are normalized by them, which leaves no trace in the running statistics. DINO's head has the crops of all
views before it at once, so its statistics are those of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BATCH_NORMS = (None, 'global_only', 'all')


@contextmanager
def _keeping_running_statistics(norm: _BatchNorm) -> Iterator[None]:
    momentum, batches = norm.momentum, norm.num_batches_tracked
    norm.momentum = 0.0
    norm.num_batches_tracked = None  # not counted either
    try:
        yield
    finally:
        norm.momentum, norm.num_batches_tracked = momentum, batches


def normalize_views(norm: nn.Module, x: Tensor, views: int, updating: int) -> Tensor:
    """Normalizes each view with the statistics of its own batch (over all ranks, if ``norm`` is synchronized).

    Args:
        norm: a batch normalization, or any other module, which is applied to everything at once.
        x: (V*B, ...), view by view.
        views: V; 1 to take the statistics of everything together.
        updating: how many of the views, from the first, update the running statistics.

    Returns:
        Like x.
    """
    if not isinstance(norm, _BatchNorm) or not norm.training or views == 1 == updating:
        return norm(x)
    out = []
    for index, view in enumerate(x.chunk(views)):
        if index < updating:
            out.append(norm(view))
        else:
            with _keeping_running_statistics(norm):
                out.append(norm(view))
    return torch.cat(out)
