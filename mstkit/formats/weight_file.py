"""A file or folder of weights of whatever program: its tensors under flat names, and what is said beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mstkit.errors import UsageError
from mstkit.interop.checkpoint import read_checkpoint
from mstkit.interop.data_files import read_data, safetensors_metadata
from mstkit.interop.foreign_checkpoints import plain_name
from mstkit.interop.sharded_checkpoint import REST
from mstkit.utils.home_folder import expanded

CONFIG, PREPROCESSOR = 'config.json', 'preprocessor_config.json'
# In the order in which a folder is searched, as Hugging Face's and timm's loaders do.
WEIGHTS = (
    'model.safetensors',
    'model.safetensors.index.json',
    'pytorch_model.bin',
    'pytorch_model.bin.index.json',
    'open_clip_model.safetensors',
)
META = 'mstkit'  # the entry of safetensors' metadata that mstkit writes


class WeightFile(NamedTuple):
    """What is in a file or folder of weights.

    Attributes:
        path: of it.
        content: as it is nested in the file; of a folder, its tensors by name.
        tensors: all its tensors, with the keys of the dicts that they are in, joined by points.
        settings: of config.json beside them; empty where there is none.
        preprocessing: of preprocessor_config.json.
        meta: what mmengine or mstkit noted: config, epoch.
    """

    path: Path
    content: Mapping[str, Any]
    tensors: dict[str, Tensor]
    settings: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    meta: Mapping[str, Any]


def read_weight_file(path: str | os.PathLike[str]) -> WeightFile:
    """Reads a file, or a folder as Hugging Face, timm or a sharded training of mstkit writes it.

    Raises:
        UsageError: there is no such file, it holds no tensors, it is damaged, or a part of it is missing.
    """
    file = expanded(path)
    settings: dict[str, Any] = {}
    preprocessing: dict[str, Any] = {}
    meta: Any = {}
    content: Any
    if file.is_dir() and (file / REST).is_file():
        content = read_checkpoint(file)
    elif file.is_dir():
        settings, preprocessing = _read_json(file / CONFIG), _read_json(file / PREPROCESSOR)
        content = _read_folder(file)
        meta = _own_meta(file / WEIGHTS[0])
    else:
        if file.suffix == '.json':
            raise UsageError(f'{file} describes weights and has none: give the folder that it is in.')
        content = read_data(file)
        meta = _own_meta(file)
        beside = file.parent / CONFIG
        if file.name in WEIGHTS and beside.is_file():
            settings, preprocessing = _read_json(beside), _read_json(file.parent / PREPROCESSOR)
    tensors = dict(_flat(content))
    if not isinstance(content, Mapping) or not tensors:
        kind = f'keys {sorted(map(str, content))[:6]}' if isinstance(content, Mapping) else type(content).__name__
        raise UsageError(f'{file} holds no tensors by name (found {kind}), so it is no checkpoint.')
    if isinstance(content.get('meta'), Mapping):
        meta = content['meta']
    return WeightFile(file, content, tensors, settings, preprocessing, meta)


def _own_meta(file: Path) -> Mapping[str, Any]:
    text = safetensors_metadata(file).get(META)
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _read_folder(folder: Path) -> dict[str, Any]:
    present = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if present is None:
        raise UsageError(
            f'checkpoint {folder} is a folder without weights that are known ({", ".join(WEIGHTS[:4])}): give the path '
            'of a file, or the whole folder.'
        )
    if not present.endswith('.json'):
        return read_data(folder / present)
    parts = _read_json(folder / present).get('weight_map')
    if not isinstance(parts, dict) or not parts:
        raise UsageError(f'{folder / present} names no parts: fetch it again.')
    absent = sorted({str(part) for part in parts.values() if not (folder / Path(str(part)).name).is_file()})
    if absent:
        more = f' and {len(absent) - 1} more' if len(absent) > 1 else ''
        raise UsageError(f'{folder} is incomplete: {absent[0]}{more}, which {present} names, is missing.')
    found: dict[str, Any] = {}
    for part in sorted({Path(str(part)).name for part in parts.values()}):
        found |= read_data(folder / part)
    lost = [name for name in parts if name not in found]
    if lost:
        raise UsageError(f'{folder} is incomplete: {lost[0]}, which {present} names, is not in {parts[lost[0]]}.')
    return found


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UsageError(f'{file} is not readable as JSON ({error}): fetch it again.') from error
    if not isinstance(found, dict):
        raise UsageError(f'{file} holds {type(found).__name__}, not settings by name: fetch it again.')
    return found


def _flat(content: Any, prefix: str = '') -> list[tuple[str, Tensor]]:
    """All tensors in nested dicts with text as keys; what optimizers keep has numbers as keys and is left."""
    found: list[tuple[str, Tensor]] = []
    if isinstance(content, Mapping):
        for key, value in content.items():
            if isinstance(value, Tensor) and isinstance(key, str):
                found.append((prefix + plain_name(key), value))
            elif isinstance(key, str) and key not in ('optimizer', 'state'):
                found += _flat(value, f'{prefix}{key}.')
    return found
