"""Compares masks with random ones of the same count: differences with intervals, and what they say in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mstkit.errors import UsageError
from mstkit.evaluation.image_hits import ImageHits
from mstkit.experiments.mask_results import MaskResults
from mstkit.experiments.paired_bootstrap import LEVEL, Difference, holm, paired_difference

MEASURES = {'knn': 'k-NN', 'linear': 'linear', 'finetune': 'fine-tuned'}  # their names in tables
MINUS = '\N{MINUS SIGN}'


@dataclass(frozen=True)
class MaskComparison:
    """A mask against its random twin, in one measurement.

    Attributes:
        method: the name of the config, where several are varied; else empty.
        choice: the mask.
        twin: the random one that hides as many patches.
        measure: the name of the evaluation.
        seeds: those that both have finished.
        difference: of the mask minus the twin.
        adjusted: p, corrected for the number of masks of the method in this measurement.
    """

    method: str
    choice: str
    twin: str
    measure: str
    seeds: tuple[int, ...]
    difference: Difference
    adjusted: float

    @property
    def told_apart(self) -> bool:
        """Whether the corrected p is below 5 %."""
        return self.adjusted < 1 - LEVEL

    @property
    def by_seeds(self) -> bool:
        """Whether the t interval over the seeds alone leaves out zero."""
        low, high = self.difference.seeds_low, self.difference.seeds_high
        return low is not None and high is not None and (low > 0 or high < 0)

    @property
    def verdict(self) -> str:
        """The verdict without numbers."""
        return ('better' if self.difference.points > 0 else 'worse') if self.told_apart else 'not told apart'

    def words(self) -> str:
        """The verdict on this mask."""
        found = self.difference
        span = f'[{signed(found.low)}, {signed(found.high)}]'
        if not self.told_apart:
            return f'not told apart from random of the same count ({signed(found.points)} points {span})'
        which = 'better' if found.points > 0 else 'worse'
        seeds = '' if self.by_seeds else '; its seeds alone would not say so'
        if len(self.seeds) == 1:
            seeds = ', with one seed'
        return f'{which} than random of the same count by {abs(found.points):.1f} points {span}{seeds}'


def signed(value: float) -> str:
    """A number with one decimal and a minus sign that is one."""
    text = f'{value:.1f}'
    return text.removeprefix('-') if float(text) == 0 else text.replace('-', MINUS)


def compare_masks(results: MaskResults) -> list[MaskComparison]:
    """Compares each choice that has a twin with it, over the seeds that both have finished.

    Args:
        results: of one method.

    Raises:
        UsageError: two of its measurements are of other images.
    """
    hits = results.hits
    comparisons: list[MaskComparison] = []
    for measure in results.measures:
        differences: dict[str, tuple[tuple[int, ...], Difference]] = {}
        for choice, twin in results.twins.items():
            seeds = tuple(
                seed for seed in results.seeds if (measure, choice, seed) in hits and (measure, twin, seed) in hits
            )
            if seeds:
                one, other = (_table([hits[measure, name, seed] for seed in seeds], name) for name in (choice, twin))
                _check_same([hits[measure, name, seeds[0]] for name in (choice, twin)], choice)
                differences[choice] = seeds, paired_difference(one, other)
        adjusted = holm({choice: difference.p for choice, (_, difference) in differences.items()})
        comparisons += [
            MaskComparison(results.method, choice, results.twins[choice], measure, seeds, difference, adjusted[choice])
            for choice, (seeds, difference) in differences.items()
        ]
    return comparisons


def overall(comparisons: Sequence[MaskComparison]) -> str:
    """One sentence on a method: which masks each measurement tells apart from random ones of the same count."""
    parts = []
    for measure in dict.fromkeys(one.measure for one in comparisons):
        of_measure = [one for one in comparisons if one.measure == measure]
        apart = [one for one in of_measure if one.told_apart]
        words = [
            f'{one.choice} {"better" if one.difference.points > 0 else "worse"}'
            for one in sorted(apart, key=lambda one: -one.difference.points)
        ]
        rest = [one.choice for one in of_measure if not one.told_apart]
        if rest:
            named = ' and '.join(rest) if len(rest) < 3 else f'{"the other" if apart else "all"} {len(rest)}'
            words.append(f'{named} not told apart')
        parts.append(f'{MEASURES.get(measure, measure)}: {", ".join(words)}')
    return f'Masks against random ones of the same count: {"; ".join(parts)}.' if parts else ''


def caveat(comparisons: Sequence[MaskComparison]) -> str:
    """What the intervals can and cannot show with so many seeds, masks and images."""
    counts = sorted({len(one.seeds) for one in comparisons})
    images = comparisons[0].difference.images
    words = [
        f'Differences are of accuracies in percent, choice minus twin, over the same seeds and the same {images} '
        'validation images. In brackets is the 95 % interval of a bootstrap over seeds and images.',
        "A mask is told apart if its two-sided p is below 5 % after Holm's correction for the number of masks that are "
        'compared in that measurement of that method.',
    ]
    if counts[0] == 1:
        words.append(
            f'{"There" if counts == [1] else "Where there"} is one seed{":" if counts == [1] else ","} the interval is '
            'over the images alone and says nothing of another seed, which can differ by more than the interval is '
            'wide.'
        )
    few = [str(count) for count in counts if 1 < count < 5]
    if few:
        words.append(
            f'With {" or ".join(few)} seeds a bootstrap over seeds is too narrow where seeds differ by more than the '
            'images explain: in simulations two seeds cover the truth in 83 % of the cases instead of 95 % then, and '
            'as often as they say where seeds differ less. The t interval over the seeds alone is honest and wide; '
            'what it leaves at zero, more seeds have to show.'
        )
    return ' '.join(words)


def _table(found: Sequence[ImageHits], name: str) -> np.ndarray:
    for one in found[1:]:
        _check_same([found[0], one], name)
    return np.stack([one.hits for one in found])


def _check_same(found: Sequence[ImageHits], name: str) -> None:
    if found[0].images != found[1].images:
        raise UsageError(
            f"{name}: not all of its measurements and its twin's are of the same validation images; remove the "
            'folders "measured" in which they are, and measure again.'
        )
