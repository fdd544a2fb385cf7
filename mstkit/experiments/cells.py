"""A cell: one choice with one seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mstkit.engine.json_lines import EpochLines
from mstkit.experiments.choices import Choice
from mstkit.experiments.job import Job


@dataclass(frozen=True)
class Cell(Job):
    """One training of an ablation.

    Attributes:
        choice: what the config gets.
        config: the file with its whole config; not in its folder, where the runner writes its own copy.
        options: more for the command line of ``tools/train.py``.
        hides_nothing: its model has no masker.
    """

    choice: Choice
    config: Path
    options: tuple[str, ...]
    hides_nothing: bool = False

    RECORD = 'cell.json'
    KIND = 'cell'

    @property
    def name(self) -> str:
        return f'{self.choice.name}, seed {self.seed}'

    def arguments(self) -> list[str]:
        return [str(self.config), '--seed', str(self.seed), '--work-dir', str(self.folder), *self.options]

    def description(self) -> dict[str, Any]:
        return dict(choice=self.choice.words, seed=self.seed)

    def other_settings(self, record: dict[str, Any]) -> str:
        return ' (config, options or choices)'

    def results(self) -> list[Path]:
        return [self.folder / 'knn.jsonl']

    def headline(self) -> str | None:
        """The newest k-NN accuracies."""
        records, _ = self._records()
        if not records:
            return None
        top1 = f'k{records[-1]["k"]}_top1'
        said = ', '.join(f'{branch} {values[top1]:.1f}' for branch, values in records[-1]['branches'].items())
        return f'epoch {records[-1]["epoch"]}{f" of {self.length}" if self.length else ""}, k-NN {said}'

    def complaint(self) -> str | None:
        records, damage = self._records()
        return damage or (None if records else 'it ended without having measured k-NN accuracy')

    def _records(self) -> tuple[list[dict[str, Any]], str | None]:
        """What was measured, and what is wrong with the file."""
        try:
            return EpochLines(self.results()[0]).read(), None
        except ValueError as error:
            return [], str(error)
