"""Moves the files of an earlier run in a work dir to a subfolder, to make room for a new run."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook

from mstkit.engine.checkpoints.newest_checkpoint import LAST, checkpoints_in, named_last
from mstkit.errors import UsageError
from mstkit.interop.checkpoint import read_checkpoint
from mstkit.utils.files import write_atomically

PREFIX = 'earlier_'
_MOVES = '.moves.json'
_LOGS = re.compile(r'\d{8}_\d{6}')  # mmengine's folder of one process's log
_RECORDS = ('*.jsonl', 'panels')  # written by mstkit's hooks, which would overwrite or extend them


def folders_of(work_dir: str | Path, hooks: Mapping[str, Any] | None) -> list[Path]:
    """The folders that a run keeps checkpoints in: its work dir, and ``default_hooks.checkpoint.out_dir``.

    Args:
        work_dir: of the run.
        hooks: its ``default_hooks``, as configs or built.
    """
    hook = (hooks or {}).get('checkpoint')
    out_dir = hook.get('out_dir') if isinstance(hook, Mapping) else None
    if isinstance(hook, CheckpointHook):
        out_dir = hook.out_dir
    folders = [Path(work_dir)]
    if out_dir is not None and Path(out_dir).resolve() != Path(work_dir).resolve():
        folders.append(Path(out_dir) / Path(work_dir).resolve().name)  # as mmengine's hook does
    return folders


def set_aside_run(folders: list[Path]) -> list[str]:
    """Moves an earlier run into a subfolder ``earlier_TIME`` of its work dir, in which all tools can read it.

    A work dir holds a run if it holds checkpoints. These are moved, and ``last_checkpoint``, records, panels and logs;
    the config is copied.

    Args:
        folders: see :func:`folders_of`; the work dir comes first.

    Returns:
        Lines for the log; empty if there was no run.
    """
    work_dir = folders[0]
    checkpoints = checkpoints_in(folders, _last(work_dir))
    if not checkpoints:
        return []
    rest = [path for pattern in _RECORDS for path in work_dir.glob(pattern)]
    rest += [path for path in work_dir.iterdir() if path.is_dir() and _LOGS.fullmatch(path.name)]
    where, size = _set_aside(folders, [*checkpoints, *sorted(rest)])
    for config in work_dir.glob('*.py'):  # copied, since it may be the config of the new run
        shutil.copy2(config, where / config.name)
    return [
        f'{work_dir} held an earlier run: its {_count(checkpoints)}, records and logs went to {where} '
        f'({size}; remove that folder when it is not needed)'
    ]


def set_aside_later(folders: list[Path], iteration: int) -> list[str]:
    """Moves checkpoints written after an iteration into a subfolder, when the run is resumed from that iteration.

    ``best_*`` checkpoints stay: only a better one replaces them.

    Returns:
        Lines for the log; empty if nothing was moved.
    """
    later = []
    for path in checkpoints_in(folders, _last(folders[0])):
        try:
            is_later = read_checkpoint(path, tensors=False)['meta']['iter'] > iteration
        except (UsageError, KeyError, TypeError):
            is_later = True  # a damaged checkpoint is moved too
        if is_later and not path.name.startswith('best_'):
            later.append(path)
    if not later:
        return []
    where, size = _set_aside(folders, later)
    return [f'the run resumes from iteration {iteration}: {_count(later)} written after it moved to {where} ({size})']


def finish_moves(work_dir: Path) -> None:
    """Completes the moves of a process that was killed while it set a run aside."""
    for note in work_dir.glob(f'{PREFIX}*/{_MOVES}'):
        for source, target in json.loads(note.read_text(encoding='utf-8')):
            if Path(source).exists():
                Path(target).parent.mkdir(exist_ok=True)
                Path(source).rename(target)
        note.unlink()


def _set_aside(folders: list[Path], paths: list[Path]) -> tuple[Path, str]:
    """Moves files and ``last_checkpoint``; returns their new folder and their size as text."""
    last = folders[0] / LAST
    paths = [path.absolute() for path in [*paths, *([last] if last.exists() else [])]]
    folder = _new_folder(folders[0])
    size = sum(_size(path) for path in paths)
    # Each file moves to a subfolder of its own folder: a rename cannot cross file systems.
    moves = [[str(path), str(path.parent / folder.name / path.name)] for path in paths]
    # The list is written first, so that the next process can complete the moves if this one is killed.
    write_atomically(folder / _MOVES, json.dumps(moves).encode())
    finish_moves(folders[0])
    return folder, f'{size / 1e6:.1f} MB'


def _last(work_dir: Path) -> Path | None:
    try:
        return named_last(work_dir)
    except UsageError:
        return None


def _count(checkpoints: list[Path]) -> str:
    return 'checkpoint' if len(checkpoints) == 1 else f'{len(checkpoints)} checkpoints'


def _new_folder(work_dir: Path) -> Path:
    stamp = time.strftime('%Y%m%d_%H%M%S')
    for attempt in itertools.count():
        folder = work_dir.absolute() / f'{PREFIX}{stamp}{f"_{attempt}" if attempt else ""}'
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError  # unreachable: count() is endless


def _size(path: Path) -> int:
    files = path.rglob('*') if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
