"""Starts a run from a pre-trained backbone, in mstkit's Runner and in mmengine's."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint
from torch import nn

from mstkit.engine.checkpoints.checkpointing import check_same_model, weights_of
from mstkit.engine.checkpoints.resumable_runner import ResumableRunner
from mstkit.engine.parallel.distributed import unwrapped
from mstkit.errors import UsageError
from mstkit.interop.checkpoint import BRANCH_PREFIXES, only_branch, read_checkpoint
from mstkit.interop.pretrained import fit_backbone, load_backbone
from mstkit.models import interface_of
from mstkit.registry import HOOKS
from mstkit.utils.checks import check_one_of
from mstkit.utils.private_attributes import is_resumed, loaded_from


@HOOKS.register_module()
class PretrainedBackboneHook(Hook):
    """Loads the backbone of a checkpoint before training; see :func:`mstkit.interop.load_backbone`.

    That is after ``init_weights``, which would overwrite some of it. A run that was resumed, or that has
    ``load_from``, keeps the weights that it has; mmengine's own Runner, which takes whatever a checkpoint happens to
    hold, is made to refuse one that lacks tensors or has others (:class:`mstkit.engine.runner.mst_runner.MSTRunner`
    does so itself). What a run started from is noted in its checkpoints: ``message_hub``, ``runtime_info``,
    ``pretrained``.

    Args:
        checkpoint: the file, read here so that a mistake shows before anything is written; None trains from scratch. A
            file that is not there is a mistake only where it is needed: who tests or resumes may do without it.
        branch: ``'student'`` or ``'teacher'``.

    Raises:
        UsageError: the file cannot be read, holds code, or has no such branch.
    """

    # Before other hooks copy or draw the weights.
    priority = 'VERY_HIGH'

    def __init__(self, checkpoint: str | PathLike[str] | None = None, branch: str = 'student') -> None:
        self.checkpoint = checkpoint
        self.branch = check_one_of('PretrainedBackboneHook.branch', branch, BRANCH_PREFIXES)
        self._has_weights = False
        self._content: dict[str, Any] | None = None
        if checkpoint is not None and Path(checkpoint).expanduser().exists():
            self._content = self._read()

    def _read(self) -> dict[str, Any]:
        """What of the file concerns this run."""
        assert self.checkpoint is not None
        whole = read_checkpoint(self.checkpoint)
        try:
            return only_branch(whole, self.branch)
        except UsageError as error:
            raise UsageError(
                f'{self.checkpoint}: {error} Give a checkpoint of a pre-training, and a branch that it has.'
            ) from error

    def check(self, model: nn.Module) -> None:
        """Refuses a model that the checkpoint does not fit; nothing is loaded.

        Args:
            model: the whole model, as it was built.

        Raises:
            UsageError: the file is missing, the backbone is not the one of the checkpoint, or the model has none.
        """
        if self.checkpoint is not None:
            content = self._content or self._read()  # says what is wrong with a file that is not there
            fit_backbone(self._backbone_of(model), content, self.branch, str(self.checkpoint))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compares what is resumed, or loaded by ``load_from``, with the whole model.

        Raises:
            UsageError: names are missing or shapes differ; on a resume also where names are left over.
        """
        self._has_weights = True
        if isinstance(runner, ResumableRunner):
            return
        own, weights = unwrapped(runner.model).state_dict(), weights_of(checkpoint)
        if is_resumed(runner):
            source = loaded_from(runner) or find_latest_checkpoint(runner.work_dir)
            check_same_model(own, weights, source or 'the checkpoint')
            return
        # What is left over does no harm, and mmengine lists it.
        source = loaded_from(runner) or 'the checkpoint'
        try:
            check_same_model(own, {name: weights[name] for name in weights if name in own}, source)
        except UsageError as error:
            raise UsageError(
                f'{error} To take its backbone alone, use PretrainedBackboneHook (--pretrained) instead of load_from.'
            ) from error

    def before_train(self, runner: Runner) -> None:
        """Loads the backbone, unless the model has got its weights from a checkpoint of its own.

        Raises:
            UsageError: the backbone is not the one of the checkpoint, or the model has none.
        """
        content, self._content = self._content, None  # frees the memory
        if self._has_weights:
            if self.checkpoint is not None:
                runner.logger.info(f'{self.checkpoint} is not loaded: the run goes on from a checkpoint of its own')
            return
        if self.checkpoint is None:
            runner.logger.info('backbone: from scratch, no pre-trained checkpoint is given')
            return
        content = content or self._read()
        backbone = self._backbone_of(unwrapped(runner.model))
        report = load_backbone(backbone, content, self.branch, str(self.checkpoint))
        for line in report.lines():
            runner.logger.info(line)
        note = dict(file=str(self.checkpoint), branch=self.branch, epoch=content['meta'].get('epoch'))
        runner.message_hub.update_info('pretrained', note)

    def _backbone_of(self, model: nn.Module) -> nn.Module:
        backbone = next(iter(interface_of(model).branches().values()), None)
        if backbone is None:
            raise UsageError(f'{type(model).__name__} has no backbone that {self.checkpoint} could be loaded into.')
        return backbone
