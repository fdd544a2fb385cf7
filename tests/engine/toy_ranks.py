"""Two processes that train a toy together, started without a launcher, which would end one when the other does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import warm

from .test_resume import ROOT, toy_config


@contextmanager
def toy_ranks(folder: Path, port: int, env_cfg: str, **environment: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Context with the processes of ranks 0 and 1, whose stderr is read; they and their workers are killed at its end.

    Args:
        folder: for the config and the work dir.
        port: one that nobody uses.
        env_cfg: of the config, as Python.
        environment: variables that both have, such as those of the toy's hooks.
    """
    config = toy_config(folder)
    config.write_text(f'{config.read_text()}env_cfg = {env_cfg}\n')
    words = [warm.python(), ROOT / 'tools' / 'train.py', config, '--work-dir', folder / 'run', '--launcher', 'pytorch']
    shared = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **environment}
    shared |= {'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
    ranks = [
        subprocess.Popen(words, cwd=ROOT, env={**shared, 'RANK': str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        yield ranks
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
        subprocess.run(['pkill', '-KILL', '-f', str(folder / 'run')], check=False)
