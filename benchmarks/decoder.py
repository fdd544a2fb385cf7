"""MST's image decoder, forward and backward, and the same of torch's own operations: python benchmarks/decoder.py

By turns, in seconds of the processor, beside the time of its matrix products and what is kept for the backward pass.
See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from contest.json_line import machine, print_line
from contest.kept_tensors import kept
from contest.turns import in_turn, median_ratio
from torch import Tensor

from mstkit.engine.parallel.cpu_settings import prepare_cpu
from mstkit.errors import UsageError, exit_cleanly
from mstkit.models import CNNImageDecoder
from mstkit.models.decoders.normed_conv import doubled
from mstkit.models.view_batch_norm import normalize_views
from mstkit.utils.progress_bar import track

MB = 1e6
GRID, DIMS, VIEWS = 14, 384, 2  # of a ViT-S with views of 224 px
KERNEL = 9  # positions


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=2, help='of which the decoder sees two views of 224 px each')
    parser.add_argument('--channels', type=int, default=256, help='of the decoder')
    parser.add_argument('--rounds', type=int, default=5, help='that count; one comes before')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


def in_torch(decoder: Any, x: Tensor) -> Tensor:
    """The decoder operation by operation."""
    *blocks, last = decoder.blocks
    for block in blocks:
        x = doubled(normalize_views(block.norm, block.conv(x), VIEWS, VIEWS).relu_())
    return doubled(decoder.to_pixels(normalize_views(last.norm, last.conv(x), VIEWS, VIEWS).relu_()))


def products(decoder: Any, images: int, dtype: torch.dtype) -> Callable[[], None]:
    """The matrix products of the convolutions: forward, and for the gradients of input and weights."""
    pairs = []
    for number, block in enumerate(decoder.blocks):
        rows, inner, columns = images * (GRID * 2**number) ** 2, block.conv.in_channels * KERNEL, len(block.conv.weight)
        pairs += [
            ((rows, inner), (inner, columns)),
            ((rows, columns), (columns, inner)),
            ((inner, rows), (rows, columns)),
        ]
    largest = max(a * b for pair in pairs for a, b in pair)
    left, right = (torch.rand(largest).to(dtype) for _ in range(2))

    def run() -> None:
        for (a, b), (_, c) in pairs:
            torch.mm(left[: a * b].view(a, b), right[: b * c].view(b, c))

    return run


@exit_cleanly
def main() -> None:
    """Measures and prints."""
    args = parse_args()
    for name in ('images', 'channels', 'rounds', 'threads'):
        if getattr(args, name) < 1:
            raise UsageError(f'--{name} is {getattr(args, name)}: give at least 1')
    torch.set_num_threads(args.threads)
    prepare_cpu()
    torch.manual_seed(0)
    decoder = CNNImageDecoder(DIMS, channels=args.channels).train()
    x = torch.randn(VIEWS * args.images, DIMS, GRID, GRID).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    dtype = getattr(torch, args.dtype)

    def run(way: Callable[[], Tensor]) -> Tensor:
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype is torch.bfloat16):
            return way()

    ways: dict[str, Callable[[], Tensor]] = {
        'ours': lambda: run(lambda: decoder(x, VIEWS)),
        'torch': lambda: run(lambda: in_torch(decoder, x)),
    }
    bytes_kept = {name: kept(decoder, way) for name, way in ways.items()}
    runs: dict[str, Callable[[], Any]] = {
        **{name: lambda way=way: way().float().square().mean().backward() for name, way in ways.items()},  # type: ignore[misc]
        'products': products(decoder, len(x), dtype),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in track(range(-1, args.rounds), args.rounds + 1, 'rounds'):
        for name in in_turn(runs, turn):
            start = time.process_time()
            runs[name]()
            if turn >= 0:
                seconds[name].append(time.process_time() - start)
    faster = median_ratio(seconds['torch'], seconds['ours'])
    bound = {name: median_ratio(seconds['products'], seconds[name]) for name in ways}
    print(
        f'CNNImageDecoder, {args.channels} channels, {len(x)} views of 224 px, {args.dtype}, {args.threads} threads, '
        f'{args.rounds} rounds; torch {torch.__version__}'
    )
    for name in ways:
        print(
            f'{name:6} {statistics.median(seconds[name]):7.3f} s of the processor, matrix products {bound[name]:.2f} '
            f'of it; {bytes_kept[name] / MB:.0f} MB kept for the backward pass'
        )
    print(f'ours: {faster:.2f} times as fast, {bytes_kept["ours"] / bytes_kept["torch"]:.2f} of what is kept')
    results = dict(seconds=seconds, faster=faster, products=bound, kept=bytes_kept)
    print_line({**vars(args), 'machine': machine(), 'torch': torch.__version__, 'results': results}, args.json)


if __name__ == '__main__':
    main()
