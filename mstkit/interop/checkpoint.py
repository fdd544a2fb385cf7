"""Reads checkpoints without executing code in them, and loads weights strictly (no missing or unexpected tensors)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.interop.backbone_names import left_out
from mstkit.interop.data_files import read_data
from mstkit.interop.foreign_checkpoints import plain_names, recognize
from mstkit.interop.sharded_checkpoint import REST, read_sharded
from mstkit.utils.home_folder import expanded

META_KEPT = ('cfg', 'epoch', 'kind', 'assumed')
BRANCH_PREFIXES = {'student': 'backbone.', 'teacher': 'teacher.backbone.'}


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
    file = expanded(path)
    if file.is_dir() and not tensors and (file / REST).is_file():
        return read_checkpoint(file / REST)
    if file.is_dir():
        return read_sharded(file, read_checkpoint)
    return checked(read_data(file, tensors), file)


def checked(checkpoint: Any, file: Path) -> dict[str, Any]:
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


def install_loader() -> None:
    """Makes mmengine read local files with :func:`read_data`, for ``init_cfg`` and other libraries' runners.

    mmengine itself falls back to an unsafe ``torch.load``, which executes code in the file.
    """

    def load_from_plain_file(filename: str, map_location: Any = None) -> Any:
        return read_data(expanded(filename))

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
        ``state_dict``, with the names of the file; ``meta`` with its epoch and config (:data:`META_KEPT`); and
        ``left_out``, the parts of the file that belong to no backbone.

    Raises:
        UsageError: as :func:`branch_state`.
    """
    prefix = BRANCH_PREFIXES.get(branch, '')
    return dict(
        state_dict={prefix + name: value for name, value in branch_state(checkpoint, branch).items()},
        meta={name: value for name, value in (checkpoint.get('meta') or {}).items() if name in META_KEPT},
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


def _examples(keys: list[str]) -> str:
    return f' ({", ".join(keys[:3])}{", …" if len(keys) > 3 else ""})' if keys else ''
