"""Pickles of plain data, read without running anything that is in them."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mstkit.errors import UsageError

_CORES = ('numpy.core', 'numpy._core')  # before numpy 2, and since


class _Refused(Exception):
    """The pickle asks for something that is no plain data."""


class _PlainUnpickler(pickle.Unpickler):
    """Knows how numpy's arrays and numbers are made, and nothing else that could be called."""

    def find_class(self, module: str, name: str) -> Any:
        multiarray = np._core.multiarray  # type: ignore[attr-defined]
        # Functions of Python are made anew for each name: a pickle can set attributes of what it is given.
        known: dict[tuple[str, str], Callable] = {
            ('numpy', 'ndarray'): np.ndarray,
            ('numpy', 'dtype'): np.dtype,
            ('_codecs', 'encode'): lambda text, encoding: _latin1(text, encoding),  # bytes, before protocol 3
            ('__builtin__', 'bytes'): lambda: b'',  # those of no length
        }
        for core in _CORES:
            known[f'{core}.multiarray', '_reconstruct'] = multiarray._reconstruct
            known[f'{core}.multiarray', 'scalar'] = multiarray.scalar
            known[f'{core}.numeric', '_frombuffer'] = lambda content, dtype, shape, order: _array(  # protocol 5
                content, dtype, shape, order
            )
        if (module, name) not in known:
            raise _Refused(f'{module}.{name}')
        return known[module, name]


def read_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """Reads a pickle of dicts, lists, strings, numbers and numpy arrays; anything else in it is refused.

    Pickles of Python 2 are understood. Nothing of the file is run: names other than numpy's array constructors are not
    even looked up.

    Args:
        path: the file.

    Returns:
        The data, with arrays as nested lists and numpy's numbers as Python's.

    Raises:
        UsageError: the file cannot be read, is damaged, or holds something else.
    """
    try:
        content = Path(path).read_bytes()
        return _plain(_PlainUnpickler(io.BytesIO(content), encoding='latin1').load())
    except _Refused as error:
        raise UsageError(
            f'{path} holds {error}, which is no plain data, and nothing was run: get the file from its official source.'
        ) from None
    except OSError as error:
        raise UsageError(f'{path} cannot be read ({error.strerror or error}): give another file.') from error
    except Exception as error:  # a damaged pickle surfaces as any kind of exception
        reason = str(error).split('\n')[0] or type(error).__name__
        raise UsageError(f'{path} is no whole pickle ({reason}): copy or download it again.') from error


def _latin1(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != 'latin1':
        raise _Refused(f'text in the encoding {encoding!r}')
    return text.encode('latin1')


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _plain(value: Any, depth: int = 0) -> Any:
    """The value in Python's own types."""
    if depth > 16:  # or a list that holds itself
        raise _Refused('data nested more than 16 deep')
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode('latin1')
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(entry, depth + 1) for entry in value]
    if isinstance(value, dict):
        return {_plain(key, depth + 1): _plain(entry, depth + 1) for key, entry in value.items()}
    raise _Refused(f'a {type(value).__name__}')
