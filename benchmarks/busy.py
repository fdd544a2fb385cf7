"""A training on a busy machine: python benchmarks/busy.py [CONFIG] [--data-root DIR]

How much longer an iteration takes, with the loader's workers, while another process keeps each core busy. See
benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # first, while torch is not loaded

import argparse
import statistics
import time

import torch
from contest.json_line import machine, print_line
from contest.neighbors import neighbors
from contest.training_run import check_config, training_run

from mstkit.errors import UsageError, exit_cleanly
from mstkit.experiments.job_devices import usable_cores
from mstkit.utils.progress_bar import track

WARM_UP = 5  # iterations that do not count
KINDS = ('alone', 'busy')
CORES = usable_cores()


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='A training beside processes that keep all cores busy.')
    parser.add_argument('config', nargs='?', default='configs/demo/mst_vit-nano_scenes.py')
    parser.add_argument('--data-root', help='for CONFIG')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='for CONFIG')
    parser.add_argument('--threads', default='1,2', help='of the training, one measurement for each, by commas')
    parser.add_argument('--workers', type=int, default=1, help='of the loader')
    parser.add_argument('--neighbors', type=int, default=CORES, help='busy processes; one for each core by default')
    parser.add_argument('--own-session', action='store_true', help='the training as if in another terminal')
    parser.add_argument('--seconds', type=float, default=10.0, help='of a measurement, alone and busy by turns')
    parser.add_argument('--rounds', type=int, default=3, help='of these turns')
    parser.add_argument('--limit', type=float, default=300.0, help='seconds until the training has warmed up')
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


def check(args: argparse.Namespace) -> list[int]:
    """The numbers of threads. Raises UsageError for what cannot be measured."""
    for name, low in (('workers', 0), ('neighbors', 1), ('rounds', 1)):
        if getattr(args, name) < low:
            raise UsageError(f'--{name} is {getattr(args, name)}: give at least {low}.')
    given = args.threads.split(',')
    if not all(one.isdecimal() and int(one) for one in given) or len(set(given)) < len(given):
        raise UsageError(f'--threads is {args.threads}: give different numbers from 1 on, separated by commas.')
    check_config(args.config)
    return [int(one) for one in given]


def measure(args: argparse.Namespace, words: list[str], threads: int) -> dict[str, list[float]]:
    """Seconds of iterations, alone and busy."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with training_run(words, {'OMP_NUM_THREADS': str(threads)}, args.own_session) as run:

        def new_iterations() -> list[float]:
            if run.has_ended():
                raise run.ended_before('it was measured')
            return run.new_iterations()

        start, warm = time.perf_counter(), 0
        while warm < WARM_UP:
            if time.perf_counter() - start > args.limit:
                raise UsageError(f'no {WARM_UP} iterations within {args.limit:g} s: give a higher --limit.')
            time.sleep(0.1)
            warm += len(new_iterations())
        for turn in track(range(2 * args.rounds), 2 * args.rounds, f'{threads} threads'):
            kind = KINDS[turn % 2]
            with neighbors(args.neighbors if kind == 'busy' else 0):
                time.sleep(0.2)
                new_iterations()  # one of them began before the neighbors did
                until, mixed = time.perf_counter() + args.seconds, True
                while time.perf_counter() < until or mixed:
                    time.sleep(0.05)
                    new = new_iterations()
                    found[kind] += new[1:] if mixed else new
                    mixed = mixed and not new
    return found


@exit_cleanly
def main() -> None:
    """Measures each number of threads, prints."""
    args = parse_args()
    mstkit_waiting.take_turns_of(0)  # so that its neighbors, which are started from here, have the usual ones
    counts = check(args)
    options = ['default_hooks.logger.interval=1', 'log_processor.window_size=1']
    words = [args.config, '--cfg-options', *options, f'train_dataloader.num_workers={args.workers}', *args.cfg_options]
    words += ['--data-root', args.data_root] if args.data_root else []
    results = {}
    for threads in counts:
        seconds = measure(args, words, threads)
        if not all(seconds.values()):
            raise UsageError(f'no iteration within {args.seconds:g} s: give more --seconds.')
        alone, busy = (statistics.median(seconds[kind]) for kind in KINDS)
        fair = max(1.0, (threads + args.neighbors) / CORES)
        results[str(threads)] = dict(
            alone=round(alone, 5),
            busy=round(busy, 5),
            iterations={kind: len(seconds[kind]) for kind in KINDS},
            times_as_long=round(busy / alone, 4),
            fair=round(fair, 4),
        )
        print(
            f'{threads} threads: {alone:.3f} s an iteration alone, {busy:.3f} s beside {args.neighbors} busy processes '
            f'on {CORES} cores: {busy / alone:.2f} times as long; a fair share of the cores is {fair:.2f} times'
        )
    names = ('config', 'workers', 'neighbors', 'own_session', 'seconds', 'rounds')
    about = dict(cores=CORES, machine=machine(), torch=torch.__version__)
    print_line({**{name: getattr(args, name) for name in names}, **about, 'results': results}, args.json)


if __name__ == '__main__':
    main()
