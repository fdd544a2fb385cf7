"""Writes the features of a folder of images to a file: ``mstkit embed SOURCE --images DIR --out F.npz``.

SOURCE is FILE.pth, timm:NAME[@WEIGHTS] or mmpretrain:NAME[@WEIGHTS]; of a checkpoint with two branches, the teacher.
DIR holds images in any depth. F.npz, or F.parquet, has the features, the path of each image below DIR, and its label
where sub-folders are classes. An interrupted run goes on where it was, by the same command.
"""

from __future__ import annotations

import argparse
import sys

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import torch

from mstkit.embedding import check_out, embed_folder
from mstkit.errors import exit_cleanly
from mstkit.interop import BRANCH_PREFIXES
from mstkit.networks import load

GROUP = 'files'  # of mstkit --help
NAMED = 5  # unreadable images that are named on the screen


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', metavar='SOURCE', help='the network')
    parser.add_argument('--images', required=True, metavar='DIR', help='a folder of images, in any depth')
    parser.add_argument('--out', required=True, metavar='F.npz', help='the file that is written, .npz or .parquet')
    parser.add_argument('--patches', action='store_true', help='the patch tokens instead of one feature per image')
    parser.add_argument('--last-blocks', type=int, default=1, metavar='N', help='of the last N blocks, side by side')
    parser.add_argument('--no-labels', action='store_true', help='sub-folders are no classes')
    parser.add_argument('--branch', choices=tuple(BRANCH_PREFIXES), help='of a checkpoint; default: the teacher')
    parser.add_argument('--overwrite', action='store_true', help='replace a file that is there')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--num-workers', type=int, default=2, help='processes that load images')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Checks, computes, writes."""
    args = parse_args()
    check_out(args.out, args.overwrite)
    try:
        found = embed_folder(
            load(args.source, args.branch, args.device),
            args.images,
            args.out,
            args.patches,
            args.last_blocks,
            not args.no_labels,
            args.batch_size,
            args.num_workers,
            args.overwrite,
        )
    except KeyboardInterrupt:
        print('stopped; the same command goes on where it was', file=sys.stderr)
        sys.exit(130)
    if found.unreadable:
        named = ', '.join(f'{name} ({reason})' for name, reason in list(found.unreadable.items())[:NAMED])
        more = len(found.unreadable) - NAMED
        print(f'unreadable, left out: {len(found.unreadable)}: {named}{f" and {more} more" if more > 0 else ""}')
    labels = f', labels of {len(found.classes)} classes' if found.classes else ''
    print(f'written: {found.out} ({found.images} images, {" x ".join(map(str, found.shape))} each{labels})')
