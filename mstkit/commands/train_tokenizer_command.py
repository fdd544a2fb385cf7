"""Makes a tokenizer: ``mstkit train-tokenizer --data-root DIR --network SPEC --codes K --out F``.

It gives an id to every patch of an image, by k-means on the patch features of a network, or on whitened pixels
(--network raw). A SPEC is FILE.pth,
timm:NAME[@WEIGHTS], mmpretrain:NAME_OR_CONFIG.py[@WEIGHTS] or random:CONFIG.py. The file holds the network too, and is
what BEiT's model.tokenizer wants; F.png beside it shows patches of some codes. The same command after a kill goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import torch

from mstkit.codebooks import KeptNetwork, KMeansSettings, VQKDSettings, keep_network, train_kmeans, train_vq_kd
from mstkit.codebooks.image_batches import ImageSet
from mstkit.errors import UsageError, exit_cleanly
from mstkit.interop import BRANCH_PREFIXES
from mstkit.models.tokenizers import RawPatches
from mstkit.networks import open_networks
from mstkit.utils.checks import check_count, check_size
from mstkit.utils.output_paths import output_file
from mstkit.visualization.code_sheet import draw_code_sheet

GROUP = 'train'  # of mstkit --help

RAW = 'raw'


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', required=True, metavar='DIR', help='a folder of images; DIR/train where it is')
    parser.add_argument('--network', required=True, metavar='SPEC', help='whose patch features, or raw for pixels')
    parser.add_argument(
        '--branch', choices=tuple(BRANCH_PREFIXES), help='of a checkpoint; its teacher where it has one'
    )
    parser.add_argument('--codes', type=int, default=1024, metavar='K', help='how many codes')
    parser.add_argument('--out', required=True, metavar='FILE', help='the tokenizer')
    parser.add_argument(
        '--images', type=int, default=20_000, metavar='N', help='at most so many, from all over the folder'
    )
    parser.add_argument('--patches', type=int, default=200_000, metavar='N', help='about so many of them all')
    parser.add_argument('--steps', type=int, default=50, metavar='N', help='of k-means, at most, each over all patches')
    parser.add_argument('--batch', type=int, default=1 << 18, metavar='N', help='more patches than that go in batches')
    parser.add_argument('--init', choices=('k-means++', 'random'), default='k-means++', help='of the centers')
    parser.add_argument('--patch-size', type=int, default=8, metavar='PX', help='of raw patches')
    parser.add_argument(
        '--image-size', type=int, default=64, metavar='PX', help='of the images that raw patches are of'
    )
    parser.add_argument(
        '--max-unreadable', type=float, default=0.01, metavar='SHARE', help='of broken images, left out'
    )
    parser.add_argument('--vq-kd', action='store_true', help='an encoder from whose codes the network can be told')
    parser.add_argument('--epochs', type=int, default=20, metavar='N', help='of --vq-kd')
    parser.add_argument('--width', type=int, default=192, metavar='C', help='of the encoder of --vq-kd')
    parser.add_argument('--layers', type=int, default=4, metavar='N', help='of the encoder of --vq-kd')
    parser.add_argument('--lr', type=float, default=5e-4, help='of --vq-kd')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--batch-size', type=int, default=32, help='images that go through the network at once')
    parser.add_argument('--num-workers', type=int, default=2, help='processes that read images')
    return parser.parse_args()


def open_source(args: argparse.Namespace) -> tuple[KeptNetwork | RawPatches, dict[str, Any]]:
    """What makes the features, and where it comes from."""
    if args.network == RAW:
        if args.vq_kd:
            raise UsageError('--vq-kd wants a teacher: give a network by --network, not raw')
        side, size = check_size('--patch-size', args.patch_size, high=64), check_size('--image-size', args.image_size)
        if size % side:
            raise UsageError(f'--image-size {size} is no multiple of --patch-size {side}: give {size - size % side}')
        return RawPatches(side, size), dict(network=RAW, patch_size=side, image_size=size)
    opened = open_networks(args.network, args.branch)
    network = opened[-1]  # a teacher, where there are two
    print(f'network: {network.name} ({network.origin})')
    origin = dict(network=network.name, weights=network.origin, fingerprint=network.fingerprint)
    return keep_network(network), origin


@exit_cleanly
def main() -> None:
    """Opens, collects, clusters, writes, shows."""
    args = parse_args()
    out = output_file('--out', args.out)
    if out.exists():
        raise UsageError(f'--out {out} is there already: give another name, or remove it')
    check_count('--batch-size', args.batch_size, 1)
    settings = KMeansSettings(args.codes, args.patches, args.steps, args.init, args.batch, args.seed)
    source, origin = open_source(args)
    size = source.image_size if isinstance(source, RawPatches) else source.source.image_size
    images = ImageSet(args.data_root, size, args.images, args.max_unreadable)
    print(f'images: {len(images)} of {args.data_root}, {size} px')
    origin['data_root'] = str(Path(args.data_root).resolve())
    where: dict[str, Any] = dict(device=args.device, workers=args.num_workers)
    if isinstance(source, KeptNetwork) and args.vq_kd:
        learning = VQKDSettings(
            args.codes, args.epochs, args.width, args.layers, args.batch_size, args.lr, seed=args.seed
        )
        made = train_vq_kd(out, source, images, learning, origin, **where)
    else:
        made = train_kmeans(out, source, images, settings, origin, batch_size=args.batch_size, **where)
    sheet = out.with_name(f'{out.name}.png')
    title = [
        f'{out.name}: {made.statistics}. Columns: some codes, from the most to the least frequent of those in use, '
        'with their share of the patches; rows: the patches nearest to each.'
    ]
    total = max(1, int(made.counts.sum()))
    columns = {
        f'{code}\n{100 * int(made.counts[code]) / total:.2f} %': rows
        for code, rows in zip(made.chosen, made.rows, strict=True)
    }
    draw_code_sheet(columns, sheet, title)
    restarted = '' if args.vq_kd else f', {made.restarted} dead codes restarted'
    print(f'{"VQ-KD" if args.vq_kd else "k-means"}: {made.steps} steps{restarted}')
    print(f'tokenizer: {made.statistics}')
    print(f'written: {out}, and {sheet} to look at')
