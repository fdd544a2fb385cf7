"""k-NN from half-precision features: python benchmarks/knn_precision.py NETWORK … --data-root DIR

Features of the same images in float32 and in half precision, block by block in turns: seconds, and k-NN from each. See
benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import statistics
import time
from typing import Any

import torch
from contest.json_line import machine, print_line
from contest.judged_features import BLOCK, Judge, features_of
from contest.peer_step import DTYPES
from contest.turns import in_turn
from torch import Tensor

from mstkit.errors import UsageError, exit_cleanly
from mstkit.evaluation.protocols.weighted_knn import knn_accuracy
from mstkit.networks.network import Network
from mstkit.networks.open_network import open_several
from mstkit.structures import FeatureBank

KS = (1, 20)
HALVES = ('bfloat16', 'float16')


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='k-NN from features in half precision, beside those in float32.')
    parser.add_argument('networks', nargs='+', metavar='NETWORK', help='as mstkit evaluate takes them')
    parser.add_argument('--data-root', required=True, metavar='DIR', help='train/CLASS and val/CLASS')
    parser.add_argument('--branch', choices=('student', 'teacher'), help='of checkpoints; both by default')
    parser.add_argument('--size', type=int, default=64, help='of the views in px')
    parser.add_argument('--half', choices=HALVES, default='bfloat16')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


def measure(network: Network, judge: Judge, device: torch.device, half: str) -> dict[str, dict[str, Any]]:
    """Seconds and k-NN by precision.

    Seconds are those that the processor computed, on a GPU those of the clock.
    """
    types = ('float32', half)
    seconds: dict[str, list[float]] = {name: [] for name in types}
    banks: dict[str, dict[str, FeatureBank]] = {name: {} for name in types}

    def now() -> float:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return time.perf_counter() if device.type == 'cuda' else time.process_time()

    for split, (views, labels) in judge.views.items():
        rows: dict[str, list[Tensor]] = {name: [] for name in types}
        for turn, block in enumerate(views.split(BLOCK)):
            for name in in_turn(types, turn):
                begun = now()
                rows[name].append(features_of(network.features, block, device, DTYPES[name]))
                if len(block) == BLOCK:
                    seconds[name].append(now() - begun)
        for name in types:
            banks[name][split] = FeatureBank(torch.cat(rows[name]), labels, judge.classes)
    return {
        name: dict(
            seconds_per_thousand=round(statistics.median(seconds[name]) * 1000 / BLOCK, 4),
            ratio=round(statistics.median(b / a for a, b in zip(seconds[name], seconds['float32'], strict=True)), 3),
            **{key: round(value, 2) for key, value in knn_accuracy(of['train'], of['val'], KS).items()},
        )
        for name, of in banks.items()
    }


@exit_cleanly
def main() -> None:
    """Opens the networks, measures, prints."""
    args = parse_args()
    if args.size < 1 or args.threads < 1:
        raise UsageError(f'--size {args.size} --threads {args.threads}: both are whole numbers from 1.')
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    networks = open_several(args.networks, args.branch, device)
    judge = Judge(args.data_root, args.size)
    if min(len(views) for views, _ in judge.views.values()) < BLOCK:
        raise UsageError(f'--data-root {args.data_root}: give at least {BLOCK} images to train and to val.')
    results = {}
    for network in networks:
        results[network.name] = measure(network, judge, device, args.half)
        for name, found in results[network.name].items():
            print(
                f'{network.name}, {name}: {found["seconds_per_thousand"]:.2f} s for 1,000 images, '
                f'{found["ratio"]:.2f} times as fast; k-NN {found["k20_top1"]:.2f} (k = 20), '
                f'{found["k1_top1"]:.2f} (k = 1)',
                flush=True,
            )
    content = dict(
        images={name: len(views) for name, (views, _) in judge.views.items()},
        device=args.device,
        machine=machine(),
        threads=args.threads,
        torch=torch.__version__,
    )
    print_line(dict(content, results=results), args.json)


if __name__ == '__main__':
    main()
