"""The checkpoint that a run starts from, and whether it belongs to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.optim import OptimWrapper
from torch import nn

from mstkit.engine.checkpointing import check_same_model, load_what_fits, weights_of
from mstkit.engine.distributed import on_rank_zero
from mstkit.engine.newest_checkpoint import Newest, find_newest, what_is_missing
from mstkit.engine.progress import StepCounter
from mstkit.errors import UsageError
from mstkit.interop.checkpoint import read_checkpoint


@dataclass
class Start:
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


def find_start(
    work_dir: str, load_from: str | None, resume: bool, run: str | None = None, more: Sequence[Path] = ()
) -> Start:
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
            return Start()
        newest = Newest()

        def choose() -> tuple[Path | None, list[str]]:
            nonlocal newest
            newest = find_newest(work_dir, run, more)
            return newest.path, newest.notes

        path, notes = on_rank_zero(choose)
        checkpoint = newest.checkpoint
        if path is not None and checkpoint is None:
            checkpoint = read_checkpoint(path)
        return Start(path, checkpoint, resume, notes=notes)
    if '://' in str(load_from):
        raise UsageError(f'load_from={load_from!r} is not a file: download it first and give its path.')
    path, checkpoint = Path(load_from), read_checkpoint(load_from)
    absent = what_is_missing(checkpoint) if resume else []
    if absent:
        raise UsageError(
            f'{path} cannot be resumed from: it holds no {", ".join(absent)}. To start a new run from its weights, '
            f'use --cfg-options load_from={path} instead of --resume.'
        )
    return Start(path, checkpoint, resume, named=True)


def check_start(start: Start, model: nn.Module, counter: StepCounter | None, wrapper: OptimWrapper | None) -> None:
    """Refuses to start from a checkpoint that does not belong to this run.

    Raises:
        UsageError: another model, another optimizer, or epochs of another length.
    """
    if start.checkpoint is None or start.path is None:
        return
    if not start.resume:
        load_what_fits(model.state_dict(), weights_of(start.checkpoint), start.path)
        return
    check_same_model(model.state_dict(), weights_of(start.checkpoint), start.path)
    saved = start.checkpoint['meta'].get('counter')
    if saved is not None and counter is not None:
        for name, now in (
            ('iters_per_epoch', counter.iters_per_epoch),
            ('accumulative_counts', counter.accumulative_counts),
        ):
            if saved[name] != now:
                raise UsageError(
                    f'{start.path} was trained with {name}={saved[name]}, this run has {now}: resume with the same data'
                    ', number of processes, batch size and accumulation, or start a new run with '
                    f'--cfg-options load_from={start.path}.'
                )
    if wrapper is not None:
        groups = [len(group['params']) for group in start.checkpoint['optimizer'].get('param_groups', [])]
        if groups != [len(group['params']) for group in wrapper.optimizer.param_groups]:
            raise UsageError(
                f'the optimizer of {start.path} has other parameter groups than this run: resume with the optim_wrapper'
                f' settings of that run, or start a new run with --cfg-options load_from={start.path}.'
            )
