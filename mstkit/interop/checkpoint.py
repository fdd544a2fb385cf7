"""Reads checkpoints without executing code in them, and loads weights strictly (no missing or unexpected tensors)."""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.interop.backbone_names import left_out, official_backbone
from mstkit.interop.foreign_checkpoints import plain_names, recognize, recognize_safetensors
from mstkit.interop.sharded_checkpoint import REST, read_sharded

BRANCH_PREFIXES = {'student': 'backbone.', 'teacher': 'teacher.backbone.'}
HISTORY_METHODS = ('min', 'max', 'mean', 'current')
NUMPY_TYPES = ('bool', 'int8', 'int16', 'int32', 'int64', 'uint8', 'float16', 'float32', 'float64')


# DINO, iBOT, AttMask, MAE, SimMIM and MoBY save the options of their command line as a Python object.
_OPTIONS_INSIDE = (
    ' An argparse.Namespace is among its contents, the options of the program that wrote it, as in whole checkpoints '
    'of DINO, iBOT, AttMask, MAE and MoBY: a Python object, which is never unpickled here. Where you trust the file, '
    'save its weights alone once: whole = torch.load(FILE, weights_only=False), then torch.save(whole["teacher"], '
    'NEW), or whole["model"].'
)


def read_checkpoint(path: str | os.PathLike[str], tensors: bool = True) -> dict[str, Any]:
    """Reads a checkpoint of mmengine's layout onto the CPU.

    Only weights, plain containers, NumPy numbers and mmengine's log histories are accepted; anything else in the file
    is refused unexecuted.

    Args:
        path: the file, or the folder that a sharded training wrote (``NAME.dcp``).
        tensors: whether tensors are read, too. With False the file is only memory-mapped, which is fast however large
            it is, and only what is no tensor may be used.

    Returns:
        A dict with at least ``state_dict``.

    Raises:
        UsageError: no such file, not a checkpoint, damaged, holding code, or without a state dict.
    """
    file = Path(path).expanduser()
    if file.is_dir() and not tensors and (file / REST).is_file():
        return read_checkpoint(file / REST)
    if file.is_dir():
        return read_sharded(file, read_checkpoint)
    return _checked(read_data(file, tensors), file)


def _checked(checkpoint: Any, file: Path) -> dict[str, Any]:
    """What is in a file, if that is a checkpoint of mmengine's layout; without the names that wrappers add."""
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get('state_dict'), Mapping):
        found = (
            f'keys {sorted(map(str, checkpoint))[:8]}' if isinstance(checkpoint, dict) else type(checkpoint).__name__
        )
        raise UsageError(
            f'checkpoint {file} has no state_dict (found {found}); it was not written by mmengine.'
            f'{recognize(checkpoint)}'
        )
    plain = plain_names(checkpoint['state_dict'])
    return checkpoint if plain is checkpoint['state_dict'] else {**checkpoint, 'state_dict': plain}


def read_pretrained(path: str | os.PathLike[str]) -> dict[str, Any]:
    """As :func:`read_checkpoint`, and also files in the layout of MAE's, BEiT's, SimMIM's and MoBY's own code.

    Those come out under mmpretrain's names, as :func:`mstkit.interop.backbone_names.official_backbone` gives them.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        return read_checkpoint(path)
    content = read_data(file)
    state = official_backbone(content)
    return _checked(content, file) if state is None else dict(state_dict=state, meta={})


def read_data(file: Path, tensors: bool = True) -> Any:
    """Reads a file of ``torch.save`` of any layout onto the CPU without executing code in it.

    Args:
        file: what to read.
        tensors: see :func:`read_checkpoint`.

    Raises:
        UsageError: no such file, a damaged one, or one with anything but plain data.
    """
    if not file.is_file():
        raise UsageError(f'checkpoint {file} does not exist; give the path of a .pth file.')
    if (told := recognize_safetensors(file)) is not None:
        raise UsageError(f'{file} is not a checkpoint of torch’s format. {told}')
    try:
        with _accepted_globals():
            mapped = not tensors and zipfile.is_zipfile(file)
            return torch.load(file, map_location='cpu', weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f'checkpoint {file} is refused: {_first_line(error)} Nothing in it was executed; use a file that mstkit or '
            f'mmengine wrote.{_OPTIONS_INSIDE if "argparse" in str(error) else ""}'
        ) from error
    except Exception as error:  # torch, zip and pickle raise all kinds of errors for damaged files.
        raise UsageError(
            f'{file} is not a readable checkpoint, or it is truncated ({type(error).__name__}: {_first_line(error)})'
        ) from error


def install_loader() -> None:
    """Makes mmengine read local files with :func:`read_data`, for ``init_cfg`` and other libraries' runners.

    mmengine itself falls back to an unsafe ``torch.load``, which executes code in the file.
    """

    def load_from_plain_file(filename: str, map_location: Any = None) -> Any:
        return read_data(Path(filename).expanduser())

    CheckpointLoader.register_scheme(prefixes='', loader=load_from_plain_file, force=True)


def branches_of(checkpoint: Mapping[str, Any]) -> list[str]:
    """The branches whose backbone is in a checkpoint: of 'student' and 'teacher', in this order."""
    keys = plain_names(checkpoint['state_dict'])
    return [name for name, prefix in BRANCH_PREFIXES.items() if any(key.startswith(prefix) for key in keys)]


def branch_state(checkpoint: Mapping[str, Any], branch: str) -> dict[str, Tensor]:
    """Extracts the backbone weights of one branch from a checkpoint, without their prefix.

    Args:
        checkpoint: from :func:`read_checkpoint`.
        branch: ``'student'`` (``backbone.``) or ``'teacher'`` (``teacher.backbone.``).

    Raises:
        UsageError: an unknown branch, or one that is not in the checkpoint.
    """
    if branch not in BRANCH_PREFIXES:
        raise UsageError(f'branch {branch!r} is unknown; there are {" and ".join(BRANCH_PREFIXES)}.')
    prefix = BRANCH_PREFIXES[branch]
    state = plain_names(checkpoint['state_dict'])
    found = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    if not found:
        tops = sorted({key.split('.')[0] for key in state})
        if others := branches_of(checkpoint):
            raise UsageError(f'the checkpoint has no {branch}, only a {others[0]}: take branch {others[0]!r}.')
        raise UsageError(
            f'the checkpoint has no {branch} (no key starts with {prefix!r}; the keys start with {tops}).'
            f'{recognize(checkpoint)}'
        )
    return found


def only_branch(checkpoint: Mapping[str, Any], branch: str) -> dict[str, Any]:
    """Reduces a checkpoint to the backbone of one branch, without optimizer, heads and the other branch.

    Returns:
        ``state_dict``, with the names of the file; ``meta`` with its epoch and config; and ``left_out``, the parts of
        the file that belong to no backbone.

    Raises:
        UsageError: as :func:`branch_state`.
    """
    prefix = BRANCH_PREFIXES.get(branch, '')
    return dict(
        state_dict={prefix + name: value for name, value in branch_state(checkpoint, branch).items()},
        meta={name: value for name, value in (checkpoint.get('meta') or {}).items() if name in ('cfg', 'epoch')},
        left_out=left_out(plain_names(checkpoint['state_dict']), prefix),
    )


def load_strict(module: nn.Module, state: Mapping[str, Tensor], name: str) -> str:
    """Loads weights into a module, all of them or none.

    Args:
        module: the module to load into.
        state: the weights, without prefix.
        name: name of the module, for messages.

    Returns:
        One line with the number of loaded tensors.

    Raises:
        UsageError: a tensor is missing, left over, or of another shape; the module is then unchanged.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    misshapen = [key for key in own if key in state and own[key].shape != state[key].shape]
    counts = f'{len(own) - len(missing) - len(misshapen)} of {len(own)} tensors'
    if missing or unexpected or misshapen:
        told = recognize(list(state))
        details = [
            f'missing {len(missing)}{_examples(missing)}',
            f'unexpected {len(unexpected)}{_examples(unexpected)}',
        ]
        for key in misshapen[:1]:
            shapes = f'{key} is {tuple(state[key].shape)} in the file and {tuple(own[key].shape)} in the network'
            details.append(f'other shape {len(misshapen)} ({shapes})')
        raise UsageError(
            f'{name}: only {counts} fit the checkpoint ({"; ".join(details)}); it was trained with another backbone or '
            f'image size, so give the config that it was trained with.{"" if len(missing) < len(own) else told}'
        )
    module.load_state_dict(dict(state), strict=True)
    return f'{name}: loaded {counts}, missing 0, unexpected 0'


def _named(function: Callable, home: str, name: str) -> Callable:
    """Wraps a function under another module and name, by which torch's allow-list of the unpickler finds it."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    stand_in.__module__, stand_in.__name__, stand_in.__qualname__ = home, name, name
    return stand_in


def _history_method(owner: Any, name: str) -> Any:
    """Replaces ``getattr`` when unpickling; allows only the four methods that mmengine's log histories refer to."""
    if owner is HistoryBuffer and name in HISTORY_METHODS:
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'it asks for the attribute {name!r} of {owner!r}.')


@contextlib.contextmanager
def _accepted_globals() -> Iterator[None]:
    """Adds the plain-data classes that mmengine's checkpoints contain to torch's allow-list."""
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    accepted: list[Any] = [HistoryBuffer, _named(_history_method, 'builtins', 'getattr'), np.ndarray, np.dtype]
    for home in ('numpy._core.multiarray', 'numpy.core.multiarray'):
        accepted += [_named(multiarray._reconstruct, home, '_reconstruct'), _named(multiarray.scalar, home, 'scalar')]
    accepted += [type(np.dtype(name)) for name in NUMPY_TYPES]
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals(accepted)
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


def _examples(keys: list[str]) -> str:
    return f' ({", ".join(keys[:3])}{", …" if len(keys) > 3 else ""})' if keys else ''
