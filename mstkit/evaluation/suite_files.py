"""Where the results of a suite are kept: one file for a comparison, and one beside each checkpoint."""

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
TRACES = ('last_checkpoint', 'knn.jsonl', '*/vis_data')  # of a training in its work dir
MERGED = ('metrics', 'headlines', 'failed', 'settings')


def write_results(results: Sequence[SuiteResult], path: Path) -> None:
    """Writes a list of results as JSON."""
    _write(path, [result.as_dict() for result in results])


def is_work_dir(folder: Path) -> bool:
    """Whether a training has logged to a folder."""
    return any(True for trace in TRACES for _ in folder.glob(trace))


def file_beside(checkpoint: Path, result: SuiteResult) -> Path:
    """``evaluation/{checkpoint}-{branch}-{hash}.json`` beside a checkpoint; the hash is of image folders and seed."""
    data = json.dumps([result.train, result.val, result.seed]).encode()
    words = [checkpoint.stem, result.branch, hashlib.sha256(data).hexdigest()[:8]]
    return checkpoint.parent / BESIDE / ('-'.join(filter(None, words)) + '.json')


def write_beside(checkpoint: Path, result: SuiteResult) -> Path:
    """Writes a result where the report of the run finds it.

    What other suites have measured there stays, as long as the network and its images are the same.

    Args:
        checkpoint: a file in a work dir.
        result: about a network of it.

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
        error: object = 'it is no object'
    except ValueError as caught:
        error = caught
    print_log(f'{path} was damaged ({error}) and is replaced.', logger='current', level=logging.WARNING)
    return {}


def _write(path: Path, content: object) -> None:
    write_atomically(path, (json.dumps(content, indent=2) + '\n').encode())
