"""What several masks of an image cost: python benchmarks/masks_per_image.py CONFIG [--masks 1,2,4,8] [--rounds 10]

A training step of the config with each number of masks, by turns, on the same images. See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import statistics
import time

import torch
from contest.json_line import machine, print_line
from contest.our_step import OurStep, seconds_of_steps
from contest.turns import median_ratio
from mmengine.logging import MMLogger

from mstkit.errors import UsageError, exit_cleanly


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description='A step with several masks of an image, in pairs with one of one mask.'
    )
    parser.add_argument('config', help='of a pre-training whose model has masks_per_image')
    parser.add_argument(
        '--masks', default='1,2,4,8', help='numbers of masks, separated by commas; the first is compared'
    )
    parser.add_argument('--batch-size', type=int, default=16, help='images')
    parser.add_argument('--rounds', type=int, default=10, help='steps of each that count; two come before')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', choices=('float32', 'bfloat16', 'float16'), default='float32')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    args = parser.parse_args()
    given = args.masks.split(',')
    if not all(one.isdecimal() and int(one) for one in given) or len(set(given)) < len(given):
        raise UsageError(f'--masks is {args.masks}: give different numbers from 1 on, separated by commas')
    return args


@exit_cleanly
def main() -> None:
    """Builds all, lets them take turns, prints."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    MMLogger.get_instance('mmengine').setLevel('ERROR')  # else a line for every parameter
    counts = [int(one) for one in args.masks.split(',')]
    steps = {
        str(count): OurStep(
            args.config, {'model.masks_per_image': count}, args.batch_size, args.device, args.dtype, None
        )
        for count in counts
    }
    # On the CPU its own seconds, of which other programs take none away.
    clock = time.process_time if args.device == 'cpu' else time.perf_counter
    seconds = seconds_of_steps(steps, args.rounds, clock)
    how = f'{args.threads} threads, {args.rounds} rounds, {args.device}, {args.dtype}'
    print(f'{args.config}: batch {args.batch_size}, {how}')
    results: dict[str, dict[str, float]] = {}
    for name, count in zip(steps, counts, strict=True):
        ratio, middle = median_ratio(seconds[name], seconds[str(counts[0])]), statistics.median(seconds[name])
        each = middle / count
        results[name] = dict(seconds=round(middle, 4), over_first=round(ratio, 3), seconds_a_mask=round(each, 4))
        print(f'{name:>4} masks {1e3 * middle:8.1f} ms a step, {ratio:5.2f} x {counts[0]}, {1e3 * each:8.1f} ms a mask')
    print_line({**vars(args), 'machine': machine(), 'torch': torch.__version__, 'results': results}, args.json)


if __name__ == '__main__':
    main()
