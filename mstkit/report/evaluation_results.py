"""Reads results of evaluations in a work dir."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mstkit.report.run_records import is_number, read_json


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a network.

    Attributes:
        source: the network, such as the file of a checkpoint.
        branch: of the checkpoint; empty if it has only one.
        metrics: by evaluation and name of the metric.
        data: the folders of labeled images, train and val.
        date: of the evaluation.
        headlines: names of the main metrics by evaluation; an evaluation that is missing here has no main metrics.
        failed: error messages by evaluation.
    """

    source: str
    branch: str
    metrics: Mapping[str, Mapping[str, float]]
    data: tuple[str, str]
    date: str
    headlines: Mapping[str, Sequence[str]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """File name and branch, for the heading of a table."""
        return ', '.join(filter(None, (Path(self.source).name, self.branch)))


def read_evaluations(folder: Path) -> tuple[list[Evaluation], list[str]]:
    """Reads every ``.json`` file of a folder.

    Returns:
        The results in order of date, and a sentence for each file without results.
    """
    results, damaged = [], []
    for file in sorted(folder.glob('*.json')):
        content = read_json(file)
        found = [_result(one) for one in (content if isinstance(content, list) else [content])]
        if not found or None in found:
            damaged.append(f'evaluation/{file.name} holds no results that can be read.')
        results += [one for one in found if one is not None]
    return sorted(results, key=lambda result: result.date), damaged


def _result(content: Any) -> Evaluation | None:
    if not isinstance(content, dict) or not isinstance(content.get('metrics'), dict):
        return None
    metrics = {
        str(evaluation): {str(name): float(value) for name, value in values.items() if is_number(value)}
        for evaluation, values in content['metrics'].items()
        if isinstance(values, dict)
    }
    words = {key: str(content.get(key) or '') for key in ('source', 'branch', 'train', 'val', 'date')}
    headlines, failed = content.get('headlines'), content.get('failed')
    return Evaluation(
        words['source'],
        words['branch'],
        metrics,
        (words['train'], words['val']),
        words['date'],
        {name: list(map(str, some)) for name, some in _items(headlines) if isinstance(some, list) and some},
        {name: str(reason) for name, reason in _items(failed)},
    )


def _items(content: Any) -> list[tuple[str, Any]]:
    return [(str(name), value) for name, value in content.items()] if isinstance(content, dict) else []
