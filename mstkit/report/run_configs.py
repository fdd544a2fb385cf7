"""The config of a run: read as data without executing it, summarized, and compared with others."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mstkit.engine.config.config_values import flatten
from mstkit.errors import UsageError
from mstkit.interop.literal_config import parse_config_text
from mstkit.registry import MODELS
from mstkit.utils.trusted_config import registered


def read_config_file(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """Reads a config that mmengine saved.

    Returns:
        The config and None, or None and an error message.
    """
    try:
        return dict(parse_config_text(path.read_text(encoding='utf-8', errors='replace'))), None
    except OSError as error:
        return None, f'{path.name} cannot be read: {error.strerror}.'
    except UsageError:
        return None, f'{path.name} is not the complete config that a run saves; it is shown as text only.'


def part(config: Mapping[str, Any] | None, path: str) -> Any:
    """The value at a dotted path; None if there is none."""
    node: Any = config or {}
    for name in path.split('.'):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def argument(component: Any, name: str, default: Any = None) -> Any:
    """An argument of a model's component: the value in the config, else the default of its class."""
    if not isinstance(component, Mapping):
        return default
    if name in component:
        return component[name]
    kind = registered(str(component.get('type')), MODELS)  # does not import modules named by the config
    for cls in kind.__mro__ if isinstance(kind, type) else ():
        parameter = inspect.signature(cls.__init__).parameters.get(name)  # type: ignore[misc]
        if parameter is not None and parameter.default is not inspect.Parameter.empty:
            return parameter.default
    return default


def differences(configs: Sequence[Mapping[str, Any] | None]) -> list[tuple[str, list[str | None]]]:
    """The differences between configs: dotted path, and the value in each config (None if missing)."""
    flat = [flatten(config or {}) for config in configs]
    paths = dict.fromkeys(path for one in flat for path in one)
    rows = [(path, [one.get(path) for one in flat]) for path in paths]
    return [(path, values) for path, values in rows if len(set(values)) > 1]


def highlights(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The main settings of a run: (name, value)."""
    rows = [('method', _component(part(config, 'model')))]
    for name in ('backbone', 'masker', 'decoder', 'teacher', 'neck', 'head', 'patch_head', 'decode_head', 'roi_head'):
        component = part(config, f'model.{name}')
        if component:
            rows.append((name.replace('_', ' '), _component(component)))
        elif name == 'masker' and part(config, 'model.teacher') is not None:
            rows.append((name, 'none: nothing is hidden'))
    wrapper = part(config, 'optim_wrapper') or {}
    rows.append(('optimizer', _component(part(wrapper, 'optimizer'))))
    rest = {key: value for key, value in wrapper.items() if not isinstance(value, Mapping) and key != 'constructor'}
    rows.append(('optimizer wrapper', _component(rest)))
    schedule = part(config, 'param_scheduler') or []
    schedule = schedule if isinstance(schedule, list | tuple) else [schedule]
    rows.append(('schedules', '; '.join(_component(one, skip=('convert_to_iter_based',)) for one in schedule)))
    loader = part(config, 'train_dataloader') or {}
    rows.append(('batch per device', str(loader.get('batch_size', ''))))
    rows.append(('training data', _component(part(loader, 'dataset'), skip=('pipeline', 'metainfo'))))
    pipeline = part(loader, 'dataset.pipeline') or []
    rows.append(('views', '; '.join(_component(step, deep=True) for step in pipeline)))
    rows.append(('length', _component(part(config, 'train_cfg'))))
    rows.append(('randomness', _component(part(config, 'randomness'))))
    return [(name, value) for name, value in rows if value]


def _component(node: Any, skip: Sequence[str] = (), deep: bool = False) -> str:
    """A component as text: its type and its plain arguments, without those that are components themselves."""
    if isinstance(node, str):
        return node
    if not isinstance(node, Mapping):
        return ''
    words = []
    for key, value in node.items():
        plain = not isinstance(value, Mapping) or deep or 'type' not in value
        if key != 'type' and key not in skip and plain and not (isinstance(value, Mapping) and not value):
            words.append(f'{key} {_value(value)}')
    arguments = ', '.join(words if 'type' not in node or len(words) <= 12 else [*words[:12], '…'])
    return f'{node["type"]}: {arguments}' if node.get('type') and arguments else str(node.get('type') or arguments)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f'({", ".join(f"{key} {_value(inner)}" for key, inner in value.items())})'
    if isinstance(value, list | tuple):
        inner = ', '.join(_value(one) for one in value[:8])
        return f'[{inner}{", …" if len(value) > 8 else ""}]'
    return f'{value:g}' if isinstance(value, float) else str(value)
