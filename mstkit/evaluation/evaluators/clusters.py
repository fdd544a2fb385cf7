"""Agreement of the classes with k-means clusters of the features."""

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
    """k-means on L2-normalized features, with as many clusters as classes, seeded by the evaluation's seed.

    Args:
        split: the images to be clustered, 'val' or 'train'.
        restarts: number of starts of k-means; the clustering with the smallest inertia counts.
        iterations: maximum per start.
        last_blocks: a feature is the concatenated CLS tokens of this many last blocks.
        mean_patch: append the mean of the patch tokens.

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
        """Raises UsageError for fewer images than classes, or features that the network does not have."""
        images, classes = len(evaluated.labels(self.split)), len(evaluated.classes())
        if images < classes:
            raise UsageError(f'cluster: {classes} clusters need as many {self.split} images, and there are {images}.')
        evaluated.check_features(self.last_blocks, self.mean_patch)

    def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
        """Returns ``accuracy`` (Hungarian, percent), ``nmi`` and ``ari`` (1: clusters equal the classes)."""
        bank = evaluated.bank(self.split, self.last_blocks, self.mean_patch)
        rows = functional.normalize(bank.features.to(evaluated.device), dim=1)
        found = k_means(rows, len(bank.classes), evaluated.seed, self.restarts, self.iterations, evaluated.device)
        return cluster_agreement(found.assignment, bank.labels)
