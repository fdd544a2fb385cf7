"""The file that a run leaves when its numbers are not finite: what ``mstkit replay`` needs to repeat its steps."""

from __future__ import annotations

import json
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mstkit.engine.checkpoints.run_ending import last_good
from mstkit.utils.files import write_atomically

NAME = 'non_finite.json'
FORMAT = 1
KEYS = frozenset(('iteration', 'reason', 'checkpoint', 'config', 'seed', 'processes'))


def leave_record(runner: Runner, reason: str, iteration: int) -> str:
    """Writes ``non_finite.json`` into the work dir; the main process does.

    Args:
        runner: of the run.
        reason: what is not finite.
        iteration: at whose end it was noticed, counted from 1.

    Returns:
        A sentence for the user.
    """
    file = Path(runner.work_dir) / NAME
    if is_main_process():
        checkpoint = last_good(runner.work_dir)
        record = dict(
            format=FORMAT,
            iteration=iteration,
            reason=reason,
            checkpoint=None if checkpoint is None else str(checkpoint.resolve()),
            config=runner.cfg.pretty_text,
            seed=runner.seed,
            processes=runner.world_size,
        )
        write_atomically(file, (json.dumps(record, indent=1) + '\n').encode())
    return f'"mstkit replay {file}" repeats the steps and says where it came from.'
