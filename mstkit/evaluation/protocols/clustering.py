"""How well do clusters, found without labels, agree with the classes?"""

from __future__ import annotations

import numpy as np
import scipy  # each of its parts is loaded when it is first used: they take long, and few programs come to them
from torch import Tensor


def contingency(clusters: Tensor, labels: Tensor) -> np.ndarray:
    """Counts, (K, C) int64: how many images of each class lie in each cluster; clusters and classes from 0."""
    height, width = int(clusters.max()) + 1, int(labels.max()) + 1
    pairs = clusters.to(labels.device) * width + labels
    return pairs.bincount(minlength=height * width).reshape(height, width).cpu().numpy()


def hungarian_accuracy(table: np.ndarray) -> float:
    """Percent of images that are in the cluster of their class, under the best one-to-one assignment of the two.

    Args:
        table: (K, C) from :func:`contingency`. Clusters beyond the number of classes, or the other way round, are left
            over, and their images count as wrong.
    """
    rows, columns = scipy.optimize.linear_sum_assignment(table, maximize=True)
    return 100.0 * float(table[rows, columns].sum()) / float(table.sum())


def normalized_mutual_information(table: np.ndarray) -> float:
    """I(cluster; class) over the mean of the two entropies: 0 independent, 1 the same up to names.

    Args:
        table: (K, C) from :func:`contingency`.
    """
    joint = table / table.sum()
    by_cluster, by_class = joint.sum(axis=1), joint.sum(axis=0)
    entr = scipy.special.entr
    entropies = entr(by_cluster).sum(), entr(by_class).sum()
    if max(entropies) == 0:
        return 1.0  # one cluster, one class
    mutual = sum(entropies) - entr(joint).sum()
    return max(0.0, float(2 * mutual / sum(entropies)))


def adjusted_rand_index(table: np.ndarray) -> float:
    """Agreement on which pairs of images belong together: 1 complete, 0 what chance gives.

    Hubert & Arabie, Journal of Classification 2 (1985), eq. 5.

    Args:
        table: (K, C) from :func:`contingency`.
    """

    def pairs(counts: np.ndarray) -> float:
        return float((counts.astype(np.float64) * (counts - 1.0)).sum() / 2)

    together, by_cluster, by_class = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    every = pairs(table.sum())
    by_chance = by_cluster * by_class / every if every else 0.0
    best = (by_cluster + by_class) / 2
    return 1.0 if best == by_chance else (together - by_chance) / (best - by_chance)
