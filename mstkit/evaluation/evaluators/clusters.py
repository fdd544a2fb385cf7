"""Clusters found without labels, held against the classes."""

from __future__ import annotations

from torch.nn import functional

from mstkit.errors import UsageError
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.protocols.clustering import cluster_agreement
from mstkit.evaluation.protocols.kmeans import k_means
from mstkit.registry import EVALUATORS
from mstkit.utils.checks import check_count, check_one_of


@EVALUATORS.register_module(name='cluster')
class ClusterEvaluator:
    """k-means with as many clusters as classes, on L2-normalized features, by the seed of the evaluation.

    Args:
        split: the images that are clustered and judged, 'val' or 'train'.
        restarts: starts of k-means; the tightest clustering counts, whatever its classes.
        iterations: at most so many per start.
        last_blocks: how many of the last blocks' class tokens make a feature.
        mean_patch: whether the mean of the patch tokens is appended to it.

    Raises:
        UsageError: a setting is out of range.
    """

    def __init__(
        self,
        split: str = 'val',
        restarts: int = 5,
        iterations: int = 100,
        last_blocks: int = 1,
        mean_patch: bool = False,
    ) -> None:
        self.split = check_one_of('cluster.split', split, ('train', 'val'))
        self.restarts = check_count('cluster.restarts', restarts, 1)
        self.iterations = check_count('cluster.iterations', iterations, 1)
        self.last_blocks = last_blocks
        self.mean_patch = mean_patch

    def check(self, evaluated: EvaluatedNetwork) -> None:
        """Refuses fewer images than classes, and features that are not there; raises UsageError."""
        images, classes = len(evaluated.labels(self.split)), len(evaluated.classes())
        if images < classes:
            raise UsageError(f'cluster: {classes} clusters need as many {self.split} images, and there are {images}.')
        evaluated.check_features(self.last_blocks, self.mean_patch)

    def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
        """Returns ``accuracy`` (Hungarian, percent), ``nmi`` and ``ari`` (1 = the classes)."""
        bank = evaluated.bank(self.split, self.last_blocks, self.mean_patch)
        rows = functional.normalize(bank.features.to(evaluated.device), dim=1)
        found = k_means(rows, len(bank.classes), evaluated.seed, self.restarts, self.iterations, evaluated.device)
        return cluster_agreement(found.assignment, bank.labels)
