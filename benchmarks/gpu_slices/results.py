"""The JSON of a slice, and its deadline."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mstkit.utils.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 480.0  # seconds of a slice
PACKAGES = ('torch', 'torchvision', 'triton', 'timm', 'lightly', 'onedl-mmengine', 'onedl-mmpretrain', 'numpy')


def commit() -> str | None:
    """The commit of the checkout, with ``+`` where files were changed; None without git."""
    try:
        found = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=ROOT, capture_output=True, text=True, timeout=20)
        changed = subprocess.run(['git', 'status', '--porcelain'], cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() + '+' * bool(changed.stdout.strip()) if found.returncode == 0 else None


def version(package: str) -> str | None:
    """The installed version; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def about_machine() -> dict[str, Any]:
    """Device, versions, commit and clock."""
    device = None
    if torch.cuda.is_available():
        free, whole = torch.cuda.mem_get_info()
        device = dict(
            name=torch.cuda.get_device_name(),
            capability=list(torch.cuda.get_device_capability()),
            memory_bytes=whole,
            free_bytes=free,
            cuda=torch.version.cuda,
        )
    return dict(
        device=device,
        python=platform.python_version(),
        packages={**{package: version(package) for package in PACKAGES}, 'torch': torch.__version__},
        tf32=torch.backends.cuda.matmul.allow_tf32,
        commit=commit(),
        started=datetime.now(timezone.utc).isoformat(timespec='seconds'),
    )


class Results:
    """The rows of a slice, written to its file after each row, so that none is lost where the slice is ended.

    Args:
        path: the file; its folder exists.
        name: of the slice.
        seconds: until the deadline.
        rehearsed: whether it is a rehearsal on the CPU, whose numbers mean nothing.
    """

    def __init__(self, path: Path, name: str, seconds: float, rehearsed: bool) -> None:
        self.path, self.seconds, self._start = path, seconds, time.monotonic()
        self.content: dict[str, Any] = dict(
            slice=name, status='running', rehearsed=rehearsed, rows=[], unreached=[], skipped=[], **about_machine()
        )
        self.write()

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.seconds - (time.monotonic() - self._start)

    def row(self, name: str, measure: Callable[[], dict[str, Any]], needs: float = 20.0) -> dict[str, Any] | None:
        """Measures a row, unless fewer than ``needs`` seconds are left; an exception becomes its ``error``."""
        if self.left < needs:
            self.content['unreached'].append(name)
            self.write()
            return None
        start = time.monotonic()
        try:
            found = measure()
        except Exception as error:  # whatever it is: the other rows are measured
            lines = traceback.format_exc().strip().splitlines()
            found = dict(error=f'{type(error).__name__}: {error}'[:500], trace=lines[-6:])
        self.content['rows'].append(dict(name=name, **found, took=round(time.monotonic() - start, 1)))
        self.write()
        said = found.get('error') or ', '.join(f'{key} {found[key]}' for key in list(found)[:5])
        print(f'  {name}: {said}', flush=True)
        return found

    def skip(self, name: str, why: str) -> None:
        """Says that a row cannot be measured here, and why."""
        self.content['skipped'].append(dict(name=name, why=why))
        self.write()
        print(f'  {name}: skipped, {why}', flush=True)

    def close(self) -> None:
        """Says that all rows were tried: 'done', or 'stopped' where the deadline left some out."""
        self.content['status'] = 'stopped' if self.content['unreached'] else 'done'
        self.write()

    def write(self) -> None:
        """Writes the file at once or not at all."""
        self.content['seconds'] = round(time.monotonic() - self._start, 1)
        write_atomically(self.path, json.dumps(self.content, indent=1).encode() + b'\n')


def run_program(
    words: Sequence[object], left: float, log: Path, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Runs a program of the checkout with the time that is left; its output goes into a file.

    Returns:
        ``code`` (None where its time was over), ``tail`` (the last lines of its output), ``seconds``.
    """
    start = time.monotonic()
    with log.open('wb') as output:
        # A session of its own: it is ended with all that it started.
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code = wait_or_end(process, max(1.0, left))
    tail = log.read_text(encoding='utf-8', errors='replace').strip().splitlines()[-8:]
    return dict(code=code, tail=[line[:300] for line in tail], seconds=round(time.monotonic() - start, 1))


def json_of(words: Sequence[object], results: Results, out: Path) -> dict[str, Any]:
    """Runs a program that writes a JSON file, and returns what is in it.

    Raises:
        RuntimeError: it did not end well.
    """
    found = run_program(words, results.left - 5, out.with_suffix('.log'))
    if found['code'] != 0:
        raise RuntimeError(f'ended with {found["code"]}: {" | ".join(found["tail"][-3:])}')
    return json.loads(out.read_text())


def wait_or_end(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit status of a process; None for one that is not through after its time, which is then ended."""
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(process)
        return None
    except BaseException:
        end(process)
        raise


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and all that it started; it has to be the first of a session of its own."""
    for number, patience in ((signal.SIGINT, 20), (signal.SIGKILL, 20)):  # at the first one, trainings stop in order
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=patience)
