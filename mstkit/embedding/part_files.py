"""The finished parts of features that are being computed, beside the file that they will become.

An interrupted computation goes on behind its last part, if it would give the same: the folder says of which network,
settings and files its parts are.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.logging import print_log

from mstkit.errors import UsageError
from mstkit.utils.files import write_atomically

SUFFIX = '.parts'  # of the folder, behind the name of the file
IDENTITY, LOCK = 'of.json', '.lock'


class Part(NamedTuple):
    """The features of some consecutive images.

    Attributes:
        indices: (M,) int64, the images that could be read.
        features: (M, D) or (M, L, C) float32.
        unreadable: (U,) int64, the images that could not be read.
        reasons: (U,) text, why.
    """

    indices: np.ndarray
    features: np.ndarray
    unreadable: np.ndarray
    reasons: np.ndarray


class PartFiles:
    """The folder of the parts of one output file.

    Args:
        out: the output file.
        identity: everything that determines the features, as JSON data.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        self.folder = out.with_name(out.name + SUFFIX)
        self.identity = json.loads(json.dumps(identity))

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Locks the folder, and empties it if its parts are of something else, which is said.

        Raises:
            UsageError: another process computes the same file.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / LOCK, 'w') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(
                    f'{self.folder} is being written by another process: wait for it, or give another --out.'
                ) from error
            self._keep_only_own()
            yield

    def _keep_only_own(self) -> None:
        found = self._read_identity()
        if found == self.identity:
            return
        parts = self.paths()
        if parts:
            differs = [name for name, value in self.identity.items() if (found or {}).get(name) != value]
            print_log(
                f'{self.folder} holds {sum(stop - start for start, stop in map(span, parts))} images of an earlier '
                f'run with other {" and ".join(differs)}: starting anew.',
                logger='current',
                level=30,
            )
        for path in parts:
            path.unlink()
        write_atomically(self.folder / IDENTITY, (json.dumps(self.identity, indent=2) + '\n').encode())

    def _read_identity(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.folder / IDENTITY).read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def paths(self) -> list[Path]:
        """The files of the parts, from the first image on without a gap."""
        chosen, reached = [], 0
        for path in sorted(self.folder.glob('*-*.npz')):
            start, stop = span(path)
            if start == reached:
                chosen.append(path)
                reached = stop
        return chosen

    @property
    def done(self) -> int:
        """The number of images whose part is finished."""
        paths = self.paths()
        return span(paths[-1])[1] if paths else 0

    def write(self, start: int, stop: int, part: Part) -> None:
        """Writes the part of the images ``start`` to ``stop``."""
        arrays = part._asdict()
        write_atomically(self.folder / f'{start:010d}-{stop:010d}.npz', lambda file: np.savez(file, **arrays))

    def read(self) -> Iterator[Part]:
        """Reads the parts one after the other.

        Raises:
            UsageError: one is damaged.
        """
        for path in self.paths():
            try:
                with np.load(path) as arrays:
                    part = Part(*(arrays[name] for name in Part._fields))
            except Exception as error:  # NumPy and zipfile raise all kinds of errors for damaged files
                raise UsageError(f'{path} cannot be read ({error}): remove it, and run the command again.') from error
            yield part

    def remove(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def span(path: Path) -> tuple[int, int]:
    """The first image of a part, and the one behind its last."""
    start, _, stop = path.stem.partition('-')
    return int(start), int(stop)
