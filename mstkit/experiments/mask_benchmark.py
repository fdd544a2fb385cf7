"""A benchmark of masks: one ablation per method in one plan, with the measurements of its cells, and its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mstkit.experiments.ablation import Plan
from mstkit.experiments.ablation_report import NAME, read_result, write_report
from mstkit.experiments.cell_evaluations import RANDOM, CellEvaluation, write_random_config
from mstkit.experiments.job import FAILED, FINISHED, Job
from mstkit.experiments.job_results import csv_rows, markdown_rows
from mstkit.experiments.job_schedule import durations
from mstkit.experiments.mask_comparison_report import comparison_paragraphs
from mstkit.experiments.mask_results import SUFFIX, MaskResults, TrainedCell, write_results
from mstkit.utils.files import write_atomically


@dataclass(frozen=True)
class Benchmark:
    """Everything that is trained and measured, by one command.

    Attributes:
        plans: one per config, each an ablation in a folder of its own; the folder of a single one is the whole.
        evaluations: the measurements of all cells.
        folder: for all files.
        k: number of neighbors of the accuracies.
    """

    plans: list[Plan]
    evaluations: list[CellEvaluation]
    folder: Path
    k: int

    @property
    def jobs(self) -> list[Job]:
        """Trainings and measurements, seed by seed, each cell followed by its measurements."""
        found: list[Job] = []
        for seed in dict.fromkeys(cell.seed for plan in self.plans for cell in plan.cells):
            for plan in self.plans:
                measured = [job for job in self.evaluations if job.method == plan.name and job.seed == seed]
                found += [job for job in measured if job.after is None]
                for cell in plan.cells:
                    if cell.seed == seed:
                        found += [cell, *(job for job in measured if job.after is cell)]
        return found

    def write_configs(self) -> None:
        """Writes the configs of all cells, and those of the random weights that are measured."""
        for plan in self.plans:
            plan.write_configs()
            if self.evaluations:
                write_random_config(plan)

    def write_report(self) -> str:
        """Writes the page of each method and, where there are several, the page of all.

        Returns:
            The tables, in Markdown.

        Raises:
            UsageError: a file in the folder of a cell is damaged.
        """
        tables = []
        methods = []
        for plan in self.plans:
            own = [job for job in self.evaluations if job.method == plan.name]
            first: list[str] = []
            if own:
                results = results_of(plan, own, self.k)
                first = comparison_paragraphs([results], plan.folder)
                write_atomically(plan.folder / f'{NAME}_measurements.csv', _measurements(own).encode())
                write_results(plan.folder / f'{NAME}{SUFFIX}', results)
                methods.append(results)
            tables += [*first, write_report(plan, self.k, [*first, *_failed(own)])]
        if len(self.plans) == 1:
            return '\n\n'.join(tables)
        names = ', '.join(plan.name for plan in self.plans)
        page = comparison_paragraphs(methods, self.folder)
        if self.evaluations:
            write_atomically(self.folder / f'{NAME}_measurements.csv', _measurements(self.evaluations).encode())
        listed = markdown_rows(
            ['method', 'config', 'cells finished', 'its own page'],
            [[plan.name, str(plan.base), _progress(plan), f'{plan.folder.name}/{NAME}.md'] for plan in self.plans],
        )
        text = '\n\n'.join([f'# Masks compared in {names}', *page, listed, *_failed(self.evaluations)])
        write_atomically(self.folder / f'{NAME}.md', f'{text}\n'.encode())
        return '\n\n'.join([*page, listed])

    def remaining(self) -> str:
        """How long the rest takes at the pace of what is finished, in words."""
        jobs = self.jobs
        paces = durations(jobs)
        waiting = [job for job in jobs if job.record().get('status') != FINISHED]
        unknown = [job for job in waiting if job.pace not in paces]
        known = sum(paces[job.pace] for job in waiting if job.pace in paces)
        if not waiting:
            return 'everything is finished'
        if len(unknown) == len(waiting):
            return f'{len(waiting)} to do; how long they take is known once one of each kind is finished'
        more = f', and {len(unknown)} of which none of their kind is finished yet' if unknown else ''
        return f'{len(waiting)} to do: about {known / 60:.0f} minutes, one after the other{more}'


def results_of(plan: Plan, evaluations: Sequence[CellEvaluation], k: int) -> MaskResults:
    """What is finished of one method.

    Args:
        plan: of the method.
        evaluations: the measurements of its cells and of random weights.
        k: number of neighbors of the accuracies in the table of cells.

    Raises:
        UsageError: a file in the folder of a cell is damaged.
    """
    read = [read_result(cell, k) for cell in plan.cells]
    return MaskResults(
        config=plan.base.stem,
        networks=(*dict.fromkeys(cell.group for cell in plan.cells), RANDOM),
        twins=plan.twins,
        settings={job.group: job.settings for job in plan.cells} | {job.measure: job.settings for job in evaluations},
        hits={(job.measure, job.group, job.seed): hits for job in evaluations if (hits := job.hits()) is not None},
        trained={
            (one.job.group, one.job.seed): TrainedCell(one.hidden, one.record.get('seconds'))
            for one in read
            if one.finished
        },
        method=plan.name,
    )


def _progress(plan: Plan) -> str:
    return f'{sum(cell.record().get("status") == FINISHED for cell in plan.cells)} of {len(plan.cells)}'


def _failed(evaluations: Sequence[CellEvaluation]) -> list[str]:
    rows = [
        [job.name, str(record.get('exit_code')), str(record.get('error'))]
        for job in evaluations
        if (record := job.record()).get('status') == FAILED
    ]
    return [markdown_rows(['failed measurement', 'exit code', 'error'], rows)] if rows else []


def _measurements(evaluations: Sequence[CellEvaluation]) -> str:
    rows = []
    for job in evaluations:
        record, hits = job.record(), job.hits()
        rows.append(
            dict(
                method=job.method,
                network=job.group,
                seed=job.seed,
                measurement=job.measure,
                metric=hits.metric if hits else None,
                status=record.get('status', 'waiting'),
                accuracy=hits.accuracy if hits else None,
                images=len(hits.hits) if hits else None,
                seconds=record.get('seconds'),
                error=record.get('error'),
                hits=job.hits_file,
                command=record.get('command'),
            )
        )
    return csv_rows(rows)
