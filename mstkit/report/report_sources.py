"""Reads the folders of a report: runs, ablations and transfers, recognized by the files in them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mstkit.errors import UsageError
from mstkit.experiments.ablation import Cell
from mstkit.experiments.ablation_report import NAME as ABLATION
from mstkit.experiments.transfer import FineTuning
from mstkit.experiments.transfer_report import NAME as TRANSFER
from mstkit.report.run_charts import Group
from mstkit.report.run_facts import RunRecord, read_run
from mstkit.report.run_records import read_json


@dataclass
class Comparison:
    """Runs to be shown together.

    Attributes:
        title: of the comparison.
        groups: runs, grouped by choice.
        k: number of neighbors of k-NN in all charts; None for each run's ``headline_k``.
        page: the Markdown page that tools/ablate.py or tools/transfer.py wrote; None without one.
        images: files with images of predictions.
        missing: sentences about what is missing or could not be read.
    """

    title: str
    groups: list[Group]
    k: int | None = None
    page: Path | None = None
    images: list[Path] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def runs(self) -> list[RunRecord]:
        """The runs of all groups."""
        return [run for group in self.groups for run in group.runs]


def read_sources(folders: Sequence[Path]) -> list[Comparison]:
    """Reads the folders of a command line.

    Returns:
        First a comparison of all single runs, then one per ablation (of several methods, one per method) and one per
        task of a transfer.

    Raises:
        UsageError: a folder without logs.
    """
    comparisons: list[Comparison] = []
    plain: list[Group] = []
    names = _names(folders)
    for folder, name in zip(folders, names, strict=True):
        if not folder.is_dir():
            raise UsageError(f'there is no folder {folder}.')
        if any(folder.glob(f'*/seed*/{Cell.RECORD}')):
            comparisons.append(_ablation(folder, name))
        elif any(folder.glob(f'*/*/seed*/{Cell.RECORD}')):
            comparisons += _benchmark(folder, name)
        elif any(folder.glob(f'*/*/seed*/{FineTuning.RECORD}')):
            comparisons += _transfer(folder, name)
        else:
            plain.append(Group(name, [read_run(folder, name)]))
    if plain:
        title = plain[0].name if len(plain) == 1 else f'{len(plain)} runs'
        comparisons.insert(0, Comparison(title, plain))
    return comparisons


def _names(folders: Sequence[Path]) -> list[str]:
    """Names of the folders: the last parts of their paths, as many as make them unique."""
    parts = [folder.resolve().parts for folder in folders]
    for count in range(1, max((len(one) for one in parts), default=1) + 1):
        names = ['/'.join(one[-count:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    raise UsageError(f'the same work dir is given twice: {", ".join(map(str, folders))}.')


def _runs(folders: Sequence[Path], label: str, missing: list[str]) -> list[RunRecord]:
    """Reads the runs in folders; errors of folders without logs are added to ``missing``."""
    runs = []
    for folder in folders:
        try:
            runs.append(read_run(folder, f'{label}, {folder.name.replace("seed", "seed ")}'))
        except UsageError as error:
            missing.append(str(error))
    return runs


def _ablation(folder: Path, name: str) -> Comparison:
    rows = list(_rows(folder / f'{ABLATION}.csv'))
    page = folder / f'{ABLATION}.md'
    k = next((int(row['k']) for row in rows if (row.get('k') or '').isdigit()), None)
    comparison = Comparison(f'Ablation {name}', [], k, page if page.is_file() else None)
    if not page.is_file():
        comparison.missing.append(f'There is no {page.name}: no cell has ended, or it was removed.')
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.glob(f'*/seed*/{Cell.RECORD}')):
        record = read_json(file)
        words = record.get('choice') if isinstance(record, dict) else None
        if not isinstance(words, dict):
            comparison.missing.append(f'{file.parent.parent.name}/{file.parent.name}/{file.name} cannot be read.')
            continue
        values = [str(word) for word in words.values()]
        row = next((row for row in rows if [row.get(key) for key in words] == values), None)
        choice = row['choice'] if row and row.get('choice') else ', '.join(values)
        found.setdefault(choice, []).append(file.parent)
    order = dict.fromkeys([*(row.get('choice', '') for row in rows), *found])
    for choice in order:
        runs = _runs(found.get(choice, []), choice, comparison.missing)
        if runs:
            comparison.groups.append(Group(choice, runs))
        elif choice in found:
            comparison.missing.append(f'{choice} has no run that can be shown.')
        else:
            comparison.missing.append(f'{choice} has not been started.')
    return _checked(comparison, folder)


def _benchmark(folder: Path, name: str) -> list[Comparison]:
    """An ablation of several methods: each is one in a folder of its own, and one page is about all."""
    comparisons, missing = [], []
    for method in sorted({file.parents[2] for file in folder.glob(f'*/*/seed*/{Cell.RECORD}')}):
        try:
            comparisons.append(_ablation(method, f'{name}: {method.name}'))
        except UsageError as error:
            missing.append(str(error))  # no cell of this method has logged anything yet
    if not comparisons:
        raise UsageError(f'{folder} holds no logs of a run: none of its trainings has logged anything yet.')
    page = folder / f'{ABLATION}.md'
    if page.is_file():
        for comparison in comparisons:
            comparison.page = None
        comparisons[0].page = page
    comparisons[0].missing += missing
    return comparisons


def _transfer(folder: Path, name: str) -> list[Comparison]:
    page = folder / f'{TRANSFER}.md'
    comparisons = []
    for number, task in enumerate(sorted({file.parents[2] for file in folder.glob(f'*/*/seed*/{FineTuning.RECORD}')})):
        images = sorted(folder.glob(f'{task.name}_predictions*.png'))
        comparison = Comparison(f'Transfer {name}: {task.name}', [], images=images)
        if number == 0 and page.is_file():  # one page for all tasks
            comparison.page = page
        elif number == 0:
            comparison.missing.append(f'There is no {page.name}: no run has ended, or it was removed.')
        for start in sorted(task.iterdir()):
            label = start.name.replace('random-init', 'random init')
            runs = _runs(sorted(start.glob('seed*')), label, comparison.missing)
            comparison.groups += [Group(label, runs)] if runs else []
        comparisons.append(comparison)
    if not any(comparison.groups for comparison in comparisons):
        raise UsageError(f'{folder} holds no logs of a run: none of its trainings has logged anything yet.')
    return comparisons


def _checked(comparison: Comparison, folder: Path) -> Comparison:
    if not comparison.groups:
        raise UsageError(f'{folder} holds no logs of a run: none of its trainings has logged anything yet.')
    return comparison


def _rows(file: Path) -> Iterator[dict[str, str]]:
    if file.is_file():
        with open(file, encoding='utf-8', newline='') as opened:
            yield from csv.DictReader(opened)
