"""Measures J&F on DAVIS 2017 without training: ``mstkit video-segmentation SOURCE --data DAVIS_DIR [--out DIR]``.

The objects of each video's first frame are tracked by the similarity of patch tokens. DAVIS_DIR has JPEGImages/480p,
Annotations/480p and ImageSets/2017. SOURCE is a checkpoint of mstkit, timm:NAME, mmpretrain:NAME or random:CONFIG.
Written to --out are the label maps in the challenge's format (NETWORK/SEQUENCE/00000.png), davis.csv with every object,
davis.json, and NETWORK.png with a few frames.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from pathlib import Path

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import numpy as np
import torch
from PIL import Image

from mstkit.datasets.image_reader import read_image
from mstkit.errors import UsageError, exit_cleanly
from mstkit.evaluation.benchmarks.davis import (
    ObjectScores,
    Video,
    find_videos,
    overall,
    read_annotation,
    score_video,
    write_labels,
)
from mstkit.evaluation.benchmarks.propagation import DINO, Propagation
from mstkit.evaluation.benchmarks.video_labels import segment_video
from mstkit.networks import KINDS_IN_WORDS, open_networks
from mstkit.utils.checks import check_size
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import file_name, output_folder
from mstkit.visualization.image_sheet import lay_out
from mstkit.visualization.step_panels import save_image

GROUP = 'measure'  # of mstkit --help

SHOWN = 5  # frames of a video in the figure
ROWS = 6  # videos in the image
CELL = 200  # px, width of a cell
COVER = 0.55  # how much of an object its color covers


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Tracks the objects of DAVIS 2017 by the similarity of patch tokens.')
    parser.add_argument('source', help=KINDS_IN_WORDS)
    parser.add_argument('--data', required=True, help='folder with JPEGImages, Annotations and ImageSets')
    parser.add_argument('--split', default='val', help='a list in ImageSets/2017')
    parser.add_argument('--sequences', nargs='+', default=(), metavar='NAME', help='only these of the split')
    parser.add_argument('--out', metavar='DIR', help='where label maps, tables and an image go')
    parser.add_argument('--branch', help='student or teacher; default: all that the checkpoint has')
    parser.add_argument('--image-size', type=int, default=480, help='px, the shorter side of a frame for the network')
    parser.add_argument('--frames', type=int, default=DINO.frames, help='previous frames that labels come from')
    parser.add_argument('--radius', type=int, default=DINO.radius, help='patches; how far an object moves at the most')
    parser.add_argument('--neighbors', type=int, default=DINO.neighbors, help='patches that give their labels')
    parser.add_argument('--temperature', type=float, default=DINO.temperature, help='of their weights')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    return parser.parse_args()


def draw_rows(video: Video, labels: list[np.ndarray], colors: list[int], height: int) -> list[np.ndarray]:
    """A few frames of a video with the objects in their colors, each (height, CELL, 3) uint8."""
    table = np.array(colors, dtype=np.float64).reshape(-1, 3)
    cells = []
    for index in np.linspace(0, len(labels) - 1, SHOWN).round().astype(int):
        image = Image.fromarray(read_image(video.frames[index])).resize((CELL, height), Image.Resampling.BICUBIC)
        small = np.array(Image.fromarray(labels[index]).resize((CELL, height), Image.Resampling.NEAREST))
        mixed = COVER * table[small] + (1 - COVER) * np.asarray(image)
        cells.append(np.where(small[..., None] > 0, mixed.round(), np.asarray(image)).astype(np.uint8))
    return cells


def write_tables(out: Path, results: dict[str, dict[str, dict[int, ObjectScores]]], content: dict) -> None:
    """Writes davis.csv, a line for each object, and davis.json."""
    lines = io.StringIO()
    writer = csv.writer(lines)
    measures = [f'{letter}_{name}' for letter in 'JF' for name in ('mean', 'recall', 'decay')]
    writer.writerow(['network', 'sequence', 'object', 'J&F', *measures])
    objects = []
    for network, of_network in results.items():
        for sequence, of_video in of_network.items():
            for number, one in of_video.items():
                values = [100 * value for value in (one.mean, *one.region, *one.boundary)]
                writer.writerow([network, sequence, number, *(f'{value:.2f}' for value in values)])
                named = dict(zip(['J&F', *measures], values, strict=True))
                objects.append({'network': network, 'sequence': sequence, 'object': number, **named})
    write_atomically(out / 'davis.csv', lines.getvalue().encode())
    write_atomically(out / 'davis.json', (json.dumps({**content, 'objects': objects}, indent=2) + '\n').encode())


@exit_cleanly
def main() -> None:
    """Segments all videos, and prints and writes scores."""
    args = parse_args()
    if args.out:
        output_folder('--out', args.out)
    check_size('--image-size', args.image_size)
    settings = Propagation(args.frames, args.radius, args.neighbors, args.temperature)
    settings.check()
    videos = find_videos(args.data, args.split, args.sequences)
    if not any(video.scored for video in videos) and args.out is None:
        raise UsageError(f'the split {args.split} has annotations of first frames only: give --out for its label maps.')
    networks = open_networks(args.source, args.branch, args.device)
    results: dict[str, dict[str, dict[int, ObjectScores]]] = {}
    for network in networks:
        scores = results.setdefault(network.name, {})
        folder = file_name(network.name)
        rows: list[list[np.ndarray]] = []
        for video in videos:
            labels = segment_video(network, video, settings, args.image_size, args.device)
            if video.scored:
                scores[video.name] = score_video(labels, video)
            if args.out:
                colors = read_annotation(video.annotations[0]).colors
                for path, one in zip(video.frames, labels, strict=True):
                    write_labels(Path(args.out, folder, video.name, f'{path.stem}.png'), one, colors)
                if len(rows) < ROWS:
                    height = round(CELL * labels[0].shape[0] / labels[0].shape[1]) if not rows else rows[0][0].shape[0]
                    rows.append(draw_rows(video, labels, colors, height))
        if args.out:
            titles = ['first frame, given', *(f'after {100 * part // (SHOWN - 1)} %' for part in range(1, SHOWN))]
            columns = {title: [row[index] for row in rows] for index, title in enumerate(titles)}
            sheet = lay_out(columns, (CELL, rows[0][0].shape[0]), [f'{network.name} on DAVIS 2017 {args.split}'])
            save_image(Image.fromarray(sheet), Path(args.out, f'{folder}.png'))
    unscored = sum(not video.scored for video in videos)
    if unscored:
        print(f'{unscored} of {len(videos)} sequences have an annotation of their first frame only: not scored')
    sums = {name: overall(scores) for name, scores in results.items() if scores}
    if sums:
        count = sum(len(of_video) for of_video in next(iter(results.values())).values())
        print(f'DAVIS 2017 {args.split}, percent; {count} objects in {len(videos) - unscored} sequences')
        wide = max(map(len, sums)) + 2
        print(' ' * wide + ''.join(f'{name:>10}' for name in next(iter(sums.values()))))
        for name, values in sums.items():
            print(f'{name:{wide}}' + ''.join(f'{value:10.2f}' for value in values.values()))
    if args.out:
        write_tables(Path(args.out), results, {'source': args.source, 'split': args.split, 'overall': sums})
        print(f'label maps, davis.csv, davis.json and images: {args.out}')
