"""What a step of each method takes: python benchmarks/methods.py CONFIG CONFIG … [--batch-size 64] [--rounds 10]

A training step of each config, by turns, and its ratio to the first one's. See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import statistics

import torch
from contest.json_line import machine, print_line
from contest.our_step import OurStep, names_of, seconds_of_steps
from contest.turns import median_ratio
from mmengine.logging import MMLogger

from mstkit.errors import exit_cleanly


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='The steps of several configs, in pairs against the first one.')
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='of pre-trainings; the first is the reference')
    parser.add_argument('--batch-size', type=int, default=64, help='images, of which a method may make several views')
    parser.add_argument('--rounds', type=int, default=10, help='steps of each that count; two come before')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16', 'float16'), default='float32')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Builds all, lets them take turns, prints."""
    args = parse_args()
    names = names_of(args.configs)
    torch.set_num_threads(args.threads)
    MMLogger.get_instance('mmengine').setLevel('ERROR')  # else a line for every parameter
    steps = {
        name: OurStep(config, {}, args.batch_size, args.device, args.dtype, None)
        for name, config in zip(names, args.configs, strict=True)
    }
    seconds = seconds_of_steps(steps, args.rounds)
    print(f'batch {args.batch_size}, {args.threads} threads, {args.rounds} rounds, {args.device}, {args.dtype}')
    results: dict[str, dict[str, float]] = {}
    for name in names:
        ratio = median_ratio(seconds[name], seconds[names[0]])
        middle = statistics.median(seconds[name])
        results[name] = dict(seconds=round(middle, 4), over_first=round(ratio, 3))
        print(f'{name:36} {1e3 * middle:8.1f} ms a step, {ratio:5.2f} x {names[0]}')
    print_line({**vars(args), 'machine': machine(), 'torch': torch.__version__, 'results': results}, args.json)


if __name__ == '__main__':
    main()
