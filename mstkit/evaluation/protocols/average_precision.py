"""Retrieval by cosine similarity: average precision by both common definitions, and precision at k.

A ranking is given by its *hits*: bool, from the best to the worst, True where the image is relevant.

- The **step** form is the mean over the relevant images of the precision at their rank, as in scikit-learn's
  ``average_precision_score``; it is used here for labeled folders.
- The **trapezoid** form is the area below the precision-recall curve with straight lines between its points. It is
  used for Oxford and Paris (Philbin et al., CVPR 2007; Radenovic et al., arXiv 1803.11285) and is always slightly
  lower.

Precision at k divides by k, or by the rank of the last relevant image if that is smaller (arXiv 1803.11285), so that a
perfect ranking has 100 % however few images are relevant.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.nn import functional

from mstkit.errors import UsageError
from mstkit.evaluation.protocols.weighted_knn import check_banks
from mstkit.structures import FeatureBank

DEFAULT_RANKS = (1, 5, 10)
_PAIRS = 2**22  # query-image pairs ranked at once; about 40 bytes each


def check_ranks(ranks: Sequence[int]) -> tuple[int, ...]:
    """Returns ranks k of mP@k as a tuple; raises UsageError unless all are whole numbers from 1."""
    if isinstance(ranks, (int, str)) or any(isinstance(k, bool) or not isinstance(k, int) or k < 1 for k in ranks):
        raise UsageError(f'mP@k of k={ranks!r}: give a list of whole numbers of at least 1, such as [1, 5, 10].')
    return tuple(ranks)


def step_average_precision(hits: Tensor) -> Tensor:
    """Averages the precision at each relevant image.

    Args:
        hits: (Q, M) bool, in the order of the ranking.

    Returns:
        (Q,) float64, 0 to 1; NaN for queries without relevant images.
    """
    found = hits.cumsum(dim=1)
    rank = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    return (hits * found.double() / rank).sum(dim=1) / hits.sum(dim=1)


def trapezoid_average_precision(hits: Tensor) -> Tensor:
    """Measures the area below the precision-recall curve; arguments and result as of :func:`step_average_precision`.

    Each relevant image adds the mean of the precision just before it and the precision at its rank; before the first
    rank precision is 1.
    """
    found = hits.cumsum(dim=1).double()
    rank = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    before = torch.where(rank == 1, 1.0, (found - 1) / (rank - 1).clamp(min=1))
    return (hits * (before + found / rank) / 2).sum(dim=1) / hits.sum(dim=1)


def precision_at(hits: Tensor, k: int) -> Tensor:
    """The share of relevant images among the first k, or up to the last relevant image if it ranks before k.

    Args:
        hits: (Q, M) bool, in the order of the ranking.
        k: at least 1.

    Returns:
        (Q,) float64, 0 to 1; NaN for queries without relevant images.
    """
    found = hits.cumsum(dim=1)
    rank = torch.arange(1, hits.shape[1] + 1, device=hits.device)
    last = (hits * rank).amax(dim=1)
    seen = last.clamp(max=k)
    inside = found.gather(1, (seen - 1).clamp(min=0)[:, None])[:, 0]
    return torch.where(last > 0, inside.double() / seen, float('nan'))


@torch.no_grad()
def labeled_retrieval(
    queries: FeatureBank,
    gallery: FeatureBank | None = None,
    ranks: Sequence[int] = DEFAULT_RANKS,
    device: torch.device | str | None = None,
) -> dict[str, float]:
    """Ranks a gallery by cosine similarity for each query; images with the query's label are relevant.

    Exact: every pair is compared and the whole gallery is ranked, for a few queries at a time to bound memory. Images
    of equal similarity stay in file order.

    Args:
        queries: the images to search with.
        gallery: the images to find; without it every image of ``queries`` searches all others (leave-one-out).
        ranks: the k of mP@k.
        device: for the computation; by default that of the features.

    Returns:
        Percent by ``mAP`` (step form) and ``mP@{k}``, means over the queries that have a relevant image. The number
        of other queries is logged.

    Raises:
        UsageError: banks that do not fit each other, ranks out of range, or no query has a relevant image.
    """
    check_ranks(ranks)
    check_banks(queries if gallery is None else gallery, queries)
    found = queries if gallery is None else gallery
    target_device = queries.features.device if device is None else torch.device(device)
    keys = functional.normalize(found.features.to(target_device).float(), dim=1)
    labels = found.labels.to(target_device)
    names = ['mAP', *(f'mP@{k}' for k in ranks)]
    rows = []
    chunk = max(1, _PAIRS // len(keys))
    for start in range(0, len(queries.features), chunk):
        batch = functional.normalize(queries.features[start : start + chunk].to(target_device).float(), dim=1)
        similarity = batch @ keys.T
        relevant = queries.labels[start : start + chunk].to(target_device)[:, None] == labels
        if gallery is None:
            own = torch.arange(start, start + len(batch), device=target_device)[:, None]
            # The query itself ranks last and is not relevant, so that it does not count.
            similarity.scatter_(1, own, -torch.inf)
            relevant.scatter_(1, own, False)
        hits = relevant.gather(1, similarity.argsort(dim=1, descending=True, stable=True))
        rows.append(torch.stack([step_average_precision(hits), *(precision_at(hits, k) for k in ranks)], dim=1).cpu())
    values = torch.cat(rows)
    usable = ~values[:, 0].isnan()
    if not usable.any():
        raise UsageError(
            'no query shares its class with another image, so there is nothing to retrieve: give classes with several '
            'images, the same ones in both folders.'
        )
    log_left_out(int(usable.sum()), len(usable), 'retrieval')
    return dict(zip(names, (100 * values[usable].mean(dim=0)).tolist(), strict=True))


def log_left_out(usable: int, total: int, what: str) -> None:
    """Logs how many queries have no relevant image, if any."""
    if usable < total:
        print_log(f'{what}: {total - usable} of {total} queries have no relevant image and do not count.', 'current')
