"""Results of jobs as tables, curves and files, for the reports of ablations and transfers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mstkit.experiments.job import FAILED, FINISHED, Curves, Job
from mstkit.experiments.seed_statistics import mean_curve
from mstkit.utils.files import write_atomically
from mstkit.visualization import Curve

NOTHING = '–'  # in a table


@dataclass(frozen=True)
class Result:
    """The result of one job: its record, and the curves for the report."""

    job: Job
    record: dict[str, Any]
    curves: Curves

    @property
    def finished(self) -> bool:
        """Whether it was trained to its end and measured."""
        return bool(self.record.get('status') == FINISHED)

    @property
    def failed(self) -> bool:
        """Whether it ended with an error."""
        return bool(self.record.get('status') == FAILED)

    def last(self, name: str) -> tuple[int, float] | None:
        """The last point of a curve: (step, value)."""
        return max(self.curves.get(name, {}).items(), default=None)

    def best(self, name: str) -> tuple[int, float] | None:
        """The point with the highest value after step 0: (step, value); the first one of equal values."""
        trained = [(step, value) for step, value in self.curves.get(name, {}).items() if step > 0]
        return max(trained, key=lambda point: point[1], default=None)


def markdown_rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    cells = [[cell.replace('|', '\\|').replace('\n', ' ') for cell in row] for row in (headings, *rows)]
    lines = [f'| {" | ".join(row)} |' for row in cells]
    return '\n'.join([lines[0], '|' + ' --- |' * len(headings), *lines[1:]])


def csv_rows(rows: Sequence[Mapping[str, object]]) -> str:
    """A table as CSV; all rows have the keys of the first one."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def mean_curves(groups: Mapping[str, Sequence[Result]], names: Sequence[str]) -> dict[str, list[Curve]]:
    """Curves for a plot with a panel per name, and a line per group: the mean of its seeds, and each seed faintly."""
    panels: dict[str, list[Curve]] = {name: [] for name in names}
    for number, (label, results) in enumerate(groups.items()):
        for name, lines in panels.items():
            seeds = [result.curves[name] for result in results if result.curves.get(name)]
            lines += [Curve(label, list(mean_curve(seeds).items()), number)] if seeds else []
            lines += [Curve(None, list(one.items()), number, faint=True) for one in seeds if len(seeds) > 1]
    return panels


def write_page(folder: Path, name: str, paragraphs: Sequence[str], table: str) -> None:
    """Writes ``NAME.md`` and, beside it, the table in CSV as ``NAME.csv``."""
    write_atomically(folder / f'{name}.md', ('\n\n'.join(paragraphs) + '\n').encode())
    write_atomically(folder / f'{name}.csv', table.encode())
