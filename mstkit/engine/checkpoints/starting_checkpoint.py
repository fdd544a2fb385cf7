"""The checkpoint that a run starts from, and whether it belongs to it."""

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
from mstkit.engine.optim.step_counts import StepCounter
from mstkit.engine.parallel.distributed import on_rank_zero
from mstkit.errors import UsageError
from mstkit.interop.checkpoint import read_checkpoint


@dataclass
class StartingCheckpoint:
    """Where a run starts from.

    Attributes:
        path: the checkpoint; None for a run from scratch.
        checkpoint: what it holds, on the CPU.
        resume: go on with that run, or only take its weights.
        named: the user named the checkpoint, rather than the work dir that it lies in.
        notes: what the user should know of the choice.
    """

    path: Path | None = None
    checkpoint: dict[str, Any] | None = None
    resume: bool = False
    named: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def meta(self) -> Mapping[str, Any]:
        """What a checkpoint that is resumed says of its run; empty for a new run."""
        return self.checkpoint['meta'] if self.resume and self.checkpoint is not None else {}


@dataclass
class Built:
    """What was built for a run before it starts.

    Attributes:
        model: with its first weights.
        config: of the whole run.
        data: the fingerprint of its training set.
        counter: how its iterations become steps; None where that is not known.
        wrapper: an optimizer as the run will have it; None where that is not known.
        schedules: how many it will have.
        by_epoch: it counts epochs, not iterations.
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
    """Reads the checkpoint that a run starts from; called by all processes, of which the first one chooses.

    Args:
        work_dir: where the run writes.
        load_from: the file that the user named.
        resume: go on with that run.
        run: the id of the run that was last in the work dir, where that is known.
        more: other folders that its checkpoints may lie in.

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
        return _sound(StartingCheckpoint(path, checkpoint, resume, notes=notes))
    if '://' in str(load_from):
        raise UsageError(f'load_from={load_from!r} is not a file: download it first and give its path.')
    path, checkpoint = Path(load_from), read_checkpoint(load_from)
    absent = what_is_missing(checkpoint) if resume else []
    if absent:
        raise _cannot(path, f'it holds no {", ".join(absent)}')
    return _sound(StartingCheckpoint(path, checkpoint, resume, named=True))


def _sound(start: StartingCheckpoint) -> StartingCheckpoint:
    """The start itself, if the place in the run that it names is one."""
    if start.meta and start.path is not None:
        try:
            check_place(start.meta)
        except UsageError as error:
            raise _cannot(start.path, str(error)) from error
    return start


def _cannot(path: Path, reason: str) -> UsageError:
    return UsageError(
        f'{path} cannot be resumed from: {reason}. To start a new run from its weights, use --cfg-options '
        f'load_from={path} instead of --resume.'
    )


def check_start(start: StartingCheckpoint, run: Built) -> list[str]:
    """Refuses to start from a checkpoint that does not belong to this run.

    Args:
        start: what it starts from.
        run: what was built for it.

    Returns:
        Lines for the log, about what is not as it was.

    Raises:
        UsageError: another model, another optimizer, epochs of another length, other settings or images, or a damaged
            part of the checkpoint.
    """
    if start.checkpoint is None or start.path is None:
        return []
    weights, own = weights_of(start.checkpoint), run.model.state_dict()
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
            check_optimizer(start.checkpoint['optimizer'], run.wrapper, meta['iter'])
            schedules = start.checkpoint.get('param_schedulers', [])
            check_schedules(schedules, None if run.config.get('accept_changes') else run.schedules)
    except UsageError as error:
        raise _cannot(path, str(error)) from error
    return check_changes(path, meta, run.config, run.data)


def _check_length(start: StartingCheckpoint, run: Built) -> None:
    saved, counter = start.meta.get('counter'), run.counter
    if not isinstance(saved, Mapping) or counter is None:
        return
    # A run that counts in iterations is one epoch of all of them, and may be made longer.
    now = dict(iters_per_epoch=counter.iters_per_epoch) if run.by_epoch else {}
    for name, value in {**now, 'accumulative_counts': counter.accumulative_counts}.items():
        if saved.get(name, value) != value:
            raise UsageError(
                f'{start.path} was trained with {name}={saved[name]}, this run has {value}: resume with the same data'
                ', number of processes, batch size and accumulation, or start a new run with '
                f'--cfg-options load_from={start.path}.'
            )
