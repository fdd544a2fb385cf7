"""Retrieval of images of the same class."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mstkit.errors import UsageError
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.protocols.average_precision import DEFAULT_RANKS, check_ranks, labeled_retrieval
from mstkit.registry import EVALUATORS


@EVALUATORS.register_module(name='retrieval')
class RetrievalEvaluator:
    """Retrieval with val images as queries: among the train images, and among all other val images (leave-one-out).

    See :func:`mstkit.evaluation.protocols.average_precision.labeled_retrieval`.

    Args:
        ranks: the k of mP@k.
        last_blocks: a feature is the concatenated CLS tokens of this many last blocks.
        mean_patch: append the mean of the patch tokens.

    Raises:
        UsageError: a rank is out of range.
    """

    def __init__(self, ranks: Sequence[int] = DEFAULT_RANKS, last_blocks: int = 1, mean_patch: bool = False) -> None:
        self.ranks = check_ranks([ranks] if isinstance(ranks, int) else ranks)
        self.last_blocks = last_blocks
        self.mean_patch = mean_patch

    def check(self, evaluated: EvaluatedNetwork) -> None:
        """Raises UsageError if no val image has a relevant image, or for features that the network does not have."""
        val = evaluated.labels('val')
        if int(torch.bincount(val).max()) < 2:
            raise UsageError(
                'retrieval within val needs a class with at least two images, and every class has one: '
                'give a larger val folder.'
            )
        if not bool(torch.isin(val, evaluated.labels('train')).any()):
            raise UsageError('retrieval: no class of val has train images: give folders with the same classes.')
        evaluated.check_features(self.last_blocks, self.mean_patch)

    def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
        """Returns percent by ``mAP`` and ``mP@{k}`` for the train images, ``loo_mAP`` and ``loo_mP@{k}`` within val."""
        train = evaluated.bank('train', self.last_blocks, self.mean_patch)
        val = evaluated.bank('val', self.last_blocks, self.mean_patch)
        among_train = labeled_retrieval(val, train, self.ranks, evaluated.device)
        within_val = labeled_retrieval(val, None, self.ranks, evaluated.device)
        return among_train | {f'loo_{name}': value for name, value in within_val.items()}
