"""Batch normalization over several views: with the statistics of each view, or of all views together (MST, table 6).

MST's appendix C computes batch statistics per view and updates the running statistics by the global views alone. It
does not say how local views are normalized; here by their own batch statistics, without updating the running ones.
DINO's head processes the crops of all views as one batch, so its statistics are those of all crops.
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
    norm.num_batches_tracked = None  # these batches are not counted
    try:
        yield
    finally:
        norm.momentum, norm.num_batches_tracked = momentum, batches


def normalize_views(norm: nn.Module, x: Tensor, views: int, updating: int) -> Tensor:
    """Normalizes each view with the statistics of its own batch (over all ranks, if ``norm`` is synchronized).

    Args:
        norm: a batch normalization; any other module is applied to all views at once.
        x: (V*B, ...), view by view.
        views: V; 1 for common statistics of all views.
        updating: the first ``updating`` views update the running statistics.

    Returns:
        The normalized values, of x's shape.
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
