"""Measures how well depth can be read out of frozen patch tokens: ``mstkit depth SOURCE --data DIR [--out DIR]``.

A linear layer learns the depth of images/train and annotations/train in DIR, the layout of mmseg's NYU-Depth v2, and is
judged on images/val and annotations/val. SOURCE is a checkpoint of mstkit, timm:NAME, mmpretrain:NAME or random:CONFIG.
``mstkit make-scenes DIR --depth`` draws such a folder. Written to --out are depth.json and a NETWORK.png with a few
images, their depth and what was read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import numpy as np
from PIL import Image

from mstkit.commands.probe_options import add_probe_options, scores_table
from mstkit.errors import exit_cleanly
from mstkit.evaluation.benchmarks.depth_of_networks import (
    DepthData,
    DepthProtocol,
    DepthResult,
    measure_depth,
)
from mstkit.evaluation.evaluated_network import LARGEST_SEED
from mstkit.networks import open_networks
from mstkit.utils.checks import check_count
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import file_name, output_folder
from mstkit.visualization.data_samples import colored_depth
from mstkit.visualization.image_sheet import lay_out
from mstkit.visualization.step_panels import save_image

GROUP = 'measure'  # of mstkit --help

ROWS = 6  # images in the figure
CELL = 160  # px, side of a cell
COLUMNS = dict(rmse=3, abs_rel=3, d1=2, d2=2, d3=2)  # of the table, with their decimal places
PLACE = 'mean at each place'


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Linear probe of depth on frozen patch tokens.')
    add_probe_options(parser, DepthProtocol(), 'images', 'the middle square', 'depth.json')
    parser.add_argument('--data', required=True, metavar='DIR', help='images/SPLIT, annotations/SPLIT; train and val')
    parser.add_argument('--val', default='val', metavar='SPLIT', help='to judge on; test in NYU-Depth v2')
    parser.add_argument('--units', type=float, help='of depth files in a meter; default: 1000 for whole numbers')
    parser.add_argument(
        '--farthest', type=float, metavar='M', help='farther pixels are unknown; 10 for NYU, 80 for KITTI'
    )
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
            save_image(picture(network.name, found), Path(args.out, f'{file_name(network.name)}.png'))
    if len(data.train) > args.most:
        print(f'{len(data.train) - args.most} of {len(data.train)} train images are left out (--most)')
    print(scores_table(rows, COLUMNS))
    if args.out:
        content: dict[str, Any] = dict(
            sources=args.source, data=Path(args.data).name, seed=args.seed, protocol=protocol._asdict(), results=rows
        )
        write_atomically(Path(args.out, 'depth.json'), (json.dumps(content, indent=2) + '\n').encode())
        print(f'depth.json and pictures: {args.out}')


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
