"""Writing checkpoints atomically, and checking whether their weights fit a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub, print_log
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.interop.foreign_checkpoints import plain_names, recognize
from mstkit.utils.files import write_atomically


def save(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Writes, atomically, a checkpoint that ``torch.load(weights_only=True)`` can read.

    Raises:
        TypeError: something in it is neither a tensor nor plain data.
        DiskError: the file cannot be written, for example because the disk is full.
    """
    content = plain(checkpoint)
    write_atomically(path, lambda file: torch.save(content, file), _bytes_of(content))


def _bytes_of(value: Any) -> int:
    """The bytes of all tensors in a nested structure: about the size of the checkpoint on the disk."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return sum(_bytes_of(item) for item in inner)


def plain(value: Any) -> Any:
    """Converts a nested structure to CPU tensors, dicts, lists, tuples, numbers and strings.

    Raises:
        TypeError: it holds an object that cannot be converted.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if value is None or isinstance(value, bool | bytes):
        return value
    for kind in (int, float, str):  # and their subclasses, which weights_only=True does not load
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    raise TypeError(f'a {type(value).__name__} cannot be saved in a checkpoint')


def plain_part(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a mapping that :func:`plain` can convert; the names of the others are logged."""
    kept, left_out = {}, []
    for name, value in values.items():
        try:
            kept[name] = plain(value)
        except TypeError:
            left_out.append(name)
    if left_out:
        print_log(f'Not in the checkpoint, because not plain data: {", ".join(left_out)}.', logger='current', level=10)
    return kept


def hub_state(hub: MessageHub) -> dict[str, Any]:
    """The state of a message hub as plain data; entries that cannot be converted are left out and logged."""
    state = hub.state_dict()
    info = plain_part(state['runtime_info'])
    scalars = {
        name: dict(values=torch.as_tensor(buffer.data[0]), counts=torch.as_tensor(buffer.data[1]))
        for name, buffer in state['log_scalars'].items()
    }
    return dict(log_scalars=scalars, runtime_info=info)


def restore_hub(hub: MessageHub, state: Mapping[str, Any]) -> None:
    """Puts a state of :func:`hub_state` into a message hub."""
    scalars = {
        name: buffer
        if isinstance(buffer, HistoryBuffer)  # in a checkpoint of mmengine's own Runner
        else HistoryBuffer(buffer['values'].numpy(), buffer['counts'].numpy())
        for name, buffer in state['log_scalars'].items()
    }
    names = [*scalars, *state['runtime_info']]
    hub.load_state_dict(
        dict(log_scalars=scalars, runtime_info=state['runtime_info'], resumed_keys=dict.fromkeys(names, True))
    )


def rename_files(hub: MessageHub, work_dir: str | Path) -> None:
    """Makes a hub's paths of best and last checkpoint point into this work dir.

    Otherwise a resumed run would delete files of another folder, if the work dir was copied or moved.
    """
    for name, value in list(hub.runtime_info.items()):
        if name.startswith(('best_ckpt', 'last_ckpt')) and isinstance(value, str):
            hub.update_info(name, str(Path(work_dir) / Path(value).name))


def weights_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights in a checkpoint, without the prefixes that distributed training and ``torch.compile`` add."""
    weights = plain_names(checkpoint.get('state_dict', checkpoint))
    return {name: value for name, value in weights.items() if isinstance(value, Tensor)}


def check_same_model(own: Mapping[str, Tensor], other: Mapping[str, Tensor], source: str | Path) -> None:
    """Refuses weights of another model, and those of versions of mstkit without ``objectives`` in the model.

    Args:
        own: the model's state dict.
        other: the weights in the checkpoint.
        source: the file of the checkpoint, for the message.

    Raises:
        UsageError: names are missing or unexpected, or shapes differ; the first of each are named.
    """
    if _before_objectives(own, other):
        raise UsageError(
            f'{source} was written by an older version of mstkit, in which the parameters of necks, heads and decoder '
            'had other names, so that its run cannot be resumed: finish it with that version, or start a new run from '
            f'its backbones with --cfg-options load_from={source} instead of --resume (evaluations, and downstream '
            'configs with --pretrained, can use it as it is).'
        )
    problems = []
    for what, names in (
        ('missing', [name for name in own if name not in other]),
        ('unexpected', [name for name in other if name not in own]),
        ('of another shape', _other_shapes(own, other)),
    ):
        if names:
            problems.append(f'{len(names)} {what} ({_first(names)})')
    if problems:
        raise UsageError(
            f'{source} is a checkpoint of another model: {"; ".join(problems)}. Use the config that it was trained '
            'with (it is in the work dir of that run), or another checkpoint.'
            f'{"" if own.keys() & other.keys() else recognize(list(other))}'
        )


def _before_objectives(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether the weights are of an older mstkit, whose models had neck, head and decoder as direct attributes."""
    known = ('backbone.', 'teacher.backbone.', 'neck.', 'teacher.neck.')
    return (
        any(name.startswith('objectives.') for name in own)
        and not any(name.startswith('objectives.') for name in other)
        and all(any(name.startswith(prefix) for name in other) for prefix in known)
    )


def _other_shapes(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    return [
        f'{name} {tuple(other[name].shape)} instead of {tuple(value.shape)}'
        for name, value in own.items()
        if name in other and other[name].shape != value.shape
    ]


def _first(names: Iterable[str], count: int = 3) -> str:
    names = list(names)
    return ', '.join(names[:count]) + (', ...' if len(names) > count else '')


def load_what_fits(own: Mapping[str, Tensor], other: Mapping[str, Tensor], source: str | Path) -> str:
    """Checks weights with which a new run starts (``load_from``); some may be missing or unused.

    Returns:
        A sentence for the log with the numbers of loaded, missing and unused tensors.

    Raises:
        UsageError: no name occurs in the model, or a tensor has another shape than in the model.
    """
    common = [name for name in own if name in other]
    shapes = _other_shapes(own, other)
    if not common or shapes:
        found = f'shapes differ: {_first(shapes)}' if shapes else f'it holds {_first(other)}'
        kind = '' if common else recognize(list(other))
        raise UsageError(f'load_from={str(source)!r} does not fit this model: {found}.{kind}')
    missing = [name for name in own if name not in other]
    unused = [name for name in other if name not in own]
    detail = ''.join(
        f'; {len(names)} {what} ({_first(names)})'
        for what, names in (('stay as initialized', missing), ('not used', unused))
        if names
    )
    return f'Loaded {len(common)} tensors from {source}{detail}.'
