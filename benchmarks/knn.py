"""Time and memory of the exact k-NN search: python benchmarks/knn.py [--queries 1000] [--bank 640000] [--threads 2]

Compares mstkit with faiss's exact index (if faiss-cpu is installed) and with matrix product and top-k in blocks, in
alternating rounds. See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import gc
import importlib.metadata
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from contest.json_line import machine, print_line
from contest.memory import memory, start_peak
from contest.turns import in_turn
from torch import Tensor
from torch.nn import functional

from mstkit.errors import UsageError, exit_cleanly
from mstkit.evaluation.protocols.nearest_neighbors import nearest

WHOLE = (50_000, 1_281_167)  # ImageNet's val images and train images
CLASSES = 1000
BLOCK = 65536  # keys per block of the plain search
PART = 1024  # queries per block
SAME = 1e-5  # maximum difference between cosines of two contestants, from rounding

Search = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Exact k-NN search: ours, faiss, and the plain way.')
    parser.add_argument('--queries', type=int, default=1000)
    parser.add_argument('--bank', type=int, default=640_000, help='vectors to search in')
    parser.add_argument('--dims', type=int, default=384)
    parser.add_argument('--k', type=int, default=200)
    parser.add_argument('--order', choices=('random', 'classes'), default='random', help='of the bank')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--json', metavar='OUT', help='also write the line of JSON to this file')
    return parser.parse_args()


def made_vectors(queries: int, bank: int, dims: int, order: str) -> tuple[Tensor, Tensor]:
    """Vectors of noisy classes, of different lengths, as features are; (Q, D) and (M, D)."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(CLASSES, dims, generator=generator)
    parts = []
    for count in (queries, bank):
        labels = torch.randint(CLASSES, (count,), generator=generator)
        if order == 'classes':
            labels = labels.sort().values
        vectors = torch.randn(count, dims, generator=generator).mul_(2).add_(centers[labels])
        parts.append(vectors.mul_(0.5 + torch.rand(count, 1, generator=generator)))
    return parts[0], parts[1]


def ours(queries: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The search of knn_accuracy."""
    return nearest(queries, bank, k)


def plain(queries: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Matrix product and top-k, block by block; the best of all blocks are merged by another top-k."""
    keys = functional.normalize(bank, dim=1)
    rows = []
    for part in functional.normalize(queries, dim=1).split(PART):
        values, indices = part.new_empty(len(part), 0), torch.empty(len(part), 0, dtype=torch.int64)
        for start in range(0, len(keys), BLOCK):
            top = (part @ keys[start : start + BLOCK].T).topk(min(k, len(keys) - start), dim=1)
            values, indices = torch.cat([values, top.values], 1), torch.cat([indices, top.indices + start], 1)
            best = values.topk(min(k, values.shape[1]), dim=1)
            values, indices = best.values, indices.gather(1, best.indices)
        rows.append((values, indices))
    return torch.cat([values for values, _ in rows]), torch.cat([indices for _, indices in rows])


def with_faiss(queries: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """faiss's exact index of inner products."""
    import faiss

    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(functional.normalize(bank, dim=1).numpy())
    values, indices = index.search(functional.normalize(queries, dim=1).numpy(), k)
    return torch.from_numpy(values), torch.from_numpy(indices)


def measure(search: Search, queries: Tensor, bank: Tensor, k: int) -> tuple[float, int | None]:
    """Seconds, and the peak of bytes on top of those in use before."""
    gc.collect()
    start_peak()
    before = memory('VmRSS')
    start = time.perf_counter()
    search(queries, bank, k)
    seconds = time.perf_counter() - start
    peak = memory('VmHWM')
    return seconds, None if before is None or peak is None else max(0, peak - before)


def check_same(found: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Raises UsageError if two contestants disagree by more than rounding."""
    values, indices = found['ours']
    for name, (other, places) in found.items():
        difference = float((values - other).abs().max())
        if difference > SAME:
            raise UsageError(f'ours and {name} differ by {difference:.2g} in a cosine: one of them is not exact.')
        wrong = float((indices.sort(dim=1).values != places.sort(dim=1).values).float().mean())
        if wrong > 0.01:
            raise UsageError(f'ours and {name} name different neighbors in {100 * wrong:.1f} % of places.')


def main() -> None:
    """Creates vectors, checks that all contestants agree, and times them in alternating rounds."""
    args = parse_args()
    for name in ('queries', 'bank', 'dims', 'k', 'threads', 'rounds'):
        if getattr(args, name) < 1:
            raise UsageError(f'--{name} is {getattr(args, name)}: give at least 1.')
    if args.k > args.bank:
        raise UsageError(f'--k is {args.k} and the bank has {args.bank} vectors: give a smaller k.')
    torch.set_num_threads(args.threads)
    contestants: dict[str, Search] = {'ours': ours, 'plain': plain}
    versions = {'torch': torch.__version__}
    if importlib.util.find_spec('faiss') is None:
        print('faiss is not installed (pip install faiss-cpu): measured without it')
    else:
        import faiss

        faiss.omp_set_num_threads(args.threads)
        contestants['faiss'] = with_faiss
        versions['faiss'] = importlib.metadata.version('faiss-cpu')
    queries, bank = made_vectors(args.queries, args.bank, args.dims, args.order)
    check_same({name: search(queries, bank, args.k) for name, search in contestants.items()})
    taken: dict[str, list[tuple[float, int | None]]] = {name: [] for name in contestants}
    for turn in range(args.rounds):
        for name in in_turn(contestants, turn):
            taken[name].append(measure(contestants[name], queries, bank, args.k))
    report(args, taken, versions)


def report(
    args: argparse.Namespace, taken: dict[str, list[tuple[float, int | None]]], versions: dict[str, str]
) -> None:
    """Prints the lines for people and the line of JSON."""
    scale = WHOLE[0] * WHOLE[1] / (args.queries * args.bank)
    results: dict[str, dict[str, Any]] = {}
    print(
        f'{args.queries} queries, {args.bank} x {args.dims} vectors ({args.order}), k {args.k}, '
        f'{args.threads} threads, {args.rounds} rounds; {", ".join(" ".join(pair) for pair in versions.items())}'
    )
    for name, turns in taken.items():
        seconds = [one for one, _ in turns]
        peaks = [peak for _, peak in turns if peak is not None]
        median = statistics.median(seconds)
        ratios = [mine / other for (mine, _), (other, _) in zip(taken['ours'], turns, strict=True)]
        results[name] = {
            'seconds': round(median, 6),
            'fastest': round(min(seconds), 6),
            'slowest': round(max(seconds), 6),
            'peak_bytes': max(peaks) if peaks else None,
            'whole_hours': round(median * scale / 3600, 4),
            'ours_over_this': round(statistics.median(ratios), 4),
        }
        told = f'{max(peaks) / 2**20:.0f} MiB' if peaks else 'unknown memory'
        print(
            f'{name:6} {median:8.3f} s ({min(seconds):.3f} to {max(seconds):.3f}), {told} on top; '
            f'{WHOLE[0]} x {WHOLE[1]}: {median * scale / 3600:.2f} h'
        )
    for name in results:
        if name != 'ours':
            print(f'ours / {name}: {results[name]["ours_over_this"]:.2f}')
    settings = {name: getattr(args, name) for name in ('queries', 'bank', 'dims', 'k', 'order', 'threads', 'rounds')}
    print_line({**settings, 'machine': machine(), **versions, 'results': results}, args.json)


if __name__ == '__main__':
    exit_cleanly(main)()
