"""Images per second of a config's training loader, and how long a step waits for it: python benchmarks/loader.py CONFIG

Builds the loader like a training, with a consumer that is busy for a given time per step. With ``--against`` a second
loader, with other settings, takes turns with it. See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import copy
import os
import statistics
import time
from collections.abc import Iterator
from typing import Any

import cv2
import torch
from contest.json_line import machine, print_line
from contest.loaders import decode_all, endless
from mmengine.config import Config
from torch.utils.data import DataLoader

from mstkit.engine.config.config_options import OptionsAction
from mstkit.engine.launch.launch import load_config
from mstkit.engine.parallel.cpu_settings import prepare_as
from mstkit.engine.runner.preflight import build_train_loader
from mstkit.errors import UsageError, exit_cleanly
from mstkit.registry import DATASETS, MODELS
from mstkit.utils.build_errors import build_guard
from mstkit.utils.progress_bar import track

WARM_UP = 2  # batches per worker that do not count, because workers prefetch them


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='A training loader: images per second, and the share of stalls.')
    parser.add_argument('config')
    parser.add_argument('--data-root', metavar='DIR', help='the folder of the images')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, default={})
    parser.add_argument(
        '--against',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        help='settings of a second loader, for instance train_dataloader.dataset.memory=False',
    )
    parser.add_argument('--turns', type=int, default=5, help='of each of the two loaders with --against')
    parser.add_argument('--workers', type=int, help="processes that make views; the config's by default")
    parser.add_argument('--batch-size', type=int, help="images per step; the config's by default")
    parser.add_argument('--batches', type=int, default=20, help='that count, in each of the two parts')
    parser.add_argument('--step-ms', type=float, default=0.0, help='how long the consumer is busy with a batch')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


def check(args: argparse.Namespace) -> None:
    """Checks the arguments; raises UsageError."""
    for name, low in (('workers', 0), ('batch_size', 1), ('batches', 1), ('step_ms', 0), ('turns', 1)):
        value = getattr(args, name)
        if value is not None and value < low:
            raise UsageError(f'--{name.replace("_", "-")} is {value}: give at least {low}.')
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        raise UsageError(f'--device {args.device}: PyTorch sees no GPU here; give --device cpu.')


def build(args: argparse.Namespace, config: Config) -> DataLoader:
    """The training loader of the config, over its data set as often as it takes."""
    settings = copy.deepcopy(config.get('train_dataloader'))
    if not settings:
        raise UsageError(f'{args.config} has no train_dataloader: give the config of a training.')
    if args.workers is not None:
        settings.num_workers = args.workers
    if not settings.get('num_workers'):
        settings.update(persistent_workers=False, prefetch_factor=None)
    if not torch.cuda.is_available():
        settings.pin_memory = False
    if args.batch_size is not None:
        settings.batch_size = args.batch_size
    needed = (2 * args.batches + WARM_UP * max(1, settings.get('num_workers') or 0)) * settings.batch_size
    with build_guard():
        images = len(DATASETS.build(settings.dataset))
    repeats = -(-needed // images)
    if repeats > 1 and settings.sampler.type.split('.')[-1] == 'EpochSampler':
        settings.dataset = dict(type='RepeatDataset', dataset=settings.dataset, times=repeats)
        print(f'{images} images are gone through up to {repeats} times')
    return build_train_loader(settings, dict(seed=0))


def consume(
    batches: Iterator[dict[str, Any]], count: int, preprocess: Any, device: str, busy: float, what: str
) -> tuple[list[float], list[float], int]:
    """Measures steps: for each the seconds of waiting and the total seconds, and the number of images.

    Args:
        batches: from the loader.
        count: number of steps.
        preprocess: the data preprocessor (copy to the device, color augmentation if done there, normalization).
        device: of the preprocessing.
        busy: minimum seconds of a step from the arrival of its batch.
        what: for the progress line.
    """
    waits, steps, images = [], [], 0
    for _ in track(range(count), count, what):
        start = time.perf_counter()
        batch = next(batches)
        arrived = time.perf_counter()
        inputs = preprocess(batch, True)['inputs']
        if device.startswith('cuda'):
            torch.cuda.synchronize(device)
        # Sleeps, because a device that computes leaves the CPU to the workers.
        time.sleep(max(0.0, busy - (time.perf_counter() - arrived)))
        images += len(inputs[0] if isinstance(inputs, list) else inputs)
        waits.append(arrived - start)
        steps.append(time.perf_counter() - start)
    return waits, steps, images


def main() -> None:
    """Builds, warms up, measures once at full speed and once with the step, prints."""
    args = parse_args()
    check(args)
    cv2.setNumThreads(0)  # this and prepare_as as the runner does
    config, _ = load_config(args.config, cfg_options=args.cfg_options, data_root=args.data_root)
    prepare_as(config)
    torch.set_num_threads(1)  # leaves the cores to the workers
    loader = build(args, config)
    if args.against is not None:
        options = {**args.cfg_options, **args.against}
        other, _ = load_config(args.config, cfg_options=options, data_root=args.data_root)
        take_turns(args, [loader, build(args, other)])
        return
    settings = config.model.get('data_preprocessor') or config.get('data_preprocessor') or {}
    with build_guard():
        preprocess = MODELS.build({'type': 'ViewDataPreprocessor', **settings}).to(args.device)
    batches = endless(loader)
    workers = loader.num_workers
    consume(batches, WARM_UP * max(1, workers), preprocess, args.device, 0.0, 'warming up')
    busy = args.step_ms / 1000
    full = consume(batches, args.batches, preprocess, args.device, 0.0, 'at full speed')
    paced = consume(batches, args.batches, preprocess, args.device, busy, 'with the step') if busy else None
    report(args, loader, full, paced)


def take_turns(args: argparse.Namespace, loaders: list[DataLoader]) -> None:
    """Measures both loaders at full speed, one after the other in each turn, and prints rates and their ratio.

    Images that a loader keeps in memory are decoded before: what is measured is a later epoch.
    """
    for loader in loaders:
        decode_all(loader.dataset)
    streams = [endless(loader) for loader in loaders]
    rates: list[list[float]] = [[] for _ in loaders]
    for _ in track(range(args.turns), args.turns, 'turns'):
        for stream, loader, found in zip(streams, loaders, rates, strict=True):
            # Those that were made ahead in the other's turn do not count.
            for _ in range(WARM_UP * max(1, loader.num_workers) + 1):
                next(stream)
            start = time.perf_counter()
            images = sum(len(next(stream)['data_samples']) for _ in range(args.batches))
            found.append(images / (time.perf_counter() - start))
    pairs = [first / second for first, second in zip(*rates, strict=True)]
    # Rounded once: the lines for people say the numbers of the line of JSON.
    medians = [round(statistics.median(found), 2) for found in rates]
    print(
        f'{args.config}: batches of {loaders[0].batch_size}, {loaders[0].num_workers} workers, {os.cpu_count()} cores, '
        f'{args.turns} turns of {args.batches} batches'
    )
    for name, median, found in zip(('as given', str(args.against)), medians, rates, strict=True):
        print(f'{name}: {median:.1f} images/s ({min(found):.1f} to {max(found):.1f})')
    print(f'ratio of the pairs: {statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})')
    results = {
        'images_per_second': medians,
        'ratio': round(statistics.median(pairs), 3),
        'ratios': [round(pair, 3) for pair in pairs],
    }
    print_line({'against': args.against, 'turns': args.turns, **facts(args, loaders[0]), 'results': results}, args.json)


def facts(args: argparse.Namespace, loader: DataLoader) -> dict[str, Any]:
    """What was measured where, for the line of JSON."""
    return {
        'config': args.config,
        'batch_size': loader.batch_size,
        'workers': loader.num_workers,
        'batches': args.batches,
        'cores': os.cpu_count(),
        'machine': machine(),
        'torch': torch.__version__,
    }


def report(
    args: argparse.Namespace,
    loader: DataLoader,
    full: tuple[list[float], list[float], int],
    paced: tuple[list[float], list[float], int] | None,
) -> None:
    """Prints the lines for people and the line of JSON."""
    waits, steps, images = full
    batch, workers = loader.batch_size, loader.num_workers
    results: dict[str, Any] = {
        'images_per_second': round(images / sum(steps), 2),
        'median_batch_milliseconds': round(1000 * statistics.median(steps), 3),
        'median_preprocessing_milliseconds': round(
            1000 * statistics.median(step - wait for wait, step in zip(waits, steps, strict=True)), 3
        ),
        'waiting_share': round(sum(waits) / sum(steps), 4),
    }
    print(f'{args.config}: batches of {batch}, {workers} workers, {os.cpu_count()} cores, to {args.device}')
    print(
        f'at full speed {results["images_per_second"]:.1f} images/s, a batch in '
        f'{results["median_batch_milliseconds"]:.0f} ms at the median, '
        f'{results["median_preprocessing_milliseconds"]:.0f} ms of them on the device; waiting for the loader '
        f'{100 * results["waiting_share"]:.1f} % of the time'
    )
    if paced is not None:
        waits, steps, images = paced
        results['paced_images_per_second'] = round(images / sum(steps), 2)
        results['stall_share'] = round(sum(waits) / sum(steps), 4)
        print(
            f'with a step of {args.step_ms:g} ms {results["paced_images_per_second"]:.1f} images/s of '
            f'{1000 * images / len(steps) / args.step_ms:.1f} that it could take; stalled '
            f'{100 * results["stall_share"]:.1f} % of the time'
        )
    print_line({**facts(args, loader), 'step_ms': args.step_ms, 'device': args.device, 'results': results}, args.json)


if __name__ == '__main__':
    exit_cleanly(main)()
