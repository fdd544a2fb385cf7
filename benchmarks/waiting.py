"""A training step whose idle threads sleep soon, compared with spinning ones: python benchmarks/waiting.py [CONFIG]

mstkit's commands set GOMP_SPINCOUNT. Measures what this costs on an idle machine and saves beside a process that keeps
a core busy, in alternating rounds, with a process for each setting. See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # first, while torch is not loaded

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from contest.json_line import machine, print_line
from contest.neighbors import neighbors
from contest.turns import in_turn
from contest.worker import Worker

from mstkit.engine.config.config_options import OptionsAction
from mstkit.errors import UsageError, exit_cleanly
from mstkit.experiments.job_devices import usable_cores

SHORT, LIBRARY = mstkit_waiting.OURS, mstkit_waiting.LIBRARY


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='What it costs and saves that idle threads sleep soon.')
    parser.add_argument('config', nargs='?', default='configs/demo/mst_vit-nano_scenes.py')
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--steps', type=int, default=30, help='timed, of each way, quiet and beside the neighbors')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads(), help='of a step; all cores by default')
    parser.add_argument('--neighbors', type=int, default=1, help='processes that each keep a core busy')
    parser.add_argument('--limit', type=float, default=60.0, metavar='SECONDS', help='of each of the two measurements')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, default={}, metavar='KEY=VALUE')
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


def environment_of(policy: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment variables for a waiting policy, which replaces the current one.

    Args:
        policy: :data:`SHORT`, or :data:`LIBRARY`, which spins for longer.
        environment: the current variables.
    """
    about = (*mstkit_waiting.THEIRS, mstkit_waiting.MARK)
    found = {name: value for name, value in environment.items() if name not in about}
    if policy == LIBRARY:
        found[mstkit_waiting.MARK] = LIBRARY
    else:
        mstkit_waiting.wait_shortly(found)
    return found


@contextlib.contextmanager
def environment(content: Mapping[str, str]) -> Iterator[None]:
    """Sets the environment of processes that are started inside."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(content)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def take_turns(workers: Mapping[str, Worker], steps: int, limit: float) -> dict[str, list[float]]:
    """Seconds of steps in pairs of alternating order; at least one pair, and no more after ``limit`` seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    start = time.perf_counter()
    for turn in range(steps):
        if turn and time.perf_counter() - start > limit:
            break
        for name in in_turn(workers, turn):
            seconds[name].append(workers[name].ask('step'))
    return seconds


def summary(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Median seconds of each policy, and the median ratio of the pairs: spinning over sleeping."""
    ratios = [spinning / sleeping for sleeping, spinning in zip(seconds[SHORT], seconds[LIBRARY], strict=True)]
    return dict(
        steps=len(ratios),
        seconds={name: round(statistics.median(values), 5) for name, values in seconds.items()},
        slowest={name: round(max(values), 5) for name, values in seconds.items()},
        library_over_short=round(statistics.median(ratios), 4),
    )


def measure(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Summaries for the idle machine and beside busy processes."""
    settings = dict(
        name=args.config,
        options=args.cfg_options,
        batch=args.batch_size,
        device='cpu',
        dtype='float32',
        out_dim=None,
        threads=args.threads,
    )
    workers: dict[str, Worker] = {}
    try:
        for policy in (SHORT, LIBRARY):
            with environment(environment_of(policy, os.environ)):
                workers[policy] = Worker(settings)
        take_turns(workers, 2, args.limit)  # warm-up
        found = {'alone': summary(take_turns(workers, args.steps, args.limit))}
        with neighbors(args.neighbors):
            found['beside neighbors'] = summary(take_turns(workers, args.steps, args.limit))
    finally:
        for worker in workers.values():
            worker.close()
    return found


def main() -> None:
    """Measures and prints."""
    args = parse_args()
    mstkit_waiting.take_turns_of(0)  # which neighbors and the library's own way have from here
    for name in ('batch_size', 'steps', 'threads', 'neighbors'):
        if getattr(args, name) < 1:
            raise UsageError(f'--{name.replace("_", "-")} is {getattr(args, name)}: give at least 1.')
    if args.threads < 2:
        print('note: with one thread nobody waits for another: this changes nothing; give --threads 2 or more.')
    cores = usable_cores()
    load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else None
    found = measure(args)
    busy = '' if load is None else f', load {load:.1f} at the start'
    print(
        f'{args.config}: batch {args.batch_size}, {args.threads} threads on {cores} cores{busy}, {args.neighbors} '
        f'neighbors; torch {torch.__version__}'
    )
    for name, one in found.items():
        sleeping, spinning = one['seconds'][SHORT], one['seconds'][LIBRARY]
        print(
            f'{name:16} {sleeping:8.4f} s a step where idle threads soon sleep, {spinning:8.4f} s where they spin on: '
            f'{one["library_over_short"]:.2f} times as long ({one["steps"]} pairs)'
        )
    names = ('config', 'batch_size', 'threads', 'neighbors')
    settings = {name: getattr(args, name) for name in names}
    about = dict(cores=cores, load_at_start=load, machine=machine(), torch=torch.__version__)
    print_line({**settings, **about, 'results': found}, args.json)


if __name__ == '__main__':
    exit_cleanly(main)()
