"""Images per second of a training step: python benchmarks/train_step.py CONFIG [--against lightly-dino]

Measures a step by phases, and compares it with another package or another config on views of the same sizes, in
alternating rounds in separate processes; and with the time of the step's matrix products alone. See
benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch
from contest.json_line import machine, print_line
from contest.our_step import configured, view_sizes
from contest.steps import PEERS
from contest.turns import in_turn, median_ratio
from contest.worker import Worker

from mstkit.engine.config.config_options import OptionsAction
from mstkit.errors import UsageError, exit_cleanly


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='The training step of a config: time, phases, memory, bound.')
    parser.add_argument('config')
    parser.add_argument('--against', default='none', help=f'{", ".join(PEERS)}, none, or another config')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, default={}, help='for CONFIG')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--steps', type=int, default=5, help='that count; two come before')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16', 'float16'), default='float32')
    parser.add_argument('--out-dim', type=int, default=8192, help='prototypes of every head')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


def settings_of(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The settings of each contestant; ours first."""
    common = dict(
        batch=args.batch_size, device=args.device, dtype=args.dtype, out_dim=args.out_dim, threads=args.threads
    )
    sizes, global_views = view_sizes(configured(args.config, args.cfg_options))
    contestants = {'ours': dict(common, name=args.config, options=args.cfg_options)}
    if args.against in PEERS:
        if global_views != PEERS[args.against]:
            raise UsageError(
                f'{args.against} takes {PEERS[args.against]} global views and {args.config} makes {global_views}.'
            )
        contestants[args.against] = dict(common, name=args.against, sizes=sizes)
    elif args.against != 'none':
        if not Path(args.against).is_file():
            raise UsageError(f'--against {args.against}: give {", ".join(PEERS)}, none, or the file of a config.')
        contestants[Path(args.against).stem] = dict(common, name=args.against, options={})
    return contestants


def measure(workers: dict[str, Worker], steps: int) -> dict[str, dict[str, Any]]:
    """Times steps in alternating rounds; then measures phases, memory and matrix products."""
    for worker in workers.values():
        for _ in range(2):
            worker.ask('step')
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(steps):
        for name in in_turn(workers, turn):
            seconds[name].append(workers[name].ask('step'))
    found: dict[str, dict[str, Any]] = {}
    for name, worker in workers.items():
        peak, products = worker.ask('peak'), worker.ask('products')
        phases = [worker.ask('phases') for _ in range(3)]
        found[name] = dict(
            seconds=seconds[name],
            peak_bytes=peak,
            products=products,
            phases={phase: statistics.median(one.get(phase, 0.0) for one in phases) for phase in phases[-1]},
        )
    return found


def report(args: argparse.Namespace, found: dict[str, dict[str, Any]]) -> None:
    """Prints the lines for people and the line of JSON."""
    print(
        f'{args.config}: batch {args.batch_size}, {args.out_dim} prototypes, {args.dtype}, {args.device}, '
        f'{args.threads} threads, {args.steps} steps; torch {torch.__version__}'
    )
    results: dict[str, dict[str, Any]] = {}
    for name, one in found.items():
        median = statistics.median(one['seconds'])
        bound = one['products']['seconds']
        results[name] = dict(
            images_per_second=round(args.batch_size / median, 4),
            seconds=round(median, 5),
            fastest=round(min(one['seconds']), 5),
            slowest=round(max(one['seconds']), 5),
            bound_seconds=round(bound, 5),
            bound_over_step=round(bound / median, 4),
            tflops=round(one['products']['operations'] / median / 1e12, 4),
            peak_bytes=one['peak_bytes'],
            phases={phase: round(value, 5) for phase, value in one['phases'].items()},
        )
        peak = 'unknown memory' if one['peak_bytes'] is None else f'{one["peak_bytes"] / 2**30:.2f} GiB'
        print(
            f'{name}: {args.batch_size / median:.2f} images/s, {median:.3f} s a step '
            f'({min(one["seconds"]):.3f} to {max(one["seconds"]):.3f}), {peak}; matrix products alone {bound:.3f} s, '
            f'{bound / median:.2f} of it'
        )
        whole = sum(one['phases'].values())
        shares = (f'{phase} {100 * value / whole:.1f} %' for phase, value in one['phases'].items())
        print(f'  {", ".join(shares)}')
    for name, one in found.items():
        if name == 'ours':
            continue
        results[name]['ours_faster'] = round(median_ratio(one['seconds'], found['ours']['seconds']), 4)
        print(f'ours over {name}: {results[name]["ours_faster"]:.2f} x images/s', end='')
        if one['peak_bytes'] and found['ours']['peak_bytes']:
            results[name]['ours_memory'] = round(found['ours']['peak_bytes'] / one['peak_bytes'], 4)
            print(f', {results[name]["ours_memory"]:.2f} x memory', end='')
        print()
    names = ('config', 'batch_size', 'steps', 'device', 'dtype', 'out_dim', 'threads')
    settings = {name: getattr(args, name) for name in names}
    print_line({**settings, 'machine': machine(), 'torch': torch.__version__, 'results': results}, args.json)


def main() -> None:
    """Builds the contestants, measures them and prints the results."""
    args = parse_args()
    for name in ('batch_size', 'steps', 'out_dim', 'threads'):
        if getattr(args, name) < 1:
            raise UsageError(f'--{name.replace("_", "-")} is {getattr(args, name)}: give at least 1.')
    if torch.device(args.device).type == 'cuda' and not torch.cuda.is_available():
        raise UsageError(f'--device {args.device}: torch sees no GPU here; give --device cpu.')
    workers: dict[str, Worker] = {}
    try:
        for name, settings in settings_of(args).items():
            workers[name] = Worker(settings)
        found = measure(workers, args.steps)
    finally:
        for worker in workers.values():
            worker.close()
    report(args, found)


if __name__ == '__main__':
    exit_cleanly(main)()
