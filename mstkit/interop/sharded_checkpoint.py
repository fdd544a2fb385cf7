"""Sharded checkpoints: a folder with the shards of all tensors, in the format of ``torch.distributed.checkpoint``.

The folder also contains ``rest.pth``, an ordinary checkpoint file in which each tensor is replaced by a marker with its
name. Reading gives the same dict as an ordinary checkpoint, whatever the number of processes that wrote it. Nothing in
the files is executed: torch's metadata file is a pickle, which is read with an allow-list of classes.
"""

from __future__ import annotations

import importlib
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mstkit.errors import UsageError

SUFFIX = '.dcp'
REST = 'rest.pth'
_MARK = '__tensor__'
_METADATA = '.metadata'
_HOMES = ('torch.distributed.checkpoint.metadata', 'torch.distributed.checkpoint.filesystem')
_PLAIN = {
    ('torch', 'Size'),
    ('torch.serialization', '_get_layout'),
    ('torch._utils', '_rebuild_device'),
    ('collections', 'OrderedDict'),
    ('pathlib', 'PosixPath'),
    ('pathlib', 'Path'),
}


def take_tensors(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Moves the tensors of a nested structure into a flat dict and replaces them by markers.

    Args:
        value: nested dicts, lists and tuples.
        path: prefix of the names of its tensors.
        tensors: the flat dict, to which the tensors are added.

    Returns:
        The structure with markers.
    """
    if isinstance(value, Tensor):
        tensors[path] = value
        return {_MARK: path}
    if isinstance(value, Mapping):
        return {key: take_tensors(item, f'{path}/{key}', tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(take_tensors(item, f'{path}/{index}', tensors) for index, item in enumerate(value))
    return value


def _put_back(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {_MARK}:
            return tensors[value[_MARK]]
        return {key: _put_back(item, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_put_back(item, tensors) for item in value)
    return value


def _member(kind: Any, name: str) -> Enum:
    if not (isinstance(kind, type) and issubclass(kind, Enum) and name in kind.__members__):
        raise pickle.UnpicklingError(f'it asks for {name} of {kind!r}')
    return kind[name]


def _is_record(kind: Any, module: str) -> bool:
    """Whether something is a dataclass or Enum that is defined in ``module`` itself."""
    if not isinstance(kind, type) or kind.__module__ != module:
        return False
    return is_dataclass(kind) or issubclass(kind, Enum)


class _ListUnpickler(pickle.Unpickler):
    """Unpickler of torch's metadata file, which allows only the classes that it consists of."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ('builtins', 'getattr'):  # how Python 3.11.0 to 3.11.3 pickle members of an Enum
            return _member
        # The name comes from the file.
        is_type = module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype)
        # Only classes that the module itself defines: a dotted name could reach os.system through its imports.
        is_record = module in _HOMES and _is_record(vars(importlib.import_module(module)).get(name), module)
        if is_record or (module, name) in _PLAIN or is_type:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f'it names {module}.{name}')


def read_sharded(folder: Path, load_file: Any) -> dict[str, Any]:
    """Reads a sharded checkpoint onto the CPU, whole.

    Args:
        folder: the checkpoint.
        load_file: reads an ordinary checkpoint file safely.

    Raises:
        UsageError: no such checkpoint, a damaged one, or one that refers to code.
    """
    # imported here: builds of torch without distributed training lack these modules
    from torch.distributed.checkpoint import FileSystemReader, load
    from torch.distributed.checkpoint.api import CheckpointException  # no Exception
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    class Reader(FileSystemReader):
        """torch's reader, with the metadata read above instead of unpickled unsafely."""

        def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
            return metadata

    missing = [name for name in (REST, _METADATA) if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f'checkpoint {folder} is a folder without {missing[0]}: give the path of a .pth file, or of a folder '
            f'NAME{SUFFIX} that a sharded training wrote.'
        )
    try:
        with open(folder / _METADATA, 'rb') as file:
            metadata = _ListUnpickler(file).load()
        entries = metadata.state_dict_metadata
        other = next((name for name, entry in entries.items() if not isinstance(entry, TensorStorageMetadata)), None)
        if other is not None:
            raise pickle.UnpicklingError(f'{other} is no tensor')
        tensors = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in entries.items()}
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)  # torch warns that a single process loads, which is intended
            load(tensors, storage_reader=Reader(str(folder)), no_dist=True)
        return _put_back(load_file(folder / REST), tensors)
    except UsageError:
        raise
    except pickle.UnpicklingError as error:
        raise UsageError(f'checkpoint {folder} is refused: {error}. Nothing in it was executed.') from error
    except (Exception, CheckpointException) as error:  # torch raises all kinds of errors for damaged files
        first = next(iter(error.failures.values()), (error,))[0] if isinstance(error, CheckpointException) else error
        raise UsageError(
            f'{folder} is not a readable sharded checkpoint, or it is incomplete ({type(first).__name__}: {first})'
        ) from error
