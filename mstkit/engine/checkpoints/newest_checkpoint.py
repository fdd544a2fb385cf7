"""Finds the checkpoint in a work dir from which a run is resumed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mstkit.errors import UsageError
from mstkit.interop.checkpoint import read_checkpoint
from mstkit.interop.sharded_checkpoint import SUFFIX

LAST = 'last_checkpoint'
TO_RESUME = ('meta', 'state_dict', 'optimizer', 'message_hub')  # parts of a checkpoint that resuming needs
ENDINGS = ('.pth', SUFFIX)
# File names that mmengine's checkpoint hook and ours give.
_USUAL = re.compile(rf'(?:(?:epoch|iter)_\d+|best_.+)(?:\.pth|{re.escape(SUFFIX)})')


@dataclass
class Newest:
    """The checkpoint found in a work dir.

    Attributes:
        path: of the checkpoint to resume from; None if there is none.
        checkpoint: its content.
        notes: lines for the user about how it was chosen.
    """

    path: Path | None = None
    checkpoint: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


def named_last(work_dir: str | Path) -> Path | None:
    """The checkpoint that the file ``last_checkpoint`` of a work dir names; None without such a file.

    The path in the file is outdated if the folder was moved or copied. So a checkpoint of that name beside the file is
    preferred.

    Raises:
        UsageError: the file cannot be read, or holds no path.
    """
    file = Path(work_dir) / LAST
    try:
        written = file.read_bytes().decode().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f'{file} cannot be read ({error})') from error
    if not written or '\n' in written or '\0' in written:
        raise UsageError(f'{file} names no checkpoint')
    beside = file.parent / Path(written).name
    return beside if beside.exists() else Path(written)


def checkpoints_in(folders: Iterable[str | Path], last: Path | None = None) -> list[Path]:
    """Finds checkpoints of runs in folders by their names.

    These are ``epoch_N.pth``, ``iter_N.pth``, ``best_*.pth``, the same as ``.dcp`` folders of a sharded training, and
    names that differ from ``last`` only in their last number (the run may have its own ``filename_tmpl``).

    Args:
        folders: searched without their subfolders.
        last: the checkpoint that ``last_checkpoint`` names.
    """
    alike = re.compile(re.sub(r'\d+(?=\D*$)', r'\\d+', re.escape(last.name))) if last is not None else _USUAL
    files = [path for path in _files(folders) if _USUAL.fullmatch(path.name) or alike.fullmatch(path.name)]
    return sorted(files)


def find_newest(
    work_dir: str | Path, run: str | None = None, more: Iterable[str | Path] = (), parts: Sequence[str] = TO_RESUME
) -> Newest:
    """Finds the checkpoint from which the last run in a work dir is resumed.

    It is the one that ``last_checkpoint`` names. If that is missing or cannot be read, it is the readable checkpoint of
    the same run that was written last (not the one of the highest iteration, since the folder may hold files of older
    and longer runs), and the notes say so. A ``best_*`` checkpoint is chosen only if there is no other.

    Args:
        work_dir: the folder.
        run: the id of the last run in the folder, if known: checkpoints of other runs are skipped.
        more: other folders that may hold its checkpoints.
        parts: keys that a checkpoint has to have.

    Raises:
        UsageError: there are checkpoints, but none from which the run can be resumed.
    """
    found, complaint = Newest(), ''
    last = None
    try:
        last = named_last(work_dir)
        if last is not None:
            checkpoint, reason = _read(last, parts)
            if reason is None:
                return Newest(last, checkpoint)
            complaint = f'{Path(work_dir) / LAST} names {last}, which cannot be resumed from: {reason}'
    except UsageError as error:
        complaint = f'{error}'
    if complaint:
        found.notes.append(complaint)
    candidates = [path for path in _files([work_dir, *more]) if path != last]
    looks_like_a_run = {*checkpoints_in([work_dir, *more], last)}
    good = []
    for path in candidates:
        content, reason = _read(path, parts, tensors=False)
        meta = content['meta'] if reason is None else {}
        other = meta.get('run')
        if reason is None and None not in (run, other) and run != other:
            reason = f'it belongs to another run ({other}, not {run})'
        if reason is None:
            iteration = meta['iter'] if isinstance(meta['iter'], int) else -1
            order = (not path.name.startswith('best_'), other == run, str(meta.get('time', '')), iteration)
            good.append((order, path))
        elif path in looks_like_a_run:
            found.notes.append(f'not resuming from {path}: {reason}')
    for _, path in sorted(good, reverse=True):
        checkpoint, reason = _read(path, parts)
        if reason is None:
            if found.notes:
                found.notes.append(f'resuming from {path}, the newest complete checkpoint')
            return Newest(path, checkpoint, found.notes)
        found.notes.append(f'not resuming from {path}: {reason}')
    if looks_like_a_run or good or complaint:
        raise UsageError(
            f'nothing in {work_dir} can be resumed: {"; ".join(found.notes)}. Name another checkpoint (--resume '
            'CHECKPOINT), or leave --resume out to start a new run, which moves these files to a subfolder.'
        )
    found.notes += [f'{path} is no checkpoint of a run' for path in candidates]
    return found


def _read(path: Path, parts: Sequence[str], tensors: bool = True) -> tuple[dict[str, Any], str | None]:
    """The content of a checkpoint, and why a run cannot be resumed from it (None if it can)."""
    try:
        checkpoint = read_checkpoint(path, tensors)
    except UsageError as error:
        return {}, str(error).rstrip('.')
    absent = what_is_missing(checkpoint, parts)
    return checkpoint, f'it holds no {", ".join(absent)}' if absent else None


def what_is_missing(checkpoint: Mapping[str, Any], parts: Sequence[str] = TO_RESUME) -> list[str]:
    """The names of required parts, and of ``epoch`` and ``iter`` in ``meta``, that a checkpoint lacks."""
    meta = checkpoint.get('meta')
    absent = [name for name in parts if name not in checkpoint]
    if 'meta' not in absent:
        absent += [name for name in ('epoch', 'iter') if not isinstance(meta, Mapping) or name not in meta]
    return absent


def _files(folders: Iterable[str | Path]) -> list[Path]:
    return [
        path
        for folder in dict.fromkeys(Path(one) for one in folders)
        for ending in ENDINGS
        for path in sorted(folder.glob(f'*{ending}'))
        if not path.name.startswith('.')
    ]
