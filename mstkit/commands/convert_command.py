"""Writes weights in the format of another library: ``mstkit convert FILE --to FORMAT --out PATH``.

FILE is a checkpoint of mstkit, mmpretrain, DINO, iBOT, AttMask, MoBY, MAE, SimMIM, BEiT, DINOv2, timm, torchvision or
Hugging Face transformers (its folder, or the file of weights); or timm:NAME, timm:NAME@FILE, mmpretrain:NAME. Its kind
is recognized. Nothing is executed that is in it, and nothing is written unless the library's own network loads all
tensors and gives the same features.
"""

from __future__ import annotations

import argparse

from mstkit.conversion import LIBRARIES, ONNX, convert
from mstkit.errors import UsageError, exit_cleanly
from mstkit.formats import NAMINGS, Hints
from mstkit.interop.checkpoint import BRANCH_PREFIXES

GROUP = 'files'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('file', metavar='FILE', help='what is converted')
    parser.add_argument('--to', required=True, metavar='FORMAT', help=f'one of {", ".join([*LIBRARIES, ONNX])}')
    parser.add_argument('--out', required=True, metavar='PATH', help='the file or folder to write')
    parser.add_argument('--branch', choices=tuple(BRANCH_PREFIXES), help='of a file with both; default: the teacher')
    kinds = list(dict.fromkeys(naming.name for naming in NAMINGS))
    parser.add_argument(
        '--from', dest='kind', metavar='KIND', help=f'of FILE, where it is not recognized: {", ".join(kinds)}'
    )
    parser.add_argument('--num-heads', type=int, help='of the blocks of a ViT whose file does not tell')
    parser.add_argument(
        '--image-size',
        type=int,
        nargs='+',
        metavar='SIDE',
        help='in pixels, where FILE does not tell: one, or height and width',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace what is at PATH')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Converts."""
    args = parse_args()
    sides = args.image_size
    if sides is not None and (len(sides) > 2 or min(sides) < 1):
        raise UsageError(f'--image-size {" ".join(map(str, sides))}: give one number of pixels, or height and width.')
    if args.num_heads is not None and args.num_heads < 1:
        raise UsageError(f'--num-heads is {args.num_heads}: give a number from 1.')
    said = Hints(heads=args.num_heads, image=None if sides is None else (sides[0], sides[-1]))
    done = convert(args.file, args.to, args.out, args.branch, args.kind, said, args.overwrite)
    print('\n'.join(done.lines()))
