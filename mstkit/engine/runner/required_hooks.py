"""What every training gets without asking for it, so that a run which fails leaves its good checkpoints alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import CheckpointHook, Hook

from mstkit.engine.hooks.checkpoint_hook import AtomicCheckpointHook
from mstkit.engine.hooks.non_finite_hook import NonFiniteLossHook
from mstkit.engine.runner.preflight import build_hooks

NON_FINITE = 'non_finite'  # the name in default_hooks under which the guard is switched off: None


def guard_training(
    default_hooks: Mapping[str, Any] | None, custom_hooks: list[Any] | None
) -> tuple[dict[str, Any], list[Any]]:
    """Builds the hooks of a training, with those that protect its checkpoints.

    * :class:`NonFiniteLossHook`, unless the config has it or says ``default_hooks.non_finite=None``;
    * :class:`AtomicCheckpointHook` in the place of mmengine's ``CheckpointHook``, which is also its default.

    Args:
        default_hooks: of the config.
        custom_hooks: of the config.

    Returns:
        Both, as :func:`mstkit.engine.runner.preflight.build_hooks` gives them.

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
    return named, others


def _is_plain_checkpoint_hook(hook: Hook | Mapping[str, Any] | None) -> bool:
    kind = hook.get('type') if isinstance(hook, Mapping) else None
    return kind is CheckpointHook or (isinstance(kind, str) and kind.removeprefix('mmengine.') == 'CheckpointHook')
