"""What views of small images cost beside the step: python benchmarks/small_views.py CONFIG … --data-root DIR

Batches of a config's views, of images that are in memory, by turns with its training step, in seconds of the processor.
See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import statistics
import time
from typing import Any

import cv2
import torch
from contest.json_line import machine, print_line
from contest.loaders import decode_all, endless
from contest.our_step import PRECISIONS, OurStep, Timed, names_of, seconds_of_steps, view_sizes
from mmengine.logging import MMLogger

from mstkit.engine.config.config_options import OptionsAction
from mstkit.engine.launch.launch import load_config
from mstkit.engine.runner.preflight import build_train_loader
from mstkit.errors import UsageError, exit_cleanly
from mstkit.utils.device_precision import has_bf16


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='The views of images in memory, as a share of the training step.')
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='of pre-trainings')
    parser.add_argument('--data-root', required=True, metavar='DIR', help='the folder of the images')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, default={})
    parser.add_argument('--max-images', type=int, default=2000, help='so many of the folder')
    parser.add_argument('--batch-size', type=int, default=64, help='images')
    parser.add_argument('--rounds', type=int, default=9, help='batches and steps of each that count; two come before')
    parser.add_argument('--dtype', choices=tuple(PRECISIONS), help="of the step; by default this processor's")
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


class Views:
    """Makes batches of a config's views, in this process, as a worker of its loader does.

    Args:
        config: file of the config.
        options: overrides by dotted path.
        data_root: folder of the images.
        most: so many of them.
        batch: images of a batch.

    Raises:
        UsageError: the images are not kept in memory, or are fewer than a batch.
    """

    device = torch.device('cpu')

    def __init__(self, config: str, options: dict[str, Any], data_root: str, most: int, batch: int) -> None:
        options = {**options, 'train_dataloader.dataset.max_images': most}
        settings = load_config(config, cfg_options=options, data_root=data_root)[0].train_dataloader
        settings.update(num_workers=0, persistent_workers=False, prefetch_factor=None, batch_size=batch)
        loader = build_train_loader(settings, dict(seed=0))
        if not decode_all(loader.dataset):
            raise UsageError(f'{config}: its images are not kept in memory: set train_dataloader.dataset.memory=True.')
        self.batches = endless(loader)

    def __call__(self) -> None:
        """The next batch, of the next epoch after the last one."""
        next(self.batches)


@exit_cleanly
def main() -> None:
    """Builds all, lets them take turns, prints."""
    args = parse_args()
    for name in ('max_images', 'batch_size', 'rounds'):
        if getattr(args, name) < 1:
            raise UsageError(f'--{name.replace("_", "-")} is {getattr(args, name)}: give at least 1.')
    torch.set_num_threads(1)
    cv2.setNumThreads(0)  # as a worker has it
    MMLogger.get_instance('mmengine').setLevel('ERROR')  # else a line for every parameter
    dtype = args.dtype or ('bfloat16' if has_bf16(torch.device('cpu')) else 'float32')
    names = names_of(args.configs)
    contestants: dict[tuple[str, str], Timed] = {}
    for name, config in zip(names, args.configs, strict=True):
        contestants[name, 'views'] = Views(config, args.cfg_options, args.data_root, args.max_images, args.batch_size)
        contestants[name, 'step'] = OurStep(config, args.cfg_options, args.batch_size, 'cpu', dtype, None)
    seconds = seconds_of_steps(contestants, args.rounds, time.process_time)
    report(args, dtype, names, seconds)


def report(args: argparse.Namespace, dtype: str, names: list[str], seconds: dict[tuple[str, str], list[float]]) -> None:
    """Prints the lines for people and the line of JSON."""
    print(f'{args.data_root}: batches of {args.batch_size} images, one thread, {args.rounds} rounds, steps in {dtype}')
    print(f'{"microseconds of the processor per image":40}{"sides":>14}{"views":>9}{"step":>9}{"share":>9}')
    results: dict[str, dict[str, Any]] = {}
    for name, config in zip(names, args.configs, strict=True):
        views, step = ([one / args.batch_size for one in seconds[name, part]] for part in ('views', 'step'))
        shares = [one / other for one, other in zip(views, step, strict=True)]
        sizes, _ = view_sizes(load_config(config, cfg_options=args.cfg_options, data_root=args.data_root)[0])
        results[name] = {
            'sizes': sizes,
            'views_microseconds': round(1e6 * statistics.median(views), 1),
            'step_microseconds': round(1e6 * statistics.median(step), 1),
            'share': round(statistics.median(shares), 4),
            'shares': [round(min(shares), 4), round(max(shares), 4)],
        }
        found = results[name]
        sides = ' + '.join(f'{sizes.count(size)} x {size}' for size in sorted(set(sizes), reverse=True))
        print(
            f'{name:40}{sides:>14}{found["views_microseconds"]:9.0f}{found["step_microseconds"]:9.0f}'
            f'{100 * found["share"]:7.1f} %'
        )
    facts = dict(max_images=args.max_images, batch_size=args.batch_size, rounds=args.rounds, dtype=dtype)
    print_line({**facts, 'machine': machine(), 'torch': torch.__version__, 'results': results}, args.json)


if __name__ == '__main__':
    main()
