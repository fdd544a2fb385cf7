"""Measures how well depth can be read out of frozen patch tokens: ``mstkit depth SOURCE --data DIR [--out DIR]``.

A linear layer learns the depth of images/train and annotations/train in DIR, the layout of mmseg's NYU-Depth v2, and is
judged on images/val and annotations/val. SOURCE is a checkpoint of mstkit, timm:NAME, mmpretrain:NAME or random:CONFIG.
``mstkit make-scenes DIR --depth`` draws such a folder. Written to --out are depth.json and a NETWORK.png with a few
images, their depth and what was read.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import numpy as np
import torch
from PIL import Image

from mstkit.errors import exit_cleanly
from mstkit.evaluation.benchmarks.depth_of_networks import (
    RATES,
    DepthData,
    DepthProtocol,
    DepthResult,
    measure_depth,
)
from mstkit.evaluation.evaluated_network import LARGEST_SEED
from mstkit.networks import KINDS_IN_WORDS, open_networks
from mstkit.utils.checks import check_count
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import output_folder
from mstkit.visualization.data_samples import colored_depth
from mstkit.visualization.image_sheet import lay_out
from mstkit.visualization.step_panels import save_image

GROUP = 'measure'  # of mstkit --help

ROWS = 6  # images in the figure
CELL = 160  # px, side of a cell
PLACE = 'mean at each place'


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    defaults = DepthProtocol()
    parser = argparse.ArgumentParser(description='Linear probe of depth on frozen patch tokens.')
    parser.add_argument('source', nargs='+', help=KINDS_IN_WORDS)
    parser.add_argument('--data', required=True, metavar='DIR', help='images/SPLIT, annotations/SPLIT; train and val')
    parser.add_argument('--val', default='val', metavar='SPLIT', help='to judge on; test in NYU-Depth v2')
    parser.add_argument('--layers', type=int, default=defaults.layers, help='blocks that give tokens: 1, or 4')
    parser.add_argument('--size', type=int, help='px, side of the middle square; default: that of the network')
    parser.add_argument('--units', type=float, help='of depth files in a meter; default: 1000 for whole numbers')
    parser.add_argument(
        '--farthest', type=float, metavar='M', help='farther pixels are unknown; 10 for NYU, 80 for KITTI'
    )
    parser.add_argument('--epochs', type=int, default=defaults.epochs, help='over the train images')
    parser.add_argument('--rates', type=float, nargs='+', default=RATES, help='held-out train images choose one')
    parser.add_argument('--most', type=int, default=defaults.most, metavar='N', help='train images at the most')
    parser.add_argument('--branch', help='student or teacher; default: all that a checkpoint has')
    parser.add_argument('--seed', type=int, default=0, help='of weights, order and held-out images')
    parser.add_argument('--out', metavar='DIR', help='for depth.json and pictures')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Measures each network, and prints and writes scores."""
    args = parse_args()
    if args.out:
        output_folder('--out', args.out)
    protocol = DepthProtocol(args.layers, args.size, args.units, args.farthest, args.rates, args.epochs, most=args.most)
    protocol.check('--')
    check_count('--seed', args.seed, 0, LARGEST_SEED)
    data = DepthData(args.data, ('train', args.val))
    networks = [one for source in args.source for one in open_networks(source, args.branch, args.device)]
    rows: dict[str, dict[str, float]] = {}
    for network in networks:
        found = measure_depth(network, data, protocol, args.device, args.seed)
        rows.setdefault(PLACE, found.of_place)
        rows[network.name] = {**found.scores, 'rate': found.rate}
        if args.out:
            folder = re.sub(r'[^\w.-]+', '_', network.name)
            save_image(picture(network.name, found), Path(args.out, f'{folder}.png'))
    if len(data.train) > args.most:
        print(f'{len(data.train) - args.most} of {len(data.train)} train images are left out (--most)')
    print(table(rows))
    if args.out:
        content: dict[str, Any] = dict(
            sources=args.source, data=Path(args.data).name, seed=args.seed, protocol=protocol._asdict(), results=rows
        )
        write_atomically(Path(args.out, 'depth.json'), (json.dumps(content, indent=2) + '\n').encode())
        print(f'depth.json and pictures: {args.out}')


def table(rows: dict[str, dict[str, float]]) -> str:
    """A line for each network, and first what is reached without looking at an image."""
    names = ('rmse', 'abs_rel', 'd1', 'd2', 'd3')
    wide = max(map(len, rows)) + 2
    lines = [' ' * wide + ''.join(f'{name:>10}' for name in names)]
    for title, values in rows.items():
        cells = (f'{values[name]:10.{2 if name[0] == "d" else 3}f}' for name in names)
        lines.append(f'{title:{wide}}' + ''.join(cells))
    return '\n'.join(lines)


def picture(name: str, found: DepthResult) -> Image.Image:
    """A few val images, their depth, and what was read; near is bright, unknown black."""
    count = min(ROWS, len(found.predicted))
    rows = np.linspace(0, len(found.predicted) - 1, count).round().astype(int)
    farthest = float(found.val.depth[rows].max())
    columns = {
        'image': [_cell(found.val.images[row].movedim(0, -1).numpy()) for row in rows],
        'depth': [_cell(colored_depth(found.val.depth[row].numpy(), farthest)) for row in rows],
        'read': [_cell(colored_depth(found.predicted[row].numpy(), farthest)) for row in rows],
    }
    title = f'{name}: rmse {found.scores["rmse"]:.3f}, d1 {found.scores["d1"]:.1f} %'
    return Image.fromarray(lay_out(columns, (CELL, CELL), [title]))


def _cell(pixels: np.ndarray) -> np.ndarray:
    return np.array(Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.NEAREST))
