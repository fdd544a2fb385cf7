"""A checkpoint hook that always keeps at least one complete checkpoint on the disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mstkit.engine.hooks.progress_hook import optimizer_stepped
from mstkit.engine.parallel.distributed import unwrapped
from mstkit.errors import UsageError
from mstkit.interop.sharded_checkpoint import SUFFIX
from mstkit.registry import HOOKS
from mstkit.utils.checks import check_count
from mstkit.utils.files import remove_leftovers, write_atomically
from mstkit.utils.local_shards import is_sharded

# In the message hub: what was written when a signal came. Its beginning makes it follow a work dir that is moved.
AT_STOP = 'last_ckpt_at_stop'


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, but it writes the new checkpoint before it removes the oldest one.

    mmengine removes first, so that a run killed in between has lost its oldest checkpoint, and with
    ``max_keep_ckpts=1`` its only one; the same is true for the best checkpoint (``save_best``). The file
    ``last_checkpoint`` is replaced atomically too. With ``by_epoch=False``, a checkpoint due inside an accumulation
    window is saved after its optimizer step, because gradients are not saved.

    :class:`mstkit.engine.runner.mst_runner.MSTRunner` uses it if a config has ``CheckpointHook`` or no such hook.

    Args:
        interval: epochs (or iterations) between checkpoints.
        by_epoch: whether ``interval`` counts epochs or iterations.
        max_keep_ckpts: the number of checkpoints to keep; -1 keeps all.
        kwargs: the other arguments of mmengine's ``CheckpointHook``.

    Raises:
        UsageError: ``max_keep_ckpts=0``, or a storage backend (only local folders can be written atomically).
    """

    def __init__(self, interval: int = 1, by_epoch: bool = True, max_keep_ckpts: int = -1, **kwargs: Any) -> None:
        if max_keep_ckpts == 0 or max_keep_ckpts < -1:
            raise UsageError(f'checkpoint.max_keep_ckpts must be 1 or more, or -1 for all, but is {max_keep_ckpts}.')
        for name in ('backend_args', 'file_client_args'):
            if kwargs.get(name) is not None:
                raise UsageError(f'checkpoint.{name} is not supported: checkpoints are written to a local folder.')
        if interval != -1:  # -1: never
            check_count('checkpoint.interval', interval, 1)
        check_count('checkpoint.save_begin', kwargs.get('save_begin', 0), 0)
        try:
            super().__init__(interval=interval, by_epoch=by_epoch, max_keep_ckpts=max_keep_ckpts, **kwargs)
        except (ValueError, TypeError, AssertionError, KeyError) as error:
            given = ', '.join(f'{name}={value!r}' for name, value in kwargs.items())
            raise UsageError(f'checkpoint: mmengine cannot save with {given}: {error}') from error
        self._overdue = False

    def before_train(self, runner: Runner) -> None:
        """Sets ``out_dir``, and removes partial files of a killed run there, in the work dir and in its subfolders."""
        super().before_train(runner)
        if is_sharded(unwrapped(runner.model)):
            self.filename_tmpl: str = str(Path(self.filename_tmpl).with_suffix(SUFFIX))
        if is_main_process():
            own = Path(runner.work_dir)
            for folder in dict.fromkeys([Path(self.out_dir), own, *filter(Path.is_dir, own.glob('*'))]):
                for leftover in remove_leftovers(folder):
                    runner.logger.info(f'Removed {leftover}, which a killed run had left half-written.')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
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

    def save_at_stop(self, runner: Runner) -> None:
        """Saves after the current iteration, whether a checkpoint is due or not; called when a signal stops the run.

        A run that saves by epochs gets ``iter_N.pth``, which is removed when the next checkpoint is complete.
        """
        if self.interval == -1:
            return
        if not self.by_epoch:
            self._save_checkpoint(runner)
            return
        path = Path(self.out_dir) / f'iter_{runner.iter + 1}{Path(self.filename_tmpl).suffix}'
        runner.message_hub.update_info(AT_STOP, str(path))
        runner.save_checkpoint(
            self.out_dir,
            path.name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            by_epoch=False,
        )
        if is_main_process():
            write_atomically(Path(runner.work_dir) / 'last_checkpoint', str(path).encode())

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Saves a better checkpoint before it removes the old best one; mmengine removes the old one first."""
        if not self.save_best:
            return
        old = self._best_paths()
        self._set_best_paths(dict.fromkeys(old))  # so that mmengine finds nothing to remove
        super()._save_best_checkpoint(runner, metrics)
        new = self._best_paths()
        for key, path in old.items():
            if new.get(key) is None:
                new[key] = path
            elif path is not None and path != new[key] and is_main_process():
                _remove(path)
        self._set_best_paths(new)

    def _best_paths(self) -> dict[str, str | None]:
        """The path of the best checkpoint by metric."""
        single = len(self.key_indicators) == 1
        return {'': self.best_ckpt_path} if single else dict(self.best_ckpt_path_dict)

    def _set_best_paths(self, paths: dict[str, str | None]) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths['']
        else:
            self.best_ckpt_path_dict = paths

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        path = Path(self.out_dir) / self.filename_tmpl.format(step)
        self.last_ckpt = str(path)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        kept: list[int] = []
        if self.max_keep_ckpts > 0:
            # The saved list includes the checkpoint to be removed: if the run is killed before, a resumed run does it.
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
            at_stop = runner.message_hub.get_info(AT_STOP)
            if at_stop and at_stop != self.last_ckpt:
                _remove(at_stop)
        if self.max_keep_ckpts > 0:
            for expired in kept[: -self.max_keep_ckpts]:
                if is_main_process():
                    _remove(os.path.join(self.out_dir, self.filename_tmpl.format(expired)))
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept[-self.max_keep_ckpts :])
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))


def _remove(path: str) -> None:
    """Removes a checkpoint, which is a folder for a sharded model."""
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.isfile(path):
        os.remove(path)
