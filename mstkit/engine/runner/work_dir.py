"""Claims the work dir for a training: locks it and sets the files of earlier runs aside."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mstkit.engine.checkpoints.earlier_runs import finish_moves, folders_of, set_aside_later, set_aside_run
from mstkit.engine.checkpoints.starting_checkpoint import StartingCheckpoint
from mstkit.engine.checkpoints.work_dir_lock import WorkDirLock, is_used, lock_work_dir
from mstkit.engine.parallel.distributed import on_rank_zero
from mstkit.utils.output_paths import output_folder


class WorkDir:
    """Locks a work dir for a training and clears it; all processes call its methods, and only rank 0 acts.

    Args:
        path: the folder; it is not created before :meth:`occupy`.
        hooks: the ``default_hooks`` of the run, whose checkpoint hook may have another ``out_dir``.

    Attributes:
        folders: the work dir, and the other folder with the run's checkpoints, if any.
        run: the id of the last run in the work dir, or, after :meth:`occupy`, of this run; None if unknown.
        notes: lines for the log about what was done.
    """

    def __init__(self, path: str | Path, hooks: Mapping[str, Any] | None) -> None:
        self.folders = folders_of(path, hooks)
        self.run: str | None = None
        self.notes: list[str] = []
        self._lock: WorkDirLock | None = None

    def enter(self) -> None:
        """Locks the folder if it was used before, so that its checkpoints can be read; does not create it.

        Raises:
            UsageError: another process is training in the folder, or it is not writable.
        """
        self.run = on_rank_zero(self._enter)

    def _enter(self) -> str | None:
        for folder in self.folders:
            output_folder('the work dir', folder)
        if not is_used(self.folders[0]):
            return None
        self._lock = lock_work_dir(self.folders[0])
        finish_moves(self.folders[0])
        run = self._lock.read().get('run')
        return run if isinstance(run, str) else None

    def occupy(self, start: StartingCheckpoint) -> None:
        """Creates and locks the folder, and sets aside the files of an earlier run.

        Of a run that is resumed from a named checkpoint, only its later checkpoints are set aside.

        Args:
            start: the checkpoint that this run starts from.

        Raises:
            UsageError: another process is training in the folder.
        """
        self.run, self.notes = on_rank_zero(lambda: self._occupy(start))

    def _occupy(self, start: StartingCheckpoint) -> tuple[str, list[str]]:
        self._lock = lock_work_dir(self.folders[0])
        notes = [self._lock.warning] if self._lock.warning else []
        run = start.meta.get('run')
        goes_on = start.resume and start.path is not None
        here = goes_on and start.path.resolve().parent in [folder.resolve() for folder in self.folders]  # type: ignore[union-attr]
        if here or (goes_on and run is not None and run == self.run):
            notes += set_aside_later(self.folders, start.meta['iter']) if start.named else []
        else:
            notes += set_aside_run(self.folders)
        run = run if isinstance(run, str) else uuid.uuid4().hex[:12]
        self._lock.write(run=run)
        return run, notes

    def leave(self) -> None:
        """Unlocks the folder."""

        self._lock = None
