"""Starts a run from a pre-trained backbone, in mstkit's Runner and in mmengine's."""

from __future__ import annotations

from os import PathLike
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint
from torch import nn

from mstkit.engine.checkpoints.checkpointing import check_same_model, weights_of
from mstkit.engine.checkpoints.resumable_runner import ResumableRunner
from mstkit.engine.parallel.distributed import unwrapped
from mstkit.engine.parallel.sharding import spread_like
from mstkit.errors import UsageError
from mstkit.formats import read_pretrained
from mstkit.interop.checkpoint import BRANCH_PREFIXES, only_branch
from mstkit.interop.pretrained import fit_backbone
from mstkit.models import interface_of
from mstkit.registry import HOOKS
from mstkit.utils.checks import check_flag, check_one_of
from mstkit.utils.home_folder import expanded
from mstkit.utils.local_shards import is_sharded
from mstkit.utils.private_attributes import is_resumed, loaded_from


@HOOKS.register_module()
class PretrainedBackboneHook(Hook):
    """Loads the backbone of a checkpoint before training; see :func:`mstkit.interop.load_backbone`.

    The file may be of another program, see :func:`mstkit.formats.read_pretrained`. In a pre-training, the teacher
    starts from the same backbone.

    It is loaded after ``init_weights``, which would overwrite parts of it. A run that is resumed, or that has
    ``load_from``, does not load it. With mmengine's own Runner, which ignores missing and unexpected tensors, the hook
    refuses a checkpoint of another model (:class:`mstkit.engine.runner.mst_runner.MSTRunner` does so itself). The run's
    checkpoints record the file in ``message_hub``, ``runtime_info``, ``pretrained``.

    Args:
        checkpoint: the file, read early so that errors show before anything is written; None trains from scratch. A
            missing file is an error only when it is needed, which it is not for testing and resuming.
        branch: ``'student'`` or ``'teacher'``.
        partial: take what fits of another network, and list in the log what stays as initialized and what is not used.
            Without it, a backbone is loaded completely or not at all.

    Raises:
        UsageError: the file cannot be read, holds code, or has no such branch.
    """

    # Before other hooks copy or draw the weights.
    priority = 'VERY_HIGH'

    def __init__(
        self, checkpoint: str | PathLike[str] | None = None, branch: str = 'student', partial: bool = False
    ) -> None:
        self.checkpoint = checkpoint
        self.partial = check_flag('PretrainedBackboneHook.partial', partial)
        self.branch = check_one_of('PretrainedBackboneHook.branch', branch, BRANCH_PREFIXES)
        self._has_weights = False
        self._content: dict[str, Any] | None = None
        if checkpoint is not None and expanded(checkpoint).exists():
            self._content = self._read()

    def _read(self) -> dict[str, Any]:
        """Reads the file, and keeps the chosen branch only."""
        assert self.checkpoint is not None
        whole = read_pretrained(self.checkpoint)
        try:
            return only_branch(whole, self.branch)
        except UsageError as error:
            raise UsageError(
                f'{self.checkpoint}: {error} Give a checkpoint of a pre-training, and a branch that it has.'
            ) from error

    def check(self, model: nn.Module) -> None:
        """Refuses a model that the checkpoint does not fit; nothing is loaded.

        Args:
            model: the whole model.

        Raises:
            UsageError: the file is missing, the backbone is not the one of the checkpoint, or the model has none.
        """
        if self.checkpoint is not None:
            content = self._content or self._read()  # raises UsageError if the file is missing
            fit_backbone(self._backbone_of(model), content, self.branch, str(self.checkpoint), self.partial)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Under mmengine's Runner, checks that a resumed or ``load_from`` checkpoint fits the whole model.

        Raises:
            UsageError: names are missing or shapes differ, or, when resuming, there are unexpected names.
        """
        self._has_weights = True
        if isinstance(runner, ResumableRunner):
            return
        own, weights = unwrapped(runner.model).state_dict(), weights_of(checkpoint)
        if is_resumed(runner):
            source = loaded_from(runner) or find_latest_checkpoint(runner.work_dir)
            check_same_model(own, weights, source or 'the checkpoint')
            return
        # With load_from, unexpected tensors do no harm, and mmengine lists them.
        source = loaded_from(runner) or 'the checkpoint'
        try:
            check_same_model(own, {name: weights[name] for name in weights if name in own}, source)
        except UsageError as error:
            raise UsageError(
                f'{error} To take its backbone alone, use PretrainedBackboneHook (--pretrained) instead of load_from.'
            ) from error

    def before_train(self, runner: Runner) -> None:
        """Loads the backbone, unless a checkpoint of the whole model has been loaded.

        Raises:
            UsageError: the backbone is not the one of the checkpoint, or the model has none.
        """
        content, self._content = self._content, None  # frees the memory
        if self._has_weights:
            if self.checkpoint is not None:
                runner.logger.info(f'{self.checkpoint} is not loaded: the run has loaded a checkpoint of its own')
            return
        if self.checkpoint is None:
            runner.logger.info('backbone: from scratch, no pre-trained checkpoint is given')
            return
        content = content or self._read()
        backbone = self._backbone_of(unwrapped(runner.model))
        weights, report = fit_backbone(backbone, content, self.branch, str(self.checkpoint), self.partial)
        own = backbone.state_dict()
        if is_sharded(backbone):
            weights = {name: spread_like(value, own[name]) for name, value in weights.items()}
        backbone.load_state_dict({**own, **weights}, strict=True)
        for line in report.lines():
            runner.logger.info(line)
        if interface_of(unwrapped(runner.model)).start_followers():
            runner.logger.info('  the teacher starts from the same backbone; heads, necks and decoder are new')
        note = dict(file=str(self.checkpoint), branch=self.branch, epoch=content['meta'].get('epoch'))
        runner.message_hub.update_info('pretrained', note)

    def _backbone_of(self, model: nn.Module) -> nn.Module:
        backbone = next(iter(interface_of(model).branches().values()), None)
        if backbone is None:
            raise UsageError(f'{type(model).__name__} has no backbone that {self.checkpoint} could be loaded into.')
        return backbone
