"""How well do clusters, found without labels, agree with the classes?"""

from __future__ import annotations

import numpy as np
import scipy  # each of its parts is loaded when it is first used: they take long, and few programs come to them
from torch import Tensor


def cluster_agreement(clusters: Tensor, labels: Tensor) -> dict[str, float]:
    """Three measures of how far clusters are the classes up to their names.

    Args:
        clusters: (M,) int64, the cluster of each image.
        labels: (M,) int64, its class.

    Returns:
        ``accuracy`` (:func:`hungarian_accuracy`, percent); ``nmi``, mutual information over the mean of the two
        entropies; ``ari``, the adjusted Rand index: 0 what chance gives, 1 the same partition, for both.
    """
    # here, because it takes seconds and few programs come to it
    from sklearn.metrics import adjusted_rand_score, cluster, normalized_mutual_info_score

    classes, found = labels.cpu().numpy(), clusters.cpu().numpy()
    return {
        'accuracy': hungarian_accuracy(cluster.contingency_matrix(classes, found)),
        'nmi': float(normalized_mutual_info_score(classes, found)),
        'ari': float(adjusted_rand_score(classes, found)),
    }


def hungarian_accuracy(table: np.ndarray) -> float:
    """Percent of images that are in the cluster of their class, under the best one-to-one assignment of the two.

    Args:
        table: (C, K) counts, how many images of each class lie in each cluster. Clusters beyond the number of classes,
            or the other way round, are left over, and their images count as wrong.
    """
    rows, columns = scipy.optimize.linear_sum_assignment(table, maximize=True)
    return 100.0 * float(table[rows, columns].sum()) / float(table.sum())
