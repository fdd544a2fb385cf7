"""Hooks that every training gets, so that a run that fails does not overwrite or delete its good checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import CheckpointHook, Hook
from torch import nn

from mstkit.engine.hooks.checkpoint_hook import AtomicCheckpointHook
from mstkit.engine.hooks.guide_cache_hook import GuideCacheHook
from mstkit.engine.hooks.non_finite_hook import NonFiniteLossHook
from mstkit.engine.hooks.stop_signal_hook import StopSignalHook
from mstkit.engine.runner.preflight import build_hooks
from mstkit.models import CachedGuide, Pretrainer

NON_FINITE = 'non_finite'  # default_hooks.non_finite=None switches the check for NaN and infinity off


def guard_training(
    default_hooks: Mapping[str, Any] | None, custom_hooks: list[Any] | None
) -> tuple[dict[str, Any], list[Any]]:
    """Builds the hooks of a training, and adds those that protect its checkpoints.

    * :class:`NonFiniteLossHook`, unless the config has it already or sets ``default_hooks.non_finite=None``;
    * :class:`StopSignalHook`;
    * :class:`AtomicCheckpointHook` in place of mmengine's ``CheckpointHook``, which is mmengine's default.

    Args:
        default_hooks: of the config.
        custom_hooks: of the config.

    Returns:
        Both, built by :func:`mstkit.engine.runner.preflight.build_hooks`.

    Raises:
        UsageError: an unknown hook or a wrong argument.
    """
    given = dict(default_hooks or {})
    if _is_plain_checkpoint_hook(given.setdefault('checkpoint', dict(type='CheckpointHook', interval=1))):
        given['checkpoint'] = {**given['checkpoint'], 'type': AtomicCheckpointHook}
    named: dict[str, Any] = build_hooks(given)
    others: list[Any] = build_hooks(custom_hooks or [])
    if NON_FINITE not in given and not any(isinstance(hook, NonFiniteLossHook) for hook in (*named.values(), *others)):
        named[NON_FINITE] = NonFiniteLossHook()
    others.append(StopSignalHook())
    return named, others


def keep_scores(model: nn.Module, named: dict[str, Any], others: list[Any]) -> None:
    """Adds a :class:`GuideCacheHook` to the hooks of a model that is guided by kept scores, unless it is there."""
    guided = isinstance(model, Pretrainer) and isinstance(model.guide, CachedGuide)
    if guided and not any(isinstance(hook, GuideCacheHook) for hook in (*named.values(), *others)):
        named['guide_cache'] = GuideCacheHook()


def _is_plain_checkpoint_hook(hook: Hook | Mapping[str, Any] | None) -> bool:
    kind = hook.get('type') if isinstance(hook, Mapping) else None
    return kind is CheckpointHook or (isinstance(kind, str) and kind.removeprefix('mmengine.') == 'CheckpointHook')
