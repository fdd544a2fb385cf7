"""Measures of how well clusters, found without labels, agree with the classes."""

from __future__ import annotations

import numpy as np
import scipy  # loads its submodules on first use, which is slow
from torch import Tensor


def cluster_agreement(clusters: Tensor, labels: Tensor) -> dict[str, float]:
    """Three measures of the agreement of clusters and classes.

    Args:
        clusters: (M,) int64, the cluster of each image.
        labels: (M,) int64, its class.

    Returns:
        ``accuracy`` (:func:`hungarian_accuracy`, percent); ``nmi``, the mutual information divided by the mean of the
        two entropies (1: the same partition); ``ari``, the adjusted Rand index (0: chance, 1: the same partition).
    """
    # imported here, because the import takes seconds and few programs need it
    from sklearn.metrics import adjusted_rand_score, cluster, normalized_mutual_info_score

    classes, found = labels.cpu().numpy(), clusters.cpu().numpy()
    return {
        'accuracy': hungarian_accuracy(cluster.contingency_matrix(classes, found)),
        'nmi': float(normalized_mutual_info_score(classes, found)),
        'ari': float(adjusted_rand_score(classes, found)),
    }


def hungarian_accuracy(table: np.ndarray) -> float:
    """Percent of images in the cluster assigned to their class, for the best one-to-one assignment.

    Args:
        table: (C, K), the number of images of each class in each cluster. If K and C differ, some clusters or classes
            stay unassigned, and their images count as wrong.
    """
    rows, columns = scipy.optimize.linear_sum_assignment(table, maximize=True)
    return 100.0 * float(table[rows, columns].sum()) / float(table.sum())
