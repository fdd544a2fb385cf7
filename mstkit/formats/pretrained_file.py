"""Reads a checkpoint of mstkit, or one of another program as if mstkit had written it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mstkit.errors import UsageError
from mstkit.formats.reading import encoders_of
from mstkit.formats.weight_file import read_weight_file
from mstkit.interop.checkpoint import branches_of, checked


def read_pretrained(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the backbones of any file that mstkit knows, see :func:`mstkit.formats.read_weights`.

    Args:
        path: a checkpoint of mstkit or mmpretrain, which is returned as it is; or one of another program, or a folder.

    Returns:
        A dict with ``state_dict``, the backbones after ``backbone.`` and ``teacher.backbone.``, and ``meta``.

    Raises:
        UsageError: no such file, a damaged one, or one without an encoder that mstkit has.
    """
    file = read_weight_file(path)
    own = _as_it_is(file.content, file.path)
    try:
        weights = encoders_of(file)
    except UsageError:
        if own is None:
            raise
        return own  # what does not fit in it is said when it is loaded
    names = {encoder.naming.name for encoder in weights.branches.values()}
    return own if own is not None and names == {'mmpretrain'} and branches_of(own) else weights.checkpoint()


def _as_it_is(content: Mapping[str, Any], file: Path) -> dict[str, Any] | None:
    """The content, where it has mmengine's layout, whatever its model is."""
    if not isinstance(content.get('state_dict'), Mapping):
        return None
    return {'meta': {}, **checked(content, file)}
