"""What an earlier run left in a work dir makes room for a new one, and is kept."""

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

from mstkit.engine.checkpoints.newest_checkpoint import LAST, checkpoints_in, named_last
from mstkit.errors import UsageError
from mstkit.interop.checkpoint import read_checkpoint
from mstkit.utils.files import write_atomically

PREFIX = 'earlier_'
_MOVES = '.moves.json'
_LOGS = re.compile(r'\d{8}_\d{6}')  # mmengine's folder of one process's log
_RECORDS = ('*.jsonl', 'panels')  # what our hooks write, and would write over


def folders_of(work_dir: str | Path, hooks: Mapping[str, Any] | None) -> list[Path]:
    """The folders that a run keeps checkpoints in: its work dir, and ``default_hooks.checkpoint.out_dir``.

    Args:
        work_dir: of the run.
        hooks: its ``default_hooks``, as configs or built.
    """
    hook = (hooks or {}).get('checkpoint')
    out_dir = hook.get('out_dir') if isinstance(hook, Mapping) else getattr(hook, 'out_dir', None)
    folders = [Path(work_dir)]
    if out_dir is not None and Path(out_dir).resolve() != Path(work_dir).resolve():
        folders.append(Path(out_dir) / Path(work_dir).resolve().name)  # as mmengine's hook does
    return folders


def set_aside_run(folders: list[Path]) -> list[str]:
    """Moves the run that is in a work dir into a folder ``earlier_TIME`` in it, where all tools can read it.

    A run is there where it left checkpoints. With them go ``last_checkpoint``, the records and panels, the logs, and
    a copy of the config.

    Args:
        folders: see :func:`folders_of`; the work dir comes first.

    Returns:
        Lines for the log; none where there was no run.
    """
    work_dir = folders[0]
    checkpoints = checkpoints_in(folders, _last(work_dir))
    if not checkpoints:
        return []
    rest = [path for pattern in _RECORDS for path in work_dir.glob(pattern)]
    rest += [path for path in work_dir.iterdir() if path.is_dir() and _LOGS.fullmatch(path.name)]
    where, size = _set_aside(folders, [*checkpoints, *sorted(rest)])
    for config in work_dir.glob('*.py'):  # copied: somebody may be training with it
        shutil.copy2(config, where / config.name)
    return [
        f'{work_dir} held an earlier run: its {_count(checkpoints)}, records and logs went to {where} '
        f'({size}; remove that folder when it is not needed)'
    ]


def set_aside_later(folders: list[Path], iteration: int) -> list[str]:
    """Moves the checkpoints after an iteration aside, of a run that goes on from there once more.

    Those of the best measurements stay: they are replaced by better ones only.

    Returns:
        Lines for the log; none where there was nothing.
    """
    later = []
    for path in checkpoints_in(folders, _last(folders[0])):
        try:
            is_later = read_checkpoint(path, tensors=False)['meta']['iter'] > iteration
        except (UsageError, KeyError, TypeError):
            is_later = True  # a damaged one is in the way as well
        if is_later and not path.name.startswith('best_'):
            later.append(path)
    if not later:
        return []
    where, size = _set_aside(folders, later)
    return [
        f'the run goes on from iteration {iteration}: its {_count(later)} from after that are now in {where} ({size})'
    ]


def finish_moves(work_dir: Path) -> None:
    """Does the rest where a process was killed while it set a run aside."""
    for note in work_dir.glob(f'{PREFIX}*/{_MOVES}'):
        for source, target in json.loads(note.read_text(encoding='utf-8')):
            if Path(source).exists():
                Path(target).parent.mkdir(exist_ok=True)
                Path(source).rename(target)
        note.unlink()


def _set_aside(folders: list[Path], paths: list[Path]) -> tuple[Path, str]:
    """Moves files, and ``last_checkpoint``; gives the folder that they are in, and their size in words."""
    last = folders[0] / LAST
    paths = [path.absolute() for path in [*paths, *([last] if last.exists() else [])]]
    folder = _new_folder(folders[0])
    size = sum(_size(path) for path in paths)
    # Within its own folder each: a rename cannot leave a file system.
    moves = [[str(path), str(path.parent / folder.name / path.name)] for path in paths]
    # Noted first: a process that is killed in between leaves a work, not a mixture, to the next one.
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
    raise AssertionError  # the numbers do not end


def _size(path: Path) -> int:
    files = path.rglob('*') if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
