"""Classification with a few labeled images of each class."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from mmengine import dist
from torch import Tensor

from mstkit.errors import UsageError, nearest
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.protocols.few_shots import DRAWS, check_shots, draw_shots, logistic_accuracy
from mstkit.evaluation.protocols.weighted_knn import knn_accuracy
from mstkit.registry import EVALUATORS
from mstkit.structures import FeatureBank
from mstkit.utils.checks import check_count, check_number
from mstkit.utils.progress_bar import track

CLASSIFIERS = ('knn', 'logistic')
MANY_NEIGHBORS = 20


@EVALUATORS.register_module(name='lowshot')
class LowShotEvaluator:
    """Accuracy on all val images with ``shots`` train images per class; mean and standard deviation over runs.

    The protocol of AttMask (arXiv 2203.12719): k-NN with k=1 for one image per class, else k=20 (or all images if
    there are fewer), on five choices of images; see :func:`mstkit.evaluation.protocols.few_shots.draw_shots`.

    Args:
        shots: images per class, one measurement for each.
        draws: how images are chosen, 'slices' or 'random' or both.
        runs: number of choices, for each of ``draws``.
        classifiers: 'knn', or 'logistic' (L2-regularized logistic regression), or both, on the same choices.
        temperature: of the votes of k-NN.
        penalty: of logistic regression, see :func:`mstkit.evaluation.protocols.few_shots.logistic_accuracy`.
        last_blocks: a feature is the concatenated CLS tokens of this many last blocks.
        mean_patch: append the mean of the patch tokens.

    Raises:
        UsageError: a setting is out of range or unknown.
    """

    def __init__(
        self,
        shots: Sequence[int] | int = (1, 5, 10, 20),
        draws: Sequence[str] | str = DRAWS,
        runs: int = 5,
        classifiers: Sequence[str] | str = ('knn',),
        temperature: float = 0.07,
        penalty: float = 0.1,
        last_blocks: int = 1,
        mean_patch: bool = False,
    ) -> None:
        self.shots = tuple(
            check_count('lowshot.shots', count, 1) for count in ([shots] if isinstance(shots, int) else shots)
        )
        self.draws = _among(DRAWS, draws, 'lowshot.draws')
        self.classifiers = _among(CLASSIFIERS, classifiers, 'lowshot.classifiers')
        if not self.shots:
            raise UsageError('lowshot.shots is empty: give numbers of images per class such as 1,5.')
        self.runs = check_count('lowshot.runs', runs, 1)
        self.temperature = check_number('lowshot.temperature', temperature, above=0)
        self.penalty = check_number('lowshot.penalty', penalty, above=0)
        self.last_blocks = last_blocks
        self.mean_patch = mean_patch

    def check(self, evaluated: EvaluatedNetwork) -> None:
        """Raises UsageError for a class with too few images, or features that the network does not have."""
        for shots in self.shots:
            for draw in self.draws:
                check_shots(evaluated.labels('train'), evaluated.classes(), shots, draw, self.runs)
        evaluated.check_features(self.last_blocks, self.mean_patch)

    def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
        """Returns the mean in percent by ``{classifier}_{shots}shot_{draw}``, and its deviation by ``…_std``.

        The deviation is that of a sample, and left out for a single run.
        """
        train = evaluated.bank('train', self.last_blocks, self.mean_patch)
        val = evaluated.bank('val', self.last_blocks, self.mean_patch)
        work, description = self._measurements(), f'low-shot of {evaluated.network.name}'
        found: dict[str, float] = {}
        for classifier, shots, draw in track(work, len(work), description, enabled=dist.is_main_process()):
            # By the bank's labels, which may differ from the folder's if images could not be read.
            check_shots(train.labels, train.classes, shots, draw, self.runs)
            choices = draw_shots(train.labels, shots, draw, self.runs, evaluated.seed)
            values = [self._accuracy(classifier, shots, part_of(train, chosen), val, evaluated) for chosen in choices]
            name = _name(classifier, shots, draw)
            found[name] = statistics.fmean(values)
            if len(values) > 1:
                found[f'{name}_std'] = statistics.stdev(values)
        return found

    def headlines(self) -> list[str]:
        """The means."""
        return [_name(*measured) for measured in self._measurements()]

    def _measurements(self) -> list[tuple[str, int, str]]:
        return [(c, shots, draw) for draw in self.draws for c in self.classifiers for shots in self.shots]

    def _accuracy(
        self, classifier: str, shots: int, train: FeatureBank, val: FeatureBank, evaluated: EvaluatedNetwork
    ) -> float:
        if classifier == 'logistic':
            return logistic_accuracy(train, val, self.penalty)
        k = 1 if shots == 1 else min(MANY_NEIGHBORS, len(train.labels))
        return knn_accuracy(train, val, (k,), self.temperature, device=evaluated.device)[f'k{k}_top1']


def part_of(bank: FeatureBank, chosen: Tensor) -> FeatureBank:
    """The images ``chosen`` of a bank."""
    return bank._replace(features=bank.features[chosen], labels=bank.labels[chosen])


def _name(classifier: str, shots: int, draw: str) -> str:
    return f'{classifier}_{shots}shot_{draw}'


def _among(known: Sequence[str], given: Any, name: str) -> tuple[str, ...]:
    """Returns one or several words as a tuple without duplicates; raises UsageError if one is not in ``known``."""
    words = tuple(dict.fromkeys([given] if isinstance(given, str) else given))
    for word in words:
        if word not in known:
            raise UsageError(f'{name}: {word!r} is none of {", ".join(known)}.{nearest(str(word), known)}')
    if not words:
        raise UsageError(f'{name} is empty: give some of {", ".join(known)}.')
    return words
