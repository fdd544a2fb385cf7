"""Which settings may change when a run is resumed: a rule for every config key, and a comparison by these rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from mstkit.engine.config.config_values import flatten

TAKEN, LENGTH = 'taken', 'taken: the run ends there'
UNUSED = 'has no effect on a run that is resumed'
PLACE = 'taken, the images are the same'
SCHEDULE = 'not taken: the schedules keep the shape that they had, unless --accept-changes is given'
REFUSED = 'refused'
CHECKED = ''  # has no effect, or is checked elsewhere with its own message

# The first pattern that matches a dotted path decides; "*" matches anything, also dots. Hooks in custom_hooks have
# their type in the path instead of their index, which may change.
RULES: tuple[tuple[str, str], ...] = (
    # Weights come from the checkpoint that is resumed.
    ('default_hooks.pretrained*', UNUSED),
    ('custom_hooks.PretrainedBackboneHook*', UNUSED),
    ('model.*init_cfg*', UNUSED),
    ('model.init_cfg*', UNUSED),
    ('model.*pretrained', UNUSED),
    # Hooks and loops that only write, measure or guard.
    ('default_hooks.checkpoint*', TAKEN),
    ('default_hooks.logger*', TAKEN),
    ('default_hooks.timer*', TAKEN),
    ('default_hooks.runtime_info*', TAKEN),
    ('default_hooks.visualization*', TAKEN),
    ('default_hooks.non_finite*', TAKEN),
    ('default_hooks*', REFUSED),
    ('custom_hooks.CollapseMonitorHook*', TAKEN),
    ('custom_hooks.KNNHook*', TAKEN),
    ('custom_hooks.NonFiniteLossHook*', TAKEN),
    ('custom_hooks.PanelHook*', TAKEN),
    ('custom_hooks.UnreadableImageHook*', TAKEN),
    ('custom_hooks*', REFUSED),
    ('val_*', TAKEN),
    ('test_*', TAKEN),
    ('visualizer*', TAKEN),
    ('log_processor*', TAKEN),
    ('log_level', TAKEN),
    ('experiment_name', CHECKED),
    # Settings of speed and memory, which do not change results.
    ('env_cfg*', TAKEN),
    ('activation_checkpointing*', TAKEN),
    ('compile*', TAKEN),
    ('efficient_conv_bn_eval*', TAKEN),
    ('find_unused_parameters', TAKEN),
    ('model_wrapper_cfg*', TAKEN),
    ('model.*with_cp', TAKEN),
    ('train_dataloader.num_workers', TAKEN),
    ('train_dataloader.persistent_workers', TAKEN),
    ('train_dataloader.prefetch_factor', TAKEN),
    ('train_dataloader.pin_memory', TAKEN),
    ('train_dataloader.timeout', TAKEN),
    ('train_dataloader.*cache', TAKEN),
    ('train_dataloader.*lazy_init', TAKEN),
    ('train_dataloader.*serialize_data', TAKEN),
    # Settings of the optimizer: resumed_schedules.py gives it the new values.
    ('optim_wrapper.optimizer.type', REFUSED),
    ('optim_wrapper.optimizer.*', TAKEN),
    ('optim_wrapper.clip*', TAKEN),
    ('optim_wrapper.precision', TAKEN),
    ('optim_wrapper.dtype', TAKEN),
    ('optim_wrapper.loss_scale*', TAKEN),
    ('optim_wrapper*', REFUSED),
    ('auto_scale_lr*', TAKEN),
    ('param_scheduler*', SCHEDULE),
    ('train_cfg.max_epochs', LENGTH),
    ('train_cfg.max_iters', LENGTH),
    ('train_cfg.val_*', TAKEN),
    ('train_cfg.dynamic_intervals*', TAKEN),
    ('train_cfg*', REFUSED),
    # Model and training data.
    ('train_dataloader.*data_root', PLACE),
    ('train_dataloader.*data_prefix*', PLACE),
    ('train_dataloader.*ann_file', PLACE),
    ('train_dataloader.*shards*', PLACE),
    ('train_dataloader.*index', PLACE),
    ('train_dataloader*', REFUSED),
    ('model*', REFUSED),
    ('data_preprocessor*', REFUSED),
    ('sync_bn', REFUSED),
    ('default_scope', REFUSED),
    ('randomness.seed', CHECKED),
    ('randomness.deterministic', TAKEN),
    ('randomness*', REFUSED),
    ('cfg', CHECKED),
)
_ENDS = ('begin', 'end', 'T_max', 'total_iters', 'milestones', 'warmup')
_PRECISIONS = ({'OptimWrapper', 'AmpOptimWrapper'}, {'OptimWrapper'}, {'AmpOptimWrapper'})  # what --amp turns on or off


@dataclass(frozen=True)
class Difference:
    """A value that differs between two configs.

    Attributes:
        path: dotted.
        old: its ``repr`` in the checkpoint's config; None if it is missing there.
        new: its ``repr`` in this run's config; None if it is missing there.
        rule: one of this module's constants.
    """

    path: str
    old: str | None
    new: str | None
    rule: str

    def __str__(self) -> str:
        return f'{self.path}: {_short(self.old)} -> {_short(self.new)}'


def rule_of(path: str) -> str | None:
    """The rule of a dotted path; None if no pattern of :data:`RULES` matches."""
    return next((rule for pattern, rule in RULES if fnmatchcase(path, pattern)), None)


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Compares the config of a run with that of the checkpoint that it resumes.

    A list equals a tuple, None equals a missing value, and ``by_epoch=True`` equals ``type='ResumableEpochLoop'``.

    Args:
        old: the checkpoint's config.
        new: this run's config.

    Returns:
        The differences, in the order of the new config; a path without a rule is refused.
    """
    before, after = flatten(_normal(old)), flatten(_normal(new))
    found = []
    for path in dict.fromkeys([*after, *before]):
        values = before.get(path, 'None'), after.get(path, 'None')
        if values[0] == values[1]:
            continue
        rule = rule_of(path)
        rule = REFUSED if rule is None else rule
        if path == 'optim_wrapper.type' and {_type_name(value) for value in values} in _PRECISIONS:
            rule = TAKEN
        found.append(Difference(path, before.get(path), after.get(path), rule))
    # A new length changes the ends of the schedules; any other change of a schedule is refused.
    moves = _ENDS if any(one.rule == LENGTH for one in found) else ()
    return [
        Difference(one.path, one.old, one.new, REFUSED)
        if one.rule == SCHEDULE and one.path.split('.')[-1] not in moves
        else one
        for one in found
    ]


def _type_name(value: str) -> str:
    """The name of a type without quotes; a missing type is mmengine's default, OptimWrapper."""
    return 'OptimWrapper' if value == 'None' else value.strip('\'"')


def _normal(written: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = _plain(dict(written.items()))  # a copy; a Config is no Mapping
    if config.get('data_preprocessor') is not None and isinstance(config.get('model'), dict):
        config['model'].setdefault('data_preprocessor', config.pop('data_preprocessor'))
    loop = config.get('train_cfg')
    if isinstance(loop, dict) and loop.pop('by_epoch', None):
        loop.setdefault('type', 'ResumableEpochLoop')
    hooks = config.get('custom_hooks')
    if isinstance(hooks, list):
        config['custom_hooks'] = _by_type(hooks)
    randomness, loader = config.get('randomness'), config.get('train_dataloader')
    sampler = loader.get('sampler') if isinstance(loader, dict) else None
    if isinstance(sampler, dict) and isinstance(randomness, dict) and sampler.get('seed') == randomness.get('seed'):
        sampler.pop('seed', None)  # set by launch.set_environment
    return config


def _plain(node: Any) -> Any:
    """Copies a config as dicts, lists and values; types of mstkit lose their scope ``mstkit.``."""
    if isinstance(node, Mapping):
        return {
            str(key): value.removeprefix('mstkit.') if key == 'type' and isinstance(value, str) else _plain(value)
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return [_plain(item) for item in node]
    return node


def _by_type(hooks: list[Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for hook in hooks:
        kind = str(hook.get('type')) if isinstance(hook, dict) else str(hook)
        name = next(name for name in _numbered(kind) if name not in named)
        named[name] = hook
    return named


def _numbered(name: str) -> Any:
    yield name
    for number in range(2, 1000):
        yield f'{name}_{number}'


def _short(value: str | None) -> str:
    if value is None:
        return 'nothing'
    return value if len(value) <= 80 else f'{value[:77]}...'
