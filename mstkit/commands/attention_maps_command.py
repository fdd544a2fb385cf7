"""Draws attention maps of networks: ``mstkit attention-maps SOURCE … --images DIR --out F.png``.

For each image a row per network: the image, the attention of the CLS token to each patch in each head (without a CLS
token, the mean attention of all queries), the patches that hold most of it, and with --pca the patch tokens as colors.
SOURCE is FILE.pth, timm:NAME[@WEIGHTS], mmpretrain:NAME_OR_CONFIG.py[@WEIGHTS], random:CONFIG.py or random:FILE.pth.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import torch
from torch import Tensor

from mstkit.analysis.kept_tokens import kept_tokens
from mstkit.analysis.token_pca import scores_as_colors, token_pca
from mstkit.datasets import CenterView, LoadRGB
from mstkit.datasets.image_reader import UnreadableImage
from mstkit.datasets.plain_reading import read_images
from mstkit.errors import UsageError, exit_cleanly
from mstkit.interop import BRANCH_PREFIXES
from mstkit.networks import AttentionMaps, Network, open_several, received_attention
from mstkit.utils.output_paths import output_file
from mstkit.utils.progress_bar import track
from mstkit.visualization.attention_sheet import AttentionRow, draw_attention_sheet

GROUP = 'look'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sources', nargs='+', metavar='SOURCE', help='the networks')
    parser.add_argument('--images', nargs='+', required=True, metavar='PATH', help='a folder of images, or files')
    parser.add_argument('--out', required=True, metavar='FILE.png', help='the figure that is written')
    parser.add_argument('--branch', choices=tuple(BRANCH_PREFIXES), help='of checkpoints; default: all that they have')
    parser.add_argument('--block', type=int, default=-1, metavar='N', help='from 0, or from the end: -1 is the last')
    parser.add_argument('--threshold', type=float, default=0.6, help='share of its attention that a head keeps')
    parser.add_argument('--pca', action='store_true', help='also show patch tokens as colors')
    parser.add_argument('--num-images', type=int, default=6, metavar='N', help='images of a folder')
    parser.add_argument('--image-size', type=int, metavar='PX', help='larger images give finer maps')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    return parser.parse_args()


def check(args: argparse.Namespace) -> None:
    """Checks arguments early; raises UsageError."""
    if not args.out.lower().endswith('.png'):
        raise UsageError(f'--out {args.out}: the figure is a PNG, so its name has to end in .png.')
    if not 0 < args.threshold <= 1:
        raise UsageError(f'--threshold is {args.threshold}; it is a share of the attention, above 0 and up to 1.')
    for name in ('num_images', 'image_size'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UsageError(f'--{name.replace("_", "-")} is {value}; it must be at least 1.')


def center_crops(paths: Sequence[str], resize: int, crop: int, most: int) -> Tensor:
    """Center crops of images, (M, 3, crop, crop) uint8 RGB; prints the files of a folder that cannot be read."""
    if len(paths) == 1 and Path(paths[0]).is_dir():
        found = read_images(paths[0], [dict(type='CenterView', resize=resize, crop=crop)], most)
        if found.unreadable:
            print(f'{len(found.unreadable)} files cannot be read: {"; ".join(found.unreadable)}')
        return found.images
    load, view, images = LoadRGB(), CenterView(resize, crop), []
    for path in paths:
        if not Path(path).is_file():
            what = 'is a folder; give one folder, or files' if Path(path).is_dir() else 'does not exist'
            raise UsageError(f'--images {path} {what}.')
        try:
            images.append(torch.from_numpy(view.transform(load.transform(dict(img_path=path)))['img']))
        except UnreadableImage as error:
            raise UsageError(f'--images {path} cannot be read: {error.reason}.') from error
    return torch.stack(images).permute(0, 3, 1, 2)


@torch.no_grad()
def attention_and_tokens(network: Network, images: Tensor, block: int, device: str) -> tuple[Tensor, Tensor]:
    """The attention that patches receive in one block, (M, N, h, w), and the block's patch tokens, (M, h*w, C)."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.mean, network.std))
    received: list[Tensor] = []
    tokens: list[Tensor] = []

    def see(maps: AttentionMaps) -> None:
        received.append(received_attention(maps).cpu())

    for image in track(images, len(images), network.name):
        last = network.blocks[block].index == len(network.blocks) - 1
        one = ((image - mean) / std)[None].to(device)

        def keep(_: object, found: Tensor) -> None:
            tokens.append(found[:, found.shape[1] - received[-1][0, 0].numel() :].cpu())

        try:
            output = network.watch(one, None if last else keep, see, [block])
        except (AssertionError, RuntimeError) as error:
            raise UsageError(
                f'{network.name} cannot process images of {image.shape[-1]} px: {str(error).splitlines()[0]}'
            ) from error
        if last:  # after the network's final norm
            tokens.append(output.patch_tokens.cpu())
    return torch.cat(received), torch.cat(tokens)


@exit_cleanly
def main() -> None:
    """Opens networks, reads images, computes attention and draws the figure."""
    args = parse_args()
    check(args)
    output_file('--out', args.out)
    networks = open_several(args.sources, args.branch, args.device)
    for network in networks:
        if not -len(network.blocks) <= args.block < len(network.blocks):
            raise UsageError(f'--block {args.block}: {network.name} has {len(network.blocks)} blocks, from 0.')
        print(f'{network.name}: {network.origin}')
    rows: list[list[AttentionRow]] = []
    shares, by_size = [], {}
    for network in networks:
        crop = args.image_size or network.image_size
        sizes = round(network.resize * crop / network.image_size), crop
        if sizes not in by_size:
            by_size[sizes] = center_crops(args.images, *sizes, args.num_images)
        images = by_size[sizes]
        received, tokens = attention_and_tokens(network, images, args.block, args.device)
        kept = kept_tokens(received.flatten(2), args.threshold).view_as(received)
        colors: list[Tensor | None] = [None] * len(images)
        if args.pca:
            components = token_pca(tokens)
            grid = received.shape[-2:]
            colors = list(scores_as_colors(components.scores).unflatten(1, grid))
            shares.append(f'{network.name}: {100 * components.explained.sum():.0f} %')
        rows.append([AttentionRow(network.name, *one) for one in zip(images, received, kept, colors, strict=True)])
    name = f'{networks[0].name}, ' if len(networks) == 1 else ''
    title = [f'Attention of {name}' + ' and '.join(sorted({block_in_words(one, args.block) for one in networks}))]
    caption = [
        f'Heat: attention from {" or ".join(sorted({query_in_words(one) for one in networks}))} to each patch, '
        'scaled to the range of each map. Kept: the fewest patches that hold '
        f'{100 * args.threshold:g} % of a head’s attention, in the color of the head that gives them most.'
    ]
    if args.pca:
        caption.append(
            'Tokens: the first three principal components of the patch tokens of all images as red, green and blue, '
            f'with this share of the variance: {", ".join(shares)}.'
            + (' Colors can be compared between images of a network, but not between networks.' * (len(rows) > 1))
        )
    draw_attention_sheet(
        [row for rows_of_one in zip(*rows, strict=True) for row in rows_of_one], args.out, title, caption
    )
    print(f'written: {args.out}')


def query_in_words(network: Network) -> str:
    """The queries whose attention is shown."""
    if network.layout == 'swin':
        return 'the tokens of its window in the mean'
    return 'the class token' if network.extra_tokens else 'all tokens in the mean'


def block_in_words(network: Network, block: int) -> str:
    """The number of the block, counted from 1 as in papers."""
    return f'block {network.blocks[block].index + 1} of {len(network.blocks)}'
