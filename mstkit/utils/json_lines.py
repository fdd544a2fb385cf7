"""Small tables on disk, one JSON object per line, that survive being killed and resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mstkit.utils.files import write_atomically


class EpochLines:
    """Records by epoch in a ``.jsonl`` file.

    Every write replaces the file as a whole (written beside it, then renamed), so a run that is killed leaves either
    the old or the new table; and an epoch that is recorded again after a resume replaces its earlier line.

    Args:
        path: the file; its folder is made when the first line is written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def read(self) -> list[dict[str, Any]]:
        """Reads all records, in order of epoch; empty where there is no file.

        Raises:
            ValueError: a line that is not a record; the message names the file and the line.
        """
        if not self.path.exists():
            return []
        records = []
        for number, line in enumerate(self.path.read_text(encoding='utf-8').splitlines(), start=1):
            try:
                record = json.loads(line)
                record['epoch'] = int(record['epoch'])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f'{self.path}, line {number} is not a record of an epoch: {line[:80]!r}') from error
            records.append(record)
        return sorted(records, key=lambda record: record['epoch'])

    def keep_until(self, epoch: int) -> None:
        """Forgets records later than an epoch: those of a run that was resumed from before them (-1: all)."""
        if self.path.exists():
            self._write([record for record in self.read() if record['epoch'] <= epoch] if epoch >= 0 else [])

    def put(self, record: dict[str, Any]) -> None:
        """Adds the record of ``record['epoch']``, in place of an earlier one of that epoch."""
        others = [other for other in self.read() if other['epoch'] != record['epoch']]
        self._write(sorted([*others, record], key=lambda entry: entry['epoch']))

    def _write(self, records: list[dict[str, Any]]) -> None:
        write_atomically(self.path, ''.join(json.dumps(record) + '\n' for record in records).encode())


def append_line(path: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
    """Adds a record at the end of a ``.jsonl`` file in one write; its folder is made where missing.

    A line that a killed process left unfinished is ended first, so that it damages no other.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a+b', buffering=0) as file:
        broken_off = False
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            broken_off = file.read(1) != b'\n'
        file.write((b'\n' if broken_off else b'') + (json.dumps(record) + '\n').encode())
