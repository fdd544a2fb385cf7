"""Evaluates a checkpoint with the evaluation settings of its config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config

from mstkit.engine.checkpoints.checkpointing import plain
from mstkit.engine.config.trackers import without_trackers
from mstkit.engine.hooks import KNNHook
from mstkit.engine.launch.launch import build_runner
from mstkit.engine.parallel.distributed import unwrapped
from mstkit.engine.runner.mst_runner import MSTRunner
from mstkit.errors import UsageError
from mstkit.interop.checkpoint import read_checkpoint
from mstkit.utils.config_parts import hook_configs


def measure_checkpoint(config: Config, checkpoint: str | Path) -> dict[str, Any]:
    """Loads a checkpoint into the model of a config (all weights have to match) and evaluates it.

    Args:
        config: from :func:`mstkit.engine.launch.launch.load_config`; its training settings are removed.
        checkpoint: the file.

    Returns:
        For a pre-trained model, k-NN accuracies in percent by branch, such as
        ``{'student': {'k20_top1': 70.1, ...}, ...}``; otherwise the metrics of the config's ``test_evaluator``.

    Raises:
        UsageError: not a checkpoint of this model, or the config has neither a KNNHook nor a ``test_evaluator``.
    """
    read_checkpoint(checkpoint)  # report a bad file before anything is built
    knn_hooks = [hook for _, hook in hook_configs(config) if str(hook.get('type')).split('.')[-1] == 'KNNHook']
    has_test = config.get('test_evaluator') is not None and config.get('test_dataloader') is not None
    if not knn_hooks and not has_test:
        raise UsageError(
            f'config {config.filename} has nothing to test with: neither a KNNHook nor a '
            'test_evaluator. tools/evaluation/knn.py takes a checkpoint and two folders of labeled images.'
        )
    for training in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr'):
        config[training] = None
    config.load_from, config.resume = None, False
    without_trackers(config)
    config.default_hooks = {}
    config.custom_hooks = [] if has_test else [{**knn_hooks[0], 'required': True}]
    runner = build_runner(config)
    runner.load_checkpoint(str(checkpoint), strict=True)
    # mmseg returns NumPy numbers, which cannot be written as JSON.
    return plain(runner.test()) if has_test else _knn(runner)


def _knn(runner: MSTRunner) -> dict[str, Any]:
    hook = next(hook for hook in runner.hooks if isinstance(hook, KNNHook))
    hook.before_run(runner)
    model = unwrapped(runner.model)
    return hook.accuracy(model, epoch=0)
