"""The folder that a training writes into: its own, for as long as it lasts, and free of what other runs left."""

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
    """Locks a work dir for a training and clears it; all processes of the run call its methods, the first one acts.

    Args:
        path: the folder; it is not made before :meth:`occupy`.
        hooks: the ``default_hooks`` of the run, one of which may keep the checkpoints elsewhere.

    Attributes:
        folders: where the run's checkpoints are.
        run: the id of the run that was last here, or, after :meth:`occupy`, of this one; None where nobody knows.
        notes: what was done, for the log.
    """

    def __init__(self, path: str | Path, hooks: Mapping[str, Any] | None) -> None:
        self.folders = folders_of(path, hooks)
        self.run: str | None = None
        self.notes: list[str] = []
        self._lock: WorkDirLock | None = None

    def enter(self) -> None:
        """Makes sure, before anything is read, that nobody trains in the folder; it is not made if it is missing.

        Raises:
            UsageError: another process does, or the folder cannot be written into.
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
        """Makes the folder this run's: locks it, and sets aside what an earlier run left, or what this one did later.

        Args:
            start: where this run starts from.

        Raises:
            UsageError: another process trains there.
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
        """Gives the folder back."""
        self._lock = None
