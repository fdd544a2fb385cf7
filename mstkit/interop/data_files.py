"""Reads files of ``torch.save`` and safetensors as data: nothing in them is executed."""

from __future__ import annotations

import argparse
import contextlib
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from mstkit.errors import UsageError

HISTORY_METHODS = ('min', 'max', 'mean', 'current')
NUMPY_TYPES = ('bool', 'int8', 'int16', 'int32', 'int64', 'uint8', 'float16', 'float32', 'float64')
# What a file begins with that is no checkpoint, and how it comes about.
_NO_CHECKPOINTS = (
    (b'version https://git-lfs', 'a pointer of Git LFS, which names the file: fetch the file itself with git lfs pull'),
    (b'<!doctype html', 'an HTML page, as a server sends in place of a file that is not there: download it again'),
    (b'<html', 'an HTML page, as a server sends in place of a file that is not there: download it again'),
    (b'\x1f\x8b', 'compressed with gzip: unpack it first'),
    (b'\x28\xb5\x2f\xfd', 'compressed with Zstandard: unpack it first'),
)


def read_data(file: Path, tensors: bool = True) -> Any:
    """Reads a file of ``torch.save`` of any layout, or of safetensors, onto the CPU without executing code in it.

    Args:
        file: what to read.
        tensors: with False a file of ``torch.save`` is only memory-mapped, see
            :func:`mstkit.interop.checkpoint.read_checkpoint`.

    Returns:
        What is in it; of safetensors a dict of tensors.

    Raises:
        UsageError: no such file, a damaged one, or one with anything but plain data.
    """
    if not file.is_file():
        raise UsageError(f'checkpoint {file} does not exist; give the path of a .pth file.')
    if is_safetensors(file):
        return _read_safetensors(file)
    if (told := _what_else(file)) is not None:
        raise UsageError(f'{file} is not a checkpoint: it is {told}.')
    try:
        with _accepted_globals():
            mapped = not tensors and zipfile.is_zipfile(file)
            return torch.load(file, map_location='cpu', weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f'checkpoint {file} is refused: {_first_line(error)} Nothing in it was executed; use a file that mstkit or '
            'mmengine wrote.'
        ) from error
    except Exception as error:  # torch, zip and pickle raise all kinds of errors for damaged files.
        raise UsageError(
            f'{file} is not a readable checkpoint, or it is truncated ({type(error).__name__}: {_first_line(error)})'
        ) from error


def is_safetensors(file: Path) -> bool:
    """Whether a file begins as safetensors do: with the length of a header in JSON."""
    try:
        with open(file, 'rb') as stream:
            length = int.from_bytes(stream.read(8), 'little')
            return 2 <= length <= 100_000_000 and stream.read(1) == b'{'
    except OSError:
        return False


def safetensors_metadata(file: Path) -> dict[str, str]:
    """The texts in the header of safetensors; empty for another file."""
    if not is_safetensors(file):
        return {}
    try:
        with safe_open(file, 'pt') as opened:
            return dict(opened.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def _read_safetensors(file: Path) -> Any:
    try:
        return load_file(file, device='cpu')
    except (OSError, ValueError, SafetensorError) as error:
        raise UsageError(f'{file} is not readable as safetensors, or it is truncated ({_first_line(error)})') from error


def _what_else(file: Path) -> str | None:
    """What a file is that is surely no checkpoint, in words."""
    try:
        with open(file, 'rb') as stream:
            begin = stream.read(512)
        if not begin:
            return 'empty'
        lowered = begin.lstrip().lower()
        for start, words in _NO_CHECKPOINTS:
            if lowered.startswith(start):
                return words
        if lowered.startswith((b'{', b'[')) and file.stat().st_size < 50_000_000:
            with contextlib.suppress(ValueError):
                json.loads(file.read_bytes())
                return 'JSON: give the file of weights, or the folder that has both'
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
            if names and all(name.endswith('.npy') for name in names):
                return 'an archive of NumPy arrays, as JAX saves them: convert it with the program that it comes from'
    except (OSError, zipfile.BadZipFile):
        return None
    return None


def _under(kind: Any, home: str, name: str) -> Any:
    """Gives a class or function the module and name by which torch's allow-list of the unpickler finds it."""
    kind.__module__, kind.__name__, kind.__qualname__ = home, name, name
    return kind


def _named(function: Callable, home: str, name: str) -> Callable:
    """Wraps a function, see :func:`_under`."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return _under(stand_in, home, name)


def _history_method(owner: Any, name: str) -> Any:
    """Replaces ``getattr`` when unpickling; allows only the four methods that mmengine's log histories refer to."""
    if owner is HistoryBuffer and name in HISTORY_METHODS:
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'it asks for the attribute {name!r} of {owner!r}.')


def _path_as_text(*parts: str) -> str:
    """Replaces a path among a program's options."""
    return '/'.join(map(str, parts))


# A Namespace is the options of a command line, which DINO, iBOT, MAE and others save: an object with values alone.
# yacs' CfgNode, in files of the official Swin, SimMIM and MoBY, becomes a dict; torch 2.5 cannot do that, and refuses.
_OPTIONS: list[Any] = [
    argparse.Namespace,
    _named(_path_as_text, 'pathlib', 'PosixPath'),
    _named(_path_as_text, 'pathlib._local', 'PosixPath'),
    *([(OrderedDict, 'yacs.config.CfgNode')] if digit_version(torch.__version__) >= digit_version('2.6') else []),
]


@contextlib.contextmanager
def _accepted_globals() -> Iterator[None]:
    """Adds the plain-data classes that checkpoints contain to torch's allow-list."""
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    accepted: list[Any] = [HistoryBuffer, _named(_history_method, 'builtins', 'getattr'), np.ndarray, np.dtype]
    for home in ('numpy._core.multiarray', 'numpy.core.multiarray'):
        accepted += [_named(multiarray._reconstruct, home, '_reconstruct'), _named(multiarray.scalar, home, 'scalar')]
    accepted += [type(np.dtype(name)) for name in NUMPY_TYPES]
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals(accepted + _OPTIONS)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _first_line(error: Exception) -> str:
    """The relevant line of torch's message, without its advice to read the file unsafely."""
    text = str(error)
    for line in text.splitlines():
        if 'Unsupported' in line or 'GLOBAL' in line or 'asks for' in line:
            return line.split('WeightsUnpickler error:')[-1].strip()[:200]
    return (text.splitlines() or ['no details'])[0][:200]
