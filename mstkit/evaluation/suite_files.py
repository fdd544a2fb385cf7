"""Files with the results of a suite: one for a comparison, and one beside each checkpoint."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mstkit.evaluation.suite import SuiteResult
from mstkit.utils.files import write_atomically

BESIDE = 'evaluation'
TRACES = ('last_checkpoint', 'knn.jsonl', '*/vis_data')  # files that a training writes into its work dir
MERGED = ('metrics', 'headlines', 'failed', 'settings')


def write_results(results: Sequence[SuiteResult], path: Path) -> None:
    """Writes a list of results as JSON."""
    _write(path, [result.as_dict() for result in results])


def is_work_dir(folder: Path) -> bool:
    """Whether a folder is the work dir of a training."""
    return any(True for trace in TRACES for _ in folder.glob(trace))


def file_beside(checkpoint: Path, result: SuiteResult) -> Path:
    """``evaluation/{checkpoint}-{branch}-{hash}.json`` beside a checkpoint; the hash is of image folders and seed."""
    data = json.dumps([result.train, result.val, result.seed]).encode()
    words = [checkpoint.stem, result.branch, hashlib.sha256(data).hexdigest()[:8]]
    return checkpoint.parent / BESIDE / ('-'.join(filter(None, words)) + '.json')


def write_beside(checkpoint: Path, result: SuiteResult) -> Path:
    """Writes a result beside its checkpoint, where the report of the run finds it.

    Results of other evaluations in the file are kept, if they are of the same network and images.

    Args:
        checkpoint: a file in a work dir.
        result: of a branch of the checkpoint.

    Returns:
        The file.
    """
    path = file_beside(checkpoint, result)
    content, earlier = result.as_dict(), _earlier(path)
    if earlier.get('fingerprint') == result.fingerprint:
        for key in MERGED:
            kept = {name: value for name, value in earlier.get(key, {}).items() if name not in result.metrics}
            content[key] = {**kept, **content[key]}
    _write(path, content)
    return path


def _earlier(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        if isinstance(content, dict):
            return content
        error: object = 'not a JSON object'
    except ValueError as caught:
        error = caught
    print_log(f'{path} was damaged ({error}) and is replaced.', logger='current', level=logging.WARNING)
    return {}


def _write(path: Path, content: object) -> None:
    write_atomically(path, (json.dumps(content, indent=2) + '\n').encode())
