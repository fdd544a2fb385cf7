"""Reads all records of a run in its work dir."""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mstkit.engine.checkpoints.run_events import NAME as EVENTS
from mstkit.errors import UsageError
from mstkit.experiments import FAILED, FINISHED
from mstkit.report.evaluation_results import Evaluation, read_evaluations
from mstkit.report.recorded_events import Events, read_events
from mstkit.report.run_configs import part, read_config_file
from mstkit.report.run_records import Scalars, by_epoch, read_json, read_lines, read_scalars

GOING, STOPPED, DIVERGED = 'still going', 'stopped', 'diverged'
SILENCE = 15 * 60  # a run without new files for this many seconds counts as stopped
SIGNS = ('*/*.log', 'train.log', 'knn.jsonl', 'collapse.jsonl', EVENTS)  # any of these shows that a folder is a run's
TRACES = ('*.jsonl', '*.pth', 'train.log', 'panels/*.png', '*/*.log', '*/vis_data/*')  # files written during training
_PANEL = re.compile(r'epoch_(\d+)\.png')
_CHECKPOINT = re.compile(r'(epoch|iter)_(\d+)\.pth')


@dataclass
class RunRecord:
    """The records of a run in its work dir.

    Attributes:
        folder: the work dir.
        name: of the run on the page.
        config: the complete config, or None.
        config_file: the file of the config.
        config_text: its text.
        scalars: scalars logged in training and validation.
        knn: records of ``knn.jsonl``.
        collapse: records of ``collapse.jsonl``.
        panels: images by epoch.
        evaluations: results below ``evaluation/``.
        events: content of ``events.jsonl``.
        job: ``cell.json`` or ``run.json`` of the tool that started it; empty otherwise.
        unit: ``'epoch'`` or ``'iteration'``, the unit of its length.
        length: planned length; None if unknown.
        reached: length so far, in the same unit.
        state: ``'finished'``, ``'failed'``, ``'still going'``, ``'stopped'`` or ``'diverged'`` (its losses or weights
            were not finite at the end, whatever length it reached).
        saved: its numbered checkpoints, by the iteration or epoch after which they were written.
        last_sign: when one of its files was last written, seconds since 1970.
        missing: sentences about what is missing or could not be read.
    """

    folder: Path
    name: str
    config: dict[str, Any] | None = None
    config_file: Path | None = None
    config_text: str = ''
    scalars: Scalars = field(default_factory=Scalars)
    knn: list[dict[str, Any]] = field(default_factory=list)
    collapse: list[dict[str, Any]] = field(default_factory=list)
    panels: dict[int, Path] = field(default_factory=dict)
    evaluations: list[Evaluation] = field(default_factory=list)
    events: Events = field(default_factory=Events)
    job: dict[str, Any] = field(default_factory=dict)
    unit: str = 'epoch'
    length: int | None = None
    reached: float = 0.0
    saved: dict[int, Path] = field(default_factory=dict)
    state: str = STOPPED
    last_sign: float = 0.0
    missing: list[str] = field(default_factory=list)

    @property
    def epoch_length(self) -> int | None:
        """Iterations per epoch; None if the run counts iterations, or if it is unknown."""
        if self.unit == 'iteration':
            return None
        if self.events.epoch_length:
            return self.events.epoch_length
        counted = [(r['epoch'], r['iter']) for r in self.knn if isinstance(r.get('iter'), int) and r['epoch'] > 0]
        return counted[-1][1] // counted[-1][0] if counted else None

    @property
    def error(self) -> str | None:
        """The recorded reason why the run stopped before its end; None without one."""
        if self.events.stop is not None:
            return self.events.stop.reason
        return str(self.job['error']) if self.job.get('error') else None

    def command(self) -> str:
        """The command that trains the run again from the start."""
        if isinstance(self.job.get('command'), str):
            return self.job['command']
        if self.config_file is None:
            return ''
        processes = self.events.processes
        several = part(self.config, 'launcher') not in (None, 'none') and processes > 1
        program = ['bash', 'tools/dist_train.sh'] if several else ['python', 'tools/train.py']
        words = [*program, str(self.config_file), *([str(processes)] if several else [])]
        words += ['--work-dir', f'{self.folder}_again']
        words += ['--seed', str(self.events.seed)] if self.events.seed is not None else []
        return shlex.join(words)


def read_run(folder: Path, name: str | None = None, now: float | None = None) -> RunRecord:
    """Reads a work dir; missing and damaged files are listed in ``missing`` of the result.

    Args:
        folder: the work dir.
        name: on the page; the folder's by default.
        now: the time, seconds since 1970.

    Raises:
        UsageError: no run has logged anything there.
    """
    stamps = sorted(path.parent.parent for path in folder.glob('*/vis_data/scalars.json'))
    if not folder.is_dir():
        raise UsageError(f'there is no folder {folder}.')
    if not stamps and not any(any(folder.glob(pattern)) for pattern in SIGNS):
        raise UsageError(
            f'{folder} holds no logs of a run: give a work dir of tools/train.py, tools/ablate.py or tools/transfer.py.'
        )
    run = RunRecord(folder, name or folder.resolve().name)
    _read_config(run)
    run.events = read_events(folder / EVENTS)
    if not run.events.recorded:
        run.missing.append(
            f'There is no {EVENTS}: environment, notes of the start, warnings and the reason of a stop are not '
            'recorded, as in runs of earlier versions and of other runners.'
        )
    run.scalars = read_scalars([stamp / 'vis_data' / 'scalars.json' for stamp in stamps])
    if not run.scalars.training:
        run.missing.append('No iteration of training was logged: there are no curves of losses.')
    run.job = next((job for file in ('cell.json', 'run.json') if isinstance(job := read_json(folder / file), dict)), {})
    run.unit = 'iteration' if part(run.config, 'train_cfg.max_iters') else 'epoch'
    length = part(run.config, f'train_cfg.max_{"iters" if run.unit == "iteration" else "epochs"}')
    run.length = length if isinstance(length, int) else None
    _read_measurements(run)
    run.evaluations, damaged = read_evaluations(folder / 'evaluation')
    run.missing += damaged
    _judge(run, time.time() if now is None else now)
    return run


def _read_config(run: RunRecord) -> None:
    """Reads the config that mmengine logged at the first start of the run; else the copy in the work dir."""
    found = [*sorted(run.folder.glob('*/vis_data/config.py')), *sorted(run.folder.glob('*.py'))]
    copies = sorted(run.folder.glob('*.py'))
    if not found:
        run.missing.append('There is no config: settings and computed schedules are not shown.')
        return
    run.config_text = found[0].read_text(encoding='utf-8', errors='replace')
    run.config, complaint = read_config_file(found[0])
    run.config_file = copies[0] if copies else found[0]
    run.missing += [complaint] if complaint else []


def _read_measurements(run: RunRecord) -> None:
    knn, collapse = read_lines(run.folder / 'knn.jsonl'), read_lines(run.folder / 'collapse.jsonl')
    run.knn = [r for r in by_epoch(knn) if isinstance(r.get('branches'), dict)]
    run.collapse = by_epoch(collapse)
    for name, damaged in (
        ('knn.jsonl', knn.damaged),
        ('collapse.jsonl', collapse.damaged),
        ('scalars.json', run.scalars.damaged),
        (EVENTS, run.events.damaged),
    ):
        if damaged:
            lines = 'line' if damaged == 1 else 'lines'
            run.missing.append(f'{damaged} {lines} of {name} could not be read, as of a run that was cut off.')
    pre_training = part(run.config, 'model.teacher') is not None or run.knn or run.collapse
    if pre_training and not run.knn:
        run.missing.append('There is no knn.jsonl: k-NN accuracy was not measured, or not yet.')
    if pre_training and not run.collapse:
        run.missing.append('There is no collapse.jsonl: no epoch has ended, or the run had no CollapseMonitorHook.')
    images = ((_PANEL.fullmatch(path.name), path) for path in (run.folder / 'panels').glob('*.png'))
    run.panels = dict(sorted((int(match[1]), path) for match, path in images if match))
    if pre_training and not run.panels:
        run.missing.append('There are no panels: the run had no PanelHook, or has drawn nothing yet.')


def _judge(run: RunRecord, now: float) -> None:
    """Determines the reached length and the state of a run."""
    checkpoints = ((_CHECKPOINT.fullmatch(path.name), path) for path in run.folder.glob('*.pth'))
    kind = 'iter' if run.unit == 'iteration' else 'epoch'
    run.saved = dict(sorted((int(match[2]), path) for match, path in checkpoints if match and match[1] == kind))
    reached = [*map(float, run.saved), *(float(record['epoch']) for record in [*run.knn, *run.collapse])]
    # Only files that are written after the last epoch show that it ended, not its iterations.
    at_end = run.length is not None and max(reached, default=0.0) >= run.length
    if run.scalars.training:
        last = run.scalars.training[-1]['iter']
        if run.unit == 'iteration':
            reached.append(last)
        elif run.epoch_length:
            reached.append(last / run.epoch_length)
    run.reached = max(reached, default=0.0)
    run.last_sign = max((path.stat().st_mtime for pattern in TRACES for path in run.folder.glob(pattern)), default=0.0)
    written, stop, silent = run.job.get('status'), run.events.stop, now - run.last_sign > SILENCE
    if run.scalars.divergence() or (stop and stop.diverged):
        run.state = DIVERGED
    elif written == FINISHED or (written is None and at_end and not stop):
        run.state = FINISHED
    elif stop and stop.interrupted:
        run.state = STOPPED
    elif written == FAILED or stop:
        run.state = FAILED
    else:
        run.state = STOPPED if silent else GOING
