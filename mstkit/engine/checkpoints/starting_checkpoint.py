"""Finds the checkpoint that a run starts from, and checks that it fits the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.optim import OptimWrapper
from torch import nn

from mstkit.engine.checkpoints.checkpointing import check_same_model, load_what_fits, weights_of
from mstkit.engine.checkpoints.newest_checkpoint import Newest, find_newest, what_is_missing
from mstkit.engine.checkpoints.resume_changes import check_changes
from mstkit.engine.checkpoints.resume_checks import check_hub, check_optimizer, check_place, check_schedules
from mstkit.engine.optim.merged_groups import regrouped
from mstkit.engine.optim.step_counts import StepCounter
from mstkit.engine.parallel.distributed import on_rank_zero
from mstkit.errors import UsageError
from mstkit.formats import read_pretrained
from mstkit.interop.checkpoint import BRANCH_PREFIXES, branches_of, read_checkpoint


@dataclass
class StartingCheckpoint:
    """The checkpoint that a run starts from.

    Attributes:
        path: of the checkpoint; None for a run from scratch.
        checkpoint: its content, on the CPU.
        resume: resume its run, rather than only load its weights.
        named: the user named the checkpoint; otherwise it was found in the work dir.
        notes: lines for the user about how it was chosen.
    """

    path: Path | None = None
    checkpoint: dict[str, Any] | None = None
    resume: bool = False
    named: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def meta(self) -> Mapping[str, Any]:
        """``meta`` of the checkpoint that is resumed; empty for a new run."""
        return self.checkpoint['meta'] if self.resume and self.checkpoint is not None else {}


@dataclass
class Built:
    """The parts of a run that are compared with the checkpoint before it starts.

    Attributes:
        model: the model.
        config: of the whole run.
        data: the fingerprint of the training set.
        counter: converts iterations to optimizer steps; None if unknown.
        wrapper: an optimizer wrapper like the run's; None if unknown.
        schedules: the number of schedules.
        by_epoch: the run counts epochs, not iterations.
    """

    model: nn.Module
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    counter: StepCounter | None = None
    wrapper: OptimWrapper | None = None
    schedules: int = 0
    by_epoch: bool = True


def find_start(
    work_dir: str, load_from: str | None, resume: bool, run: str | None = None, more: Sequence[Path] = ()
) -> StartingCheckpoint:
    """Finds and reads the checkpoint that a run starts from; every process calls it, and rank 0 chooses.

    Args:
        work_dir: of the run.
        load_from: the file that the user named; None searches ``work_dir`` if ``resume`` is set.
        resume: resume the checkpoint's run.
        run: the id of the last run in the work dir, if known.
        more: other folders that may hold its checkpoints.

    Raises:
        UsageError: the file is missing, is not a checkpoint, or cannot be resumed from.
    """
    if load_from is None:
        if not resume:
            return StartingCheckpoint()
        newest = Newest()

        def choose() -> tuple[Path | None, list[str]]:
            nonlocal newest
            newest = find_newest(work_dir, run, more)
            return newest.path, newest.notes

        path, notes = on_rank_zero(choose)
        checkpoint = newest.checkpoint
        if path is not None and checkpoint is None:
            checkpoint = read_checkpoint(path)
        return _with_checked_place(StartingCheckpoint(path, checkpoint, resume, notes=notes))
    if '://' in str(load_from):
        raise UsageError(f'load_from={load_from!r} is not a file: download it first and give its path.')
    path = Path(load_from)
    checkpoint = read_checkpoint(load_from) if resume else read_pretrained(load_from)
    absent = what_is_missing(checkpoint) if resume else []
    if absent:
        raise _cannot_resume(path, f'it holds no {", ".join(absent)}')
    return _with_checked_place(StartingCheckpoint(path, checkpoint, resume, named=True))


def _with_checked_place(start: StartingCheckpoint) -> StartingCheckpoint:
    """Returns ``start`` if its epoch and iteration are valid; raises UsageError otherwise."""
    if start.meta and start.path is not None:
        try:
            check_place(start.meta)
        except UsageError as error:
            raise _cannot_resume(start.path, str(error)) from error
    return start


def _cannot_resume(path: Path, reason: str) -> UsageError:
    return UsageError(
        f'{path} cannot be resumed from: {reason}. To start a new run from its weights, use --cfg-options '
        f'load_from={path} instead of --resume.'
    )


def check_start(start: StartingCheckpoint, run: Built) -> list[str]:
    """Refuses to start from a checkpoint that does not belong to this run.

    Args:
        start: the checkpoint.
        run: the parts of this run.

    Returns:
        Lines for the log about accepted differences.

    Raises:
        UsageError: the checkpoint has another model, optimizer, epoch length, settings or images, or is damaged.
    """
    if start.checkpoint is None or start.path is None:
        return []
    own = run.model.state_dict()
    if not start.resume:
        start.checkpoint = _for_both_branches(start.checkpoint, own)
    weights = weights_of(start.checkpoint)
    if not start.resume:
        load_what_fits(own, weights, start.path)
        return []
    check_same_model(own, weights, start.path)
    _check_length(start, run)
    meta, path = start.meta, start.path
    try:
        check_place(meta, run.counter, run.by_epoch)
        check_hub(start.checkpoint['message_hub'])
        if run.wrapper is not None:
            start.checkpoint = regrouped(start.checkpoint, run.wrapper, run.model) or start.checkpoint
            check_optimizer(start.checkpoint['optimizer'], run.wrapper, meta['iter'])
            schedules = start.checkpoint.get('param_schedulers', [])
            check_schedules(schedules, None if run.config.get('accept_changes') else run.schedules)
    except UsageError as error:
        raise _cannot_resume(path, str(error)) from error
    return check_changes(path, meta, run.config, run.data)


def _for_both_branches(checkpoint: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint of another program with one encoder, so that student and teacher of this model start from it."""
    present = branches_of(checkpoint)
    if 'kind' not in checkpoint.get('meta', {}) or len(present) != 1:
        return checkpoint
    one, other = (BRANCH_PREFIXES[branch] for branch in sorted(BRANCH_PREFIXES, key=lambda name: name != present[0]))
    state = dict(checkpoint['state_dict'])
    copies = {other + name.removeprefix(one): value for name, value in state.items() if name.startswith(one)}
    return {**checkpoint, 'state_dict': state | {name: value for name, value in copies.items() if name in own}}


def _check_length(start: StartingCheckpoint, run: Built) -> None:
    saved, counter = start.meta.get('counter'), run.counter
    if not isinstance(saved, Mapping) or counter is None:
        return
    # A run that counts in iterations is a single epoch, which may become longer.
    now = dict(iters_per_epoch=counter.iters_per_epoch) if run.by_epoch else {}
    for name, value in {**now, 'accumulative_counts': counter.accumulative_counts}.items():
        if saved.get(name, value) != value:
            raise UsageError(
                f'{start.path} was trained with {name}={saved[name]}, this run has {value}: resume with the same data'
                ', number of processes, batch size and accumulation, or start a new run with '
                f'--cfg-options load_from={start.path}.'
            )
