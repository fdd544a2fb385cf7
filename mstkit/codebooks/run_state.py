"""What a training of a tokenizer leaves beside its file while it is not done, so that a killed one goes on."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

from mstkit.errors import UsageError
from mstkit.utils.files import write_atomically


class RunState:
    """Two files beside the one to be made: what is computed once, and where the training stands.

    Both appear whole or not at all, are read as plain data, and go when the tokenizer is written.

    Args:
        out: the file to be made.
        identity: plain values that decide about the result; a state with others is not this run's.
        pause: seconds between two states, so that writing them takes no time that counts.

    Raises:
        UsageError: a state is there of a run with other settings.
    """

    def __init__(self, out: str | os.PathLike[str], identity: dict[str, Any], pause: float = 5.0) -> None:
        self.files = {part: Path(f'{os.fspath(out)}.{part}') for part in ('features', 'state')}
        self.identity, self.pause = identity, pause
        self._last = time.monotonic()

    def load(self, part: str) -> dict[str, Any] | None:
        """What an earlier run of the same settings left; None where there is nothing.

        Raises:
            UsageError: it is of other settings, or damaged.
        """
        file = self.files[part]
        if not file.is_file():
            return None
        clean = f'remove {" and ".join(map(str, self.files.values()))} to begin anew'
        try:
            content = torch.load(file, map_location='cpu', weights_only=True)
            found, values = content['identity'], content['values']
        except Exception as error:  # torch, zip and pickle fail in many ways
            raise UsageError(f'{file} is damaged: {clean}') from error
        other = [name for name in self.identity if found.get(name) != self.identity[name]]
        if other:
            name = other[0]
            raise UsageError(
                f'{file} is of a run with another {name}, {found.get(name)!r} and not {self.identity[name]!r}: repeat '
                f'that command to finish it, or {clean}'
            )
        return values

    def save(self, part: str, values: dict[str, Any], now: bool = True) -> None:
        """Keeps values, plain data and tensors; unless ``now``, only where the last time is a while ago."""
        if not now and time.monotonic() - self._last < self.pause:
            return
        content = dict(identity=self.identity, values=values)
        write_atomically(self.files[part], lambda file: torch.save(content, file))
        self._last = time.monotonic()

    def remove(self) -> None:
        """The tokenizer is written."""
        for file in self.files.values():
            file.unlink(missing_ok=True)
