"""Compares the attention and layers of networks: ``mstkit dark-secrets SOURCE … --images DIR``.

Draws, for each network, the attention distance and entropy of its heads, the divergence between heads, and the CKA
similarity of its blocks to each other and to those of other networks (dark_secrets.png, .pdf; all numbers in .csv): the
analyses of Xie et al., arXiv 2205.13543. With --train and --val also the accuracy without the last blocks.

SOURCE is a checkpoint of mstkit (FILE.pth, all its branches), timm:NAME[@FILE], mmpretrain:NAME_OR_CONFIG[@FILE], or
random:CONFIG.py or random:FILE.pth for the same network with random weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import torch
from torch import Tensor

from mstkit.analysis import truncations
from mstkit.analysis.cka import FEWEST
from mstkit.analysis.network_comparison import (
    DroppedCurve,
    compare_networks,
    comparison_csv,
    measure_network,
)
from mstkit.datasets.plain_reading import read_images
from mstkit.errors import UsageError, exit_cleanly
from mstkit.evaluation import evaluators  # noqa: F401  (registers them)
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.image_sets import open_sets
from mstkit.interop import BRANCH_PREFIXES
from mstkit.networks import Network, open_several
from mstkit.registry import EVALUATORS
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import output_folder
from mstkit.utils.progress_bar import track
from mstkit.visualization.network_comparison_figure import draw_comparison

GROUP = 'look'  # of mstkit --help

NAME = 'dark_secrets'
CLASS_TOKEN = 'a class token is left out, and what remains of each row is made to sum to one'
# features='last' needs only the last block, so it works with any number of blocks.
METRICS = {'knn': dict(type='knn'), 'linear': dict(type='linear', features='last')}
NAMED = 3  # unreadable files whose names are given
LAYOUTS = {'vit': 'ViT', 'swin': 'Swin'}


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sources', nargs='+', metavar='SOURCE', help='networks; see above')
    parser.add_argument('--images', required=True, metavar='DIR', help='a folder of images, in any depth')
    parser.add_argument('--max-images', type=int, default=256, metavar='N', help='images to measure on')
    parser.add_argument('--batch-size', type=int, default=64, metavar='N', help='images at once, at least 4')
    parser.add_argument('--branch', choices=tuple(BRANCH_PREFIXES), help='of checkpoints; by default both')
    parser.add_argument('--labels', nargs='+', metavar='NAME', help='names in the figure, one per network')
    parser.add_argument('--train', metavar='DIR', help='labeled images to learn from, for the last panel')
    parser.add_argument('--val', metavar='DIR', help='labeled images to judge by, for the last panel')
    parser.add_argument('--allow-overlap', action='store_true', help='measure although val has images of train')
    parser.add_argument('--metric', choices=tuple(METRICS), default='knn', help='of the last panel')
    parser.add_argument(
        '--most-dropped', type=int, metavar='N', help='blocks in the last panel; by default all but one'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the order of the images')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--num-workers', type=int, default=2, metavar='N', help='processes that load labeled images')
    parser.add_argument('--out', default=f'work_dirs/{NAME}', metavar='DIR', help='where the files go')
    args = parser.parse_args()
    given = vars(args)
    for name, least in (
        ('max_images', FEWEST),
        ('batch_size', FEWEST),
        ('most_dropped', 1),
        ('seed', 0),
        ('num_workers', 0),
    ):
        value = given.get(name)
        if value is not None and value < least:
            raise UsageError(f'--{name.replace("_", "-")} is {value}; it must be at least {least}.')
    if (given.get('train') is None) != (given.get('val') is None):
        raise UsageError('the panel without the last blocks needs both --train and --val, and one of them is missing.')
    return args


def open_all(args: argparse.Namespace) -> dict[str, Network]:
    """The networks by their names in the figure."""
    networks = open_several(args.sources, args.branch, args.device)
    names = args.labels or [network.name for network in networks]
    if len(names) != len(networks):
        opened = ', '.join(network.name for network in networks)
        raise UsageError(f'--labels has {len(names)} names for {len(networks)} networks: {opened}.')
    if len(set(names)) < len(names):
        raise UsageError(f'--labels has the name {max(names, key=names.count)!r} more than once; give different ones.')
    return dict(zip(names, networks, strict=True))


def about(network: Network) -> str:
    """A short description of a network."""
    return f'{LAYOUTS.get(network.layout, network.layout)}, {len(network.blocks)} blocks, {network.image_size} px'


def read_all(
    folder: str, networks: Iterable[Network], most: int, seed: int
) -> tuple[dict[tuple[int, int], Tensor], list[str]]:
    """The images for each network's size, in the same random order, and the files that cannot be read.

    The order is random because CKA compares the images of a batch, and folders are often sorted by class.

    Returns:
        (M, 3, H, W) uint8 by the view of a network, see :func:`view_of`; and the unreadable files.
    """
    by_size: dict[tuple[int, int], Tensor] = {}
    unreadable: list[str] = []
    for resize, crop in sorted({view_of(network) for network in networks}):
        images, unreadable = read_images(folder, [dict(type='CenterView', resize=resize, crop=crop)], most)
        if len(images) < FEWEST:
            raise UsageError(
                f'the folder {folder} has {len(images)} readable images, and CKA needs at least {FEWEST}: add some.'
            )
        by_size[resize, crop] = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))]
    return by_size, unreadable


def view_of(network: Network) -> tuple[int, int]:
    """The length to which an image's shorter side is resized, and the side of the center crop, px."""
    return network.resize, network.image_size


def batches(network: Network, name: str, images: Tensor, size: int, device: str) -> Iterator[Tensor]:
    """Normalized batches of nearly equal sizes, since all batches have the same weight in CKA."""
    mean, std = (torch.tensor(part, device=device).view(1, 3, 1, 1) for part in (network.mean, network.std))
    count = max(1, min(-(-len(images) // size), len(images) // FEWEST))
    for part in track(images.tensor_split(count), count, f'{name}: attention and similarity'):
        yield (part.to(device).float() - mean) / std


def labeled_subjects(args: argparse.Namespace) -> Callable[[Network], EvaluatedNetwork] | None:
    """A function that combines a network with the labeled images; None without --train.

    Raises:
        UsageError: the folders do not fit each other.
    """
    if args.train is None:
        return None
    train, val = open_sets(args.train, args.val, allow_overlap=args.allow_overlap)
    settings = dict(device=args.device, seed=args.seed, batch_size=args.batch_size, num_workers=args.num_workers)
    return lambda network: EvaluatedNetwork(network, train, val, **settings)


def drop_blocks(
    networks: dict[str, Network], evaluated_of: Callable[[Network], EvaluatedNetwork], metric: str, most: int | None
) -> list[DroppedCurve]:
    """The metric of every network without its last blocks."""
    evaluator = EVALUATORS.build(METRICS[metric])
    curves = []
    for name, network in networks.items():
        found: dict[str, list[tuple[int, float]]] = {}
        shortened = truncations(network, most)
        for short in track(shortened, len(shortened), f'{name}: without the last blocks'):
            evaluated = evaluated_of(short.network)
            evaluator.check(evaluated)
            number, value = next(iter(evaluator(evaluated).items()))
            found.setdefault(short.where, []).append((short.dropped, value))
        whole = found['end'][0]
        for where, points in found.items():
            curves.append(DroppedCurve(name, number, where, points if where == 'end' else [whole, *points]))
    return curves


@exit_cleanly
def main() -> None:
    """Opens networks, reads images, measures, and writes figure and numbers."""
    args = parse_args()
    out = output_folder('--out', args.out)
    networks = open_all(args)
    evaluated_of = labeled_subjects(args)
    by_size, unreadable = read_all(args.images, networks.values(), args.max_images, args.seed)

    measured = []
    for name, network in networks.items():
        parts = batches(network, name, by_size[view_of(network)], args.batch_size, args.device)
        measured.append(measure_network(network, name, about(network), parts))
    dropped = drop_blocks(networks, evaluated_of, args.metric, args.most_dropped) if evaluated_of else []
    comparison = compare_networks(measured, dropped)

    count = len(next(iter(by_size.values())))
    notes = [f'{count} images of {args.images}. Attention is that of patches to patches: {CLASS_TOKEN}.']
    if unreadable:
        more = f' and {len(unreadable) - NAMED} more' if len(unreadable) > NAMED else ''
        notes.append(f'{len(unreadable)} files cannot be read: {"; ".join(unreadable[:NAMED])}{more}')
    title = 'Inside a network' if len(networks) == 1 else f'Inside {len(networks)} networks, on the same images'
    draw_comparison(comparison, [out / f'{NAME}.png', out / f'{NAME}.pdf'], title, notes)
    write_atomically(out / f'{NAME}.csv', comparison_csv(comparison).encode())
    print('\n'.join(notes))
    print(f'written: {out / NAME}.png, .pdf, and every number in .csv')
