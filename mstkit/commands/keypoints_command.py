"""Measures how well keypoints are found in frozen patch tokens: ``mstkit keypoints SOURCE --data DIR [--out DIR]``.

A linear layer learns the keypoints of train2017 in DIR, a folder in COCO's layout for keypoints, in crops around the
boxes of its objects, and is judged in those of val2017. SOURCE is a checkpoint of mstkit, timm:NAME, mmpretrain:NAME or
random:CONFIG. ``mstkit make-scenes DIR --figures`` draws such a folder. Written to --out are keypoints.json and a
NETWORK.png with a few crops, their skeletons and those that were found.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import numpy as np
from mmengine.structures import InstanceData
from PIL import Image

from mstkit.commands.probe_options import add_probe_options, scores_table
from mstkit.errors import exit_cleanly
from mstkit.evaluation.benchmarks.keypoint_crops import read_crops, squares, to_crops
from mstkit.evaluation.benchmarks.keypoints_of_networks import (
    KeypointData,
    KeypointProtocol,
    KeypointResult,
    measure_keypoints,
)
from mstkit.evaluation.evaluated_network import LARGEST_SEED
from mstkit.networks import open_networks
from mstkit.utils.checks import check_count
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import file_name, output_folder
from mstkit.visualization.image_sheet import lay_out
from mstkit.visualization.keypoint_drawing import draw_keypoints
from mstkit.visualization.step_panels import save_image

GROUP = 'measure'  # of mstkit --help

ROWS = 6  # crops in the figure
CELL = 192  # px, side of a cell
COLUMNS = dict.fromkeys(('pck20', 'pck10', 'ap', 'ap50', 'ap75'), 2)  # of the table, with their decimal places
PLACE = 'mean place in the box'


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Linear probe of keypoints on frozen patch tokens.')
    add_probe_options(parser, KeypointProtocol(), 'instances', 'a crop', 'keypoints.json')
    parser.add_argument(
        '--data', required=True, metavar='DIR', help='{train,val}2017 and annotations/person_keypoints_…2017.json'
    )
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Measures each network, and prints and writes scores."""
    args = parse_args()
    if args.out:
        output_folder('--out', args.out)
    protocol = KeypointProtocol(args.layers, args.size, args.rates, args.epochs, most=args.most)
    protocol.check('--')
    check_count('--seed', args.seed, 0, LARGEST_SEED)
    data = KeypointData(args.data)
    networks = [one for source in args.source for one in open_networks(source, args.branch, args.device)]
    rows: dict[str, dict[str, Any]] = {}
    left_out = 0
    for network in networks:
        found = measure_keypoints(network, data, protocol, args.device, args.seed)
        left_out = found.left_out
        rows.setdefault(PLACE, dict(found.of_place))
        of_each = {name: None if math.isnan(value) else value for name, value in found.of_each.items()}
        rows[network.name] = {**found.scores, 'rate': found.rate, 'pck20_of_each': of_each}
        if args.out:
            save_image(picture(network.name, data, found), Path(args.out, f'{file_name(network.name)}.png'))
    print(f'{len(data.train.instances) - left_out} train and {len(data.val.instances)} val instances{unused(data)}')
    if left_out:
        print(f'{left_out} of {len(data.train.instances)} train instances are left out (--most)')
    print(scores_table(rows, COLUMNS))
    if args.out:
        content: dict[str, Any] = dict(
            sources=args.source,
            data=Path(args.data).name,
            seed=args.seed,
            protocol=protocol._asdict(),
            left_out=dict(train=data.train.left_out, val=data.val.left_out),
            results=rows,
        )
        write_atomically(Path(args.out, 'keypoints.json'), (json.dumps(content, indent=2) + '\n').encode())
        print(f'keypoints.json and pictures: {args.out}')


def unused(data: KeypointData) -> str:
    """What of the annotations is neither learned from nor judged by."""
    counts = {what: count + data.val.left_out[what] for what, count in data.train.left_out.items()}
    said = ', '.join(f'{count} {what}' for what, count in counts.items() if count)
    return f'; not used: annotations {said}' if said else ''


def picture(name: str, data: KeypointData, found: KeypointResult) -> Image.Image:
    """A few val crops, their keypoints, and those that were found."""
    kind, every = data.val.kind, data.val.instances
    rows = np.linspace(0, len(every) - 1, min(ROWS, len(every))).round().astype(int).tolist()
    chosen = [every[row] for row in rows]
    crops = read_crops(chosen, CELL).movedim(1, -1).numpy()
    points = np.stack([one.keypoints for one in chosen])
    known, read = (CELL * to_crops(part, squares(chosen)) for part in (points[..., :2], found.predicted[rows]))
    cells: dict[str, list[np.ndarray]] = {'crop': list(crops), 'keypoints': [], 'found': []}
    for crop, truth, guess, marks in zip(crops, known, read, points[..., 2], strict=True):
        labeled = InstanceData(keypoints=truth[None], keypoints_visible=marks[None])
        cells['keypoints'].append(draw_keypoints(crop, labeled, 1.0, kind.skeleton))
        cells['found'].append(draw_keypoints(crop, InstanceData(keypoints=guess[None]), 1.0, kind.skeleton))
    title = f'{name}: pck20 {found.scores["pck20"]:.1f} %, AP {found.scores["ap"]:.1f} %'
    return Image.fromarray(lay_out(cells, (CELL, CELL), [title]))
