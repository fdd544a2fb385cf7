"""Hooks that add something up over many iterations, and go on with it after a run is killed and resumed."""

from __future__ import annotations

from typing import Any

from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner

KEY = 'hooks'  # of a checkpoint: by name of the hook's class, what each process remembered


class RememberingHook(Hook):
    """A hook whose memory is part of every checkpoint, for each process its own.

    Subclasses give it away (:meth:`memory`) and take it back (:meth:`recall`). It is taken back before the first epoch
    of a resumed run, and only where the run goes on at the very iteration, with as many processes, at which the
    checkpoint was written: otherwise what it counts has begun anew.
    """

    def __init__(self) -> None:
        super().__init__()
        self._of_all: list[Any] | None = None
        self._saved: dict[str, Any] | None = None

    def memory(self, inside_epoch: bool) -> Any:
        """What to remember, as tensors and plain data; None for nothing.

        Args:
            inside_epoch: the checkpoint is written before the end of an epoch, which a resumed run then completes.
        """
        raise NotImplementedError(f'{type(self).__name__} does not say what it remembers')

    def recall(self, memories: list[Any], rank: int) -> None:
        """Takes up what was remembered.

        Args:
            memories: of all processes, in the order of their ranks.
            rank: of this process.
        """
        raise NotImplementedError(f'{type(self).__name__} does not take up what it remembered')

    def before_gathering_checkpoint(self, runner: Runner, inside_epoch: bool) -> None:
        """Brings the memories of all processes together; called on all of them by our Runner."""
        self._of_all = dist.all_gather_object(self.memory(inside_epoch))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Puts them into the checkpoint."""
        if self._of_all is None:  # mmengine's Runner calls this on all processes, ours on those that write
            inside = checkpoint['meta']['epoch'] == runner.epoch and bool(checkpoint['meta']['iter'] > 0)
            self._of_all = dist.all_gather_object(self.memory(inside))
        of_all, self._of_all = self._of_all, None
        if any(one is not None for one in of_all):
            place = checkpoint.setdefault(KEY, {})
            place[type(self).__name__] = dict(iter=checkpoint['meta']['iter'], memories=of_all)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Finds them there."""
        self._saved = (checkpoint.get(KEY) or {}).get(type(self).__name__)

    def before_train(self, runner: Runner) -> None:
        """Takes them up, where the run goes on from just there."""
        saved, self._saved = self._saved, None
        if saved and runner.iter == saved['iter'] > 0 and len(saved['memories']) == dist.get_world_size():
            self.recall(saved['memories'], dist.get_rank())
