"""Refuses names in a runner's settings that nothing reads, of which mmengine ignores most without a word."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.runner import set_random_seed
from torch.utils.data import DataLoader

from mstkit.engine.config.config_values import RUNNER_KEYS
from mstkit.errors import UsageError, nearest
from mstkit.registry import LOOPS
from mstkit.utils.build_errors import accepted_arguments, component_called

# What mmengine's Runner and our processes read of env_cfg; they have no function whose arguments these are.
ENVIRONMENT = ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit', 'cpu', 'lost_after', 'stuck_after')
SCALING = ('enable', 'base_batch_size')  # of auto_scale_lr
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
USUAL_LOOPS = {'val_cfg': 'ValLoop', 'test_cfg': 'TestLoop'}  # without a type
ALIKE = 0.9  # of 1; typing errors of one or two letters in names of this length
LONG = 8  # letters; shorter names are alike by chance


def check_names(settings: Mapping[str, Any]) -> None:
    """Refuses unknown names in the settings of a runner that are plain dicts, and misspelt names of the settings.

    Components (what has a ``type``) refuse theirs when they are built.

    Args:
        settings: the runner's, with the whole config as ``cfg``, if it was made of one.

    Raises:
        UsageError: with the dotted path of the name, and the names that are nearest to it.
    """
    _check_variables(settings.get('cfg') or {})
    _check('env_cfg', settings.get('env_cfg'), ENVIRONMENT)
    _check('randomness', settings.get('randomness'), _parameters(set_random_seed))
    _check('auto_scale_lr', settings.get('auto_scale_lr'), SCALING)
    for name in LOADERS:
        # mmengine takes one more, for a look at some batches of each epoch.
        _check(name, settings.get(name), [*_parameters(DataLoader.__init__), 'num_batch_per_epoch'])
    for name in ('train_cfg', *USUAL_LOOPS):
        _check_loop(name, settings.get(name))


def _check_loop(name: str, given: Any) -> None:
    if not isinstance(given, Mapping):
        return
    usual = 'ResumableEpochLoop' if given.get('by_epoch', True) else 'IterBasedTrainLoop'
    kind = given.get('type', USUAL_LOOPS.get(name, usual))
    loop = component_called(kind, LOOPS) if isinstance(kind, str) else kind
    if inspect.isclass(loop):
        own = [argument for argument in accepted_arguments(loop) if argument not in ('runner', 'dataloader')]
        _check(name, given, [*own, 'type', '_scope_', *([] if name in USUAL_LOOPS else ['by_epoch'])])


def _check(name: str, given: Any, known: Iterable[str]) -> None:
    """Refuses a key of a dict that is not known; what is no dict is refused elsewhere."""
    if not isinstance(given, Mapping):
        return
    known = sorted(set(known))
    for key in given:
        if key not in known:
            raise UsageError(
                f'{name}.{key}: nothing reads it.{nearest(str(key), known)} There are: {", ".join(known)}.'
            )


def _check_variables(config: Mapping[str, Any]) -> None:
    """Refuses a variable of a config whose name is nearly that of a setting; others may help to write the file."""
    for name in config:
        if name in RUNNER_KEYS or name.startswith('_') or len(name) < LONG:
            continue
        close = difflib.get_close_matches(name, RUNNER_KEYS, n=1, cutoff=ALIKE)
        rest = name.removeprefix(close[0]) if close else ''
        # `test_dataloader_flipped` is the name that somebody chose for a second one.
        if close and not (rest != name and (rest.startswith('_') or rest.isdigit())):
            raise UsageError(
                f'the config sets {name}, which nothing reads. Did you mean {close[0]}? If it is a variable that '
                'helps to write the file, give it a name that differs by more, or one that begins with "_".'
            )


def _parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != 'self']
