"""What trainings of a fixed time have learned: the files of a folder, and their table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mstkit.errors import UsageError
from mstkit.experiments.seed_statistics import spread

PEER = 'lightly:'
METRICS = {'knn': 'k-NN', 'linear': 'the linear probe'}


class Learned(NamedTuple):
    """Accuracies of a branch of a method before and after its training, in percent, a pair for each seed.

    Attributes:
        method: as the training was told, the path of a config or ``lightly:NAME``.
        branch: of the network, such as student.
        images: that were learned from, mean over the seeds.
        accuracies: before and after, by metric.
    """

    method: str
    branch: str
    images: float
    accuracies: Mapping[str, Sequence[tuple[float, float]]]

    @property
    def name(self) -> str:
        """In tables and figures."""
        return self.method if self.method.startswith(PEER) else Path(self.method).stem

    def mean(self, metric: str, after: bool = True) -> float:
        """Over the seeds."""
        return statistics.fmean(pair[after] for pair in self.accuracies[metric])

    def gains(self, metric: str) -> list[float]:
        """What each seed gained, in points."""
        return [after - before for before, after in self.accuracies[metric]]


def read_learned(folder: Path) -> dict[str, list[Learned]]:
    """What each folder that judged says of each method and branch.

    Raises:
        UsageError: there are no results.
    """
    results = [json.loads(file.read_text(encoding='utf-8')) for file in sorted(folder.glob('*.json'))]
    if not results:
        raise UsageError(f'{folder} holds no results')
    found: dict[str, list[Learned]] = {}
    for judge in dict.fromkeys(judge for result in results for judge in result['judged']):
        judged = [result for result in results if judge in result['judged']]
        for method in dict.fromkeys(result['method'] for result in judged):
            seeds = [result for result in judged if result['method'] == method]
            found.setdefault(judge, []).extend(_branches(method, seeds, judge))
    return found


def _branches(method: str, seeds: Sequence[Mapping[str, Any]], judge: str) -> Iterator[Learned]:
    images = statistics.fmean(result['images'] for result in seeds)
    numbers = [result['judged'][judge] for result in seeds]
    for branch in numbers[0]['after']:
        pairs = {
            metric: [(one['before'][branch][metric], one['after'][branch][metric]) for one in numbers]
            for metric in METRICS
        }
        yield Learned(method, branch, images, pairs)


def table_of(learned: Mapping[str, Sequence[Learned]]) -> str:
    """Markdown tables, one for each folder that judged, a row per method and branch."""
    return '\n\n'.join(f'Judged by {judge}:\n\n{_table_of(rows)}' for judge, rows in learned.items())


def _table_of(learned: Sequence[Learned]) -> str:
    """Means and sample deviations over the seeds; the gain of the best of ours over the best peer's."""
    rows = [
        '| method | seeds | images | branch | k-NN before | after | gain | linear before | after | gain |',
        '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    for one in learned:
        cells = [one.name, str(len(one.accuracies['knn'])), f'{round(one.images):,}', one.branch]
        for metric in METRICS:
            before, after = zip(*one.accuracies[metric], strict=True)
            cells += [str(spread(before)), str(spread(after)), str(spread(one.gains(metric)))]
        rows.append(f'| {" | ".join(cells)} |')
    ours = [one for one in learned if not one.method.startswith(PEER)]
    peers = [one for one in learned if one.method.startswith(PEER)]
    for metric, word in METRICS.items() if ours and peers else ():
        (mine, first), (theirs, second) = (_best(group, metric) for group in (ours, peers))
        rows += [
            '',
            f'Gain in {word}: {mine.name} ({mine.branch}) {first:.2f}, {theirs.name} ({theirs.branch}) {second:.2f}, '
            f'ratio {first / second:.2f}.',
        ]
    return '\n'.join(rows)


def _best(learned: Sequence[Learned], metric: str) -> tuple[Learned, float]:
    return max(((one, statistics.fmean(one.gains(metric))) for one in learned), key=lambda pair: pair[1])
