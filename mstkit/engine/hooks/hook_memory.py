"""Base class of hooks that accumulate state over many iterations, and restore it when a run is resumed."""

from __future__ import annotations

from typing import Any

from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner

KEY = 'hooks'  # key in a checkpoint: for each hook, by its class's name, the states of all processes


class RememberingHook(Hook):
    """A hook whose state, one per process, is saved in every checkpoint.

    Subclasses return it in :meth:`memory` and restore it in :meth:`recall`. It is restored before the first epoch of a
    resumed run, if the run resumes at the checkpoint's iteration with the same number of processes; otherwise the hook
    starts anew.
    """

    def __init__(self) -> None:
        super().__init__()
        self._gathered: list[Any] | None = None
        self._saved: dict[str, Any] | None = None

    def memory(self, inside_epoch: bool) -> Any:
        """The state to be saved, as tensors and plain data; None for none.

        Args:
            inside_epoch: the checkpoint is written before the end of an epoch, which a resumed run then completes.
        """
        raise NotImplementedError(f'{type(self).__name__} has no memory()')

    def recall(self, memories: list[Any], rank: int) -> None:
        """Restores the state.

        Args:
            memories: the saved states of all processes, in the order of their ranks.
            rank: the rank of this process.
        """
        raise NotImplementedError(f'{type(self).__name__} has no recall()')

    def before_gathering_checkpoint(self, runner: Runner, inside_epoch: bool) -> None:
        """Gathers the states of all processes; our Runner calls it on all of them."""
        self._gathered = dist.all_gather_object(self.memory(inside_epoch))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Puts the states into the checkpoint."""
        if self._gathered is None:  # mmengine's Runner: it calls this on all processes, ours only on those that write
            inside = checkpoint['meta']['epoch'] == runner.epoch and bool(checkpoint['meta']['iter'] > 0)
            self._gathered = dist.all_gather_object(self.memory(inside))
        gathered, self._gathered = self._gathered, None
        if any(one is not None for one in gathered):
            saved_hooks = checkpoint.setdefault(KEY, {})
            saved_hooks[type(self).__name__] = dict(iter=checkpoint['meta']['iter'], memories=gathered)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keeps the saved states for :meth:`before_train`."""
        self._saved = (checkpoint.get(KEY) or {}).get(type(self).__name__)

    def before_train(self, runner: Runner) -> None:
        """Restores the state if the run resumes at the iteration of the checkpoint."""
        saved, self._saved = self._saved, None
        if saved and runner.iter == saved['iter'] > 0 and len(saved['memories']) == dist.get_world_size():
            self.recall(saved['memories'], dist.get_rank())
