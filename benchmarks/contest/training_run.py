"""A training in processes of its own, which a benchmark watches and then ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from mstkit.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def check_config(config: str) -> None:
    """Raises UsageError where there is no such file, from the folder of the project or from here."""
    if not (ROOT / config).is_file() and not Path(config).is_file():
        raise UsageError(f'there is no config {config}.')


class TrainingRun:
    """A training whose output and log of iterations are read while it runs.

    Args:
        words: of its command.
        folder: its work dir.
        environment: variables that are set for it.
        own_session: whether it is in another session than the benchmark, between which Linux may share the cores.
    """

    def __init__(self, words: list[str], folder: Path, environment: Mapping[str, str], own_session: bool) -> None:
        self.folder, self.read = folder, 0
        self.log = folder / 'output'
        with self.log.open('w') as stream:
            self.run = subprocess.Popen(
                [sys.executable, str(ROOT / 'tools' / 'train.py'), *words, '--work-dir', str(folder)],
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **environment},
                start_new_session=own_session,
                preexec_fn=None if own_session else os.setpgrp,
            )

    def has_ended(self) -> bool:
        """Whether its process has ended."""
        return self.run.poll() is not None

    def output(self) -> str:
        """What it has printed until now."""
        return self.log.read_text(errors='replace')

    def ended_before(self, what: str) -> UsageError:
        """The error that it ended before ``what``, with its last line."""
        lines = self.output().strip().splitlines() or ['it said nothing']
        return UsageError(f'the training ended before {what}: {lines[-1]}')

    def new_iterations(self) -> list[float]:
        """Seconds of the iterations that ended since the last call, with their waiting for the loader."""
        lines = [line for file in self.folder.glob('*/vis_data/scalars.json') for line in _whole_lines(file)]
        entries = [json.loads(line) for line in lines]
        found = [entry['time'] for entry in entries if 'loss' in entry]  # those of validation have none
        self.read, before = len(found), self.read
        return found[before:]

    def end(self) -> None:
        """Ends it and its workers."""
        if not self.has_ended():
            os.killpg(self.run.pid, signal.SIGKILL)
        self.run.wait()


def _whole_lines(file: Path) -> list[str]:
    text = file.read_text()
    return text[: text.rfind('\n') + 1].splitlines()


@contextlib.contextmanager
def training_run(words: list[str], environment: Mapping[str, str], own_session: bool = True) -> Iterator[TrainingRun]:
    """Starts a training with a work dir of its own; both end with the context."""
    with tempfile.TemporaryDirectory() as folder:
        started = TrainingRun(words, Path(folder), environment, own_session)
        try:
            yield started
        finally:
            started.end()
