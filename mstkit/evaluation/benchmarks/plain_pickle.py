"""Reads pickles of plain data without executing code in them."""

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
    """The pickle contains something that is not plain data."""


class _PlainUnpickler(pickle.Unpickler):
    """Allows only the functions that create numpy's arrays and numbers."""

    def find_class(self, module: str, name: str) -> Any:
        multiarray = np._core.multiarray  # type: ignore[attr-defined]
        # New lambdas for each lookup, because a pickle can set attributes of the objects that it gets.
        known: dict[tuple[str, str], Callable] = {
            ('numpy', 'ndarray'): np.ndarray,
            ('numpy', 'dtype'): np.dtype,
            ('_codecs', 'encode'): lambda text, encoding: _latin1(text, encoding),  # bytes, before protocol 3
            ('__builtin__', 'bytes'): lambda: b'',  # empty bytes
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

    Pickles of Python 2 are supported. No code of the file is executed: only numpy's array constructors are looked up.

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
            f'{path} holds {error}, which is not plain data (nothing was executed): get the file from its official '
            'source.'
        ) from None
    except OSError as error:
        raise UsageError(f'{path} cannot be read ({error.strerror or error}): give another file.') from error
    except Exception as error:  # a damaged pickle surfaces as any kind of exception
        reason = str(error).split('\n')[0] or type(error).__name__
        raise UsageError(f'{path} is not a complete pickle ({reason}): copy or download it again.') from error


def _latin1(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != 'latin1':
        raise _Refused(f'text in the encoding {encoding!r}')
    return text.encode('latin1')


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _plain(value: Any, depth: int = 0) -> Any:
    """Converts numpy's arrays and numbers to Python's own types."""
    if depth > 16:  # also catches a list that contains itself
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
