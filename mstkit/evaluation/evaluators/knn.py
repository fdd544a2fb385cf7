"""Weighted k-nearest-neighbor accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from mstkit.errors import UsageError
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.image_hits import Judgment
from mstkit.evaluation.protocols.weighted_knn import DEFAULT_KS, check_ks, clip_ks, knn_hits
from mstkit.registry import EVALUATORS
from mstkit.utils.checks import check_number

HEADLINE_K = 20


@EVALUATORS.register_module(name='knn')
class KNNEvaluator:
    """Classifies each val image by its nearest train images; see :func:`mstkit.evaluation.knn_accuracy`.

    Args:
        ks: numbers of neighbors, none above the number of train images. By default 10, 20, 100 and 200, limited to
            the number of train images.
        temperature: of the votes.
        last_blocks: a feature is the concatenated CLS tokens of this many last blocks.
        mean_patch: append the mean of the patch tokens.

    Raises:
        UsageError: a setting is out of range.
    """

    def __init__(
        self,
        ks: Sequence[int] | int | None = None,
        temperature: float = 0.07,
        last_blocks: int = 1,
        mean_patch: bool = False,
    ) -> None:
        self.ks = None if ks is None else check_ks([ks] if isinstance(ks, int) else ks)
        self.temperature = check_number('knn.temperature', temperature, above=0)
        self.last_blocks = last_blocks
        self.mean_patch = mean_patch

    def check(self, evaluated: EvaluatedNetwork) -> None:
        """Raises UsageError for more neighbors than train images, or features that the network does not have."""
        size = len(evaluated.labels('train'))
        if self.ks is not None and max(self.ks) > size:
            raise UsageError(f'knn.ks asks for {max(self.ks)} neighbors, but train has {size} images: give smaller ks.')
        evaluated.check_features(self.last_blocks, self.mean_patch)

    def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
        """Returns percent by ``k{k}_top1`` and ``k{k}_top5``; the first is the top-1 of the k nearest to 20."""
        return self.judge(evaluated).metrics

    def judge(self, evaluated: EvaluatedNetwork) -> Judgment:
        """The same with the hits of each val image; see :class:`mstkit.evaluation.image_hits.JudgesImages`."""
        train = evaluated.bank('train', self.last_blocks, self.mean_patch)
        val = evaluated.bank('val', self.last_blocks, self.mean_patch)
        ks = self.ks or clip_ks(DEFAULT_KS, len(train.features))
        found = knn_hits(train, val, ks, self.temperature, device=evaluated.device)
        accuracy = {name: 100.0 * int(hits.sum()) / len(hits) for name, hits in found.items()}
        headline = f'k{min(ks, key=lambda k: (abs(k - HEADLINE_K), k))}_top1'
        return Judgment({headline: accuracy.pop(headline), **accuracy}, headline, found[headline])
