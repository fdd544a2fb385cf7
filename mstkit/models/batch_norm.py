"""Batch normalisation over several views, one view at a time.

MST's appendix C takes batch statistics from the images of a batch, not from all their views together, and updates the
running statistics from the global views alone. What becomes of the local views' own statistics the paper leaves open;
here they normalise by them and leave no trace (decision D2 of this project).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def _keeping_running_statistics(norm: _BatchNorm) -> Iterator[None]:
    momentum, batches = norm.momentum, norm.num_batches_tracked
    norm.momentum = 0.0
    norm.num_batches_tracked = None  # not counted either
    try:
        yield
    finally:
        norm.momentum, norm.num_batches_tracked = momentum, batches


def normalise_views(norm: nn.Module, x: Tensor, views: int, updating: int) -> Tensor:
    """Normalises each view with its own batch's statistics (across ranks, if ``norm`` is synchronised).

    Args:
        norm: a batch normalisation, or any other module, which is applied to everything at once.
        x: (V*B, ...), view by view.
        views: V.
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
