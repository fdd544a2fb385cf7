"""Checkpoints of which at least one good one is always on the disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from mstkit.engine.distributed import unwrapped
from mstkit.engine.hooks.progress_hook import optimizer_stepped
from mstkit.engine.sharding import is_sharded
from mstkit.errors import UsageError
from mstkit.files import remove_leftovers, write_atomically
from mstkit.interop.sharded_checkpoint import SUFFIX
from mstkit.registry import HOOKS


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's hook with another order of events: write the new checkpoint, then remove the oldest one.

    mmengine removes first, so a run killed in between is left without its oldest checkpoint, and with
    ``max_keep_ckpts=1`` without any. The file ``last_checkpoint`` is replaced in one step as well. With
    ``by_epoch=False`` a checkpoint that falls inside an accumulation window waits for its optimizer step, because
    gradients are not saved.

    Args:
        interval: epochs (or iterations) between checkpoints.
        by_epoch: what ``interval`` counts.
        max_keep_ckpts: how many checkpoints stay; -1 keeps all.
        kwargs: the other arguments of mmengine's ``CheckpointHook``.

    Raises:
        UsageError: ``max_keep_ckpts=0``, or a storage backend (only local folders can be written atomically).
    """

    def __init__(self, interval: int = 1, by_epoch: bool = True, max_keep_ckpts: int = -1, **kwargs) -> None:
        if max_keep_ckpts == 0 or max_keep_ckpts < -1:
            raise UsageError(f'checkpoint.max_keep_ckpts must be 1 or more, or -1 for all, but is {max_keep_ckpts}.')
        for name in ('backend_args', 'file_client_args'):
            if kwargs.get(name) is not None:
                raise UsageError(f'checkpoint.{name} is not supported: checkpoints are written to a local folder.')
        super().__init__(interval=interval, by_epoch=by_epoch, max_keep_ckpts=max_keep_ckpts, **kwargs)
        self._overdue = False

    def before_train(self, runner) -> None:
        """Finds the folder, and removes what a killed run left half-written in it."""
        super().before_train(runner)
        if is_sharded(unwrapped(runner.model)):
            self.filename_tmpl: str = str(Path(self.filename_tmpl).with_suffix(SUFFIX))
        if is_main_process():
            for leftover in remove_leftovers(self.out_dir):
                runner.logger.info(f'Removed {leftover}, which a killed run had left half-written.')

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Saves every ``interval`` iterations, at the next optimizer step."""
        if self.by_epoch:
            return
        due = self.every_n_train_iters(runner, self.interval, self.save_begin)
        due = due or (self.save_last and self.is_last_train_iter(runner))
        self._overdue = self._overdue or due
        if self._overdue and optimizer_stepped(runner.optim_wrapper):
            self._overdue = False
            runner.logger.info(f'Saving checkpoint at {runner.iter + 1} iterations')
            self._save_checkpoint(runner)

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        path = Path(self.out_dir) / self.filename_tmpl.format(step)
        self.last_ckpt = str(path)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        kept: list[int] = []
        if self.max_keep_ckpts > 0:
            # The one to be removed stays in the saved list: if we are killed before removing it, the resumed run does.
            kept = [other for other in self.keep_ckpt_ids if other != step] + [step]
            runner.message_hub.update_info('keep_ckpt_ids', list(kept))
        runner.save_checkpoint(
            self.out_dir,
            path.name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
        )
        if is_main_process():
            write_atomically(Path(runner.work_dir) / 'last_checkpoint', self.last_ckpt.encode())
        if self.max_keep_ckpts > 0:
            for expired in kept[: -self.max_keep_ckpts]:
                stale = os.path.join(self.out_dir, self.filename_tmpl.format(expired))
                if is_main_process() and os.path.isdir(stale):
                    shutil.rmtree(stale)
                elif is_main_process() and os.path.isfile(stale):
                    os.remove(stale)
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept[-self.max_keep_ckpts :])
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
