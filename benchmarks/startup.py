"""Start-up times: python benchmarks/startup.py [CONFIG]

The seconds to import mstkit, compared with `import torch` and `import mmpretrain`, which it needs; and the seconds from
the command of a training to the end of its first iteration. See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import statistics
import subprocess
import sys
import time

from contest.json_line import machine, print_line
from contest.training_run import check_config, training_run
from contest.turns import in_turn, median_ratio

from mstkit.errors import UsageError, exit_cleanly

IMPORTS = {
    'mstkit': 'import mstkit.engine, mstkit.models',
    'torch': 'import torch',
    'mmpretrain': 'import mmpretrain.models',
}
FIRST = 'Epoch(train)'


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='How long importing takes, and until a training steps.')
    parser.add_argument('config', nargs='?', default='configs/demo/mst_vit-nano_scenes.py')
    parser.add_argument('--data-root', help='for CONFIG')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='for CONFIG')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--limit', type=float, default=600.0, metavar='SECONDS', help='of waiting for an iteration')
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


def seconds_to_import(statement: str) -> float:
    """Seconds of a fresh interpreter that runs only this statement."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', statement], capture_output=True, text=True)
    if done.returncode:
        raise UsageError(f'"{statement}" failed: {done.stderr.strip().splitlines()[-1]}')
    return time.perf_counter() - start


def seconds_to_iteration(words: list[str], limit: float) -> float:
    """Seconds from the command to the log line of the first iteration, after which the training is ended.

    Raises:
        UsageError: the training ends before, or takes longer than the limit.
    """
    start = time.perf_counter()
    with training_run(words, {'MSTKIT_SCREEN': 'full'}) as run:  # FIRST is a line of the log
        while True:
            ended = run.has_ended()
            if FIRST in run.output():
                return time.perf_counter() - start
            if ended:
                raise run.ended_before('its first iteration')
            if time.perf_counter() - start > limit:
                raise UsageError(f'no iteration within {limit:g} s: give a higher --limit.')
            time.sleep(0.02)


def main() -> None:
    """Takes turns, prints."""
    args = parse_args()
    if args.rounds < 1:
        raise UsageError(f'--rounds is {args.rounds}: give at least 1.')
    check_config(args.config)
    words = [args.config, '--cfg-options', 'default_hooks.logger.interval=1', *args.cfg_options]
    words += ['--data-root', args.data_root] if args.data_root else []
    taken: dict[str, list[float]] = {f'import {name}': [] for name in IMPORTS}
    taken['first iteration'] = []
    for turn in range(args.rounds):
        for name in in_turn(IMPORTS, turn):
            taken[f'import {name}'].append(seconds_to_import(IMPORTS[name]))
        taken['first iteration'].append(seconds_to_iteration(words, args.limit))
    median = {name: statistics.median(seconds) for name, seconds in taken.items()}
    for name, seconds in taken.items():
        print(f'{name:18} {median[name]:7.2f} s ({min(seconds):.2f} to {max(seconds):.2f})')
    ratio = {name: median_ratio(taken['import mstkit'], taken[f'import {name}']) for name in ('torch', 'mmpretrain')}
    for name, value in ratio.items():
        print(f'import mstkit / import {name}: {value:.2f}')
    print_line(
        {
            'config': args.config,
            'rounds': args.rounds,
            'machine': machine(),
            'seconds': {name: round(value, 4) for name, value in median.items()},
            'mstkit_over': {name: round(value, 4) for name, value in ratio.items()},
        },
        args.json,
    )


if __name__ == '__main__':
    exit_cleanly(main)()
