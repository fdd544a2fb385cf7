"""Follows boxes through videos without training: ``mstkit tracking SOURCE --data DIR [--out DIR]``.

The box of each video's first frame is followed by the similarity of patch tokens. DIR has the layout of OTB (NAME/img,
NAME/groundtruth_rect.txt) or of GOT-10k (val/NAME, with groundtruth.txt and, where there are, absence.label and
cover.label), which is recognized. SOURCE is a checkpoint of mstkit, timm:NAME, mmpretrain:NAME or random:CONFIG.
``mstkit make-scenes DIR --videos`` draws such a folder. Written to --out are the boxes as the layout's toolkit reads
them (NETWORK/NAME.txt, or NETWORK/NAME/NAME_001.txt), tracking.csv with every video, tracking.json, and NETWORK.png
with a few frames.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from pathlib import Path
from typing import Any

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import numpy as np
import torch
from PIL import Image, ImageDraw

from mstkit.commands.probe_options import scores_table
from mstkit.datasets.image_reader import read_image
from mstkit.errors import UsageError, exit_cleanly
from mstkit.evaluation.benchmarks.box_tracking import (
    DEFAULTS,
    FollowedBox,
    Tracking,
    follow_box,
    region_size,
    still_box,
)
from mstkit.evaluation.benchmarks.tracking_files import (
    GOT10K,
    SPLITS,
    TrackedVideo,
    find_tracked,
    write_boxes,
)
from mstkit.evaluation.benchmarks.tracking_scores import NAMES, TrackingScores, overall, score_boxes
from mstkit.networks import KINDS_IN_WORDS, open_networks
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import file_name, output_folder
from mstkit.utils.progress_bar import track
from mstkit.visualization.image_sheet import lay_out
from mstkit.visualization.step_panels import save_image

GROUP = 'measure'  # of mstkit --help

SHOWN = 5  # frames of a video in the figure
ROWS = 6  # videos in the figure
CELL = 160  # px, side of a cell
COLORS = {'true box': (255, 255, 255), 'found': (255, 40, 40)}
STILL = 'box that does not move'


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    defaults = DEFAULTS
    parser = argparse.ArgumentParser(description='Follows boxes by the similarity of patch tokens.')
    parser.add_argument('source', nargs='+', help=KINDS_IN_WORDS)
    parser.add_argument('--data', required=True, metavar='DIR', help='videos in the layout of OTB or GOT-10k')
    parser.add_argument('--split', choices=SPLITS, help='of GOT-10k; default: val')
    parser.add_argument('--sequences', nargs='+', default=(), metavar='NAME', help='only these videos')
    parser.add_argument('--out', metavar='DIR', help='where boxes, tables and pictures go')
    parser.add_argument('--branch', help='student or teacher; default: all that a checkpoint has')
    parser.add_argument(
        '--region', type=float, default=defaults.region, help='side of the square that is seen, in sides of the box'
    )
    parser.add_argument('--size', type=int, help='px of that square for the network; default: twice its image size')
    parser.add_argument(
        '--frames', type=int, default=defaults.frames, help='previous frames that labels come from, too'
    )
    parser.add_argument('--neighbors', type=int, default=defaults.neighbors, help='patches that give their labels')
    parser.add_argument('--temperature', type=float, default=defaults.temperature, help='of their weights')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Follows all boxes, and prints and writes scores."""
    args = parse_args()
    if args.out:
        output_folder('--out', args.out)
    settings = Tracking(args.region, args.size, args.frames, args.neighbors, args.temperature)
    settings.check('--')
    videos = find_tracked(args.data, args.split, args.sequences)
    layout, scored = videos[0].layout, [video for video in videos if video.scored]
    if not scored and args.out is None:
        raise UsageError(f'{args.data} has boxes of first frames only: give --out for the boxes that are found.')
    networks = [one for source in args.source for one in open_networks(source, args.branch, args.device)]
    for network in networks:
        region_size(network, settings, args.device)
    print(f'{args.data} has the layout of {layout}: {len(videos)} boxes to follow')
    results = {STILL: {video.name: score_boxes(still_box(video), video) for video in scored}}
    speeds = {}
    for network in networks:
        followed = {
            video.name: follow_box(network, video, settings, args.device)
            for video in track(videos, len(videos), f'videos, {network.name}')
        }
        results[network.name] = {video.name: score_boxes(followed[video.name].boxes, video) for video in scored}
        seconds = np.concatenate([one.seconds for one in followed.values()])
        speeds[network.name] = len(seconds) / float(seconds.sum())
        if args.out:
            folder = Path(args.out, file_name(network.name))
            write_found(folder, videos, followed)
            save_image(picture(network.name, videos, followed), folder.with_name(f'{folder.name}.png'))
    if len(videos) > len(scored):
        print(f'{len(videos) - len(scored)} of {len(videos)} videos have a box of their first frame only: not scored')
    sums = {name: overall(of_videos.values()) for name, of_videos in results.items() if of_videos}
    if sums:
        frames, hidden = (sum(getattr(one, key) for one in results[STILL].values()) for key in ('frames', 'hidden'))
        print(f'percent; {frames} frames are scored, {hidden} without the target are not')
        print(scores_table(sums, dict.fromkeys(NAMES, 2)))
    if args.out:
        content: dict[str, Any] = dict(
            sources=args.source,
            data=Path(args.data).name,
            layout=layout,
            settings=settings._asdict(),
            results=sums,
            frames_per_second=speeds,
        )
        write_tables(Path(args.out), results, content)
        print(f'boxes, tracking.csv, tracking.json and pictures: {args.out}')


def write_found(folder: Path, videos: list[TrackedVideo], followed: dict[str, FollowedBox]) -> None:
    """Writes the boxes of each video, and for GOT-10k the seconds that its frames took."""
    for video in videos:
        boxes, seconds = followed[video.name]
        if video.layout == GOT10K:
            write_boxes(folder / video.name / f'{video.name}_001.txt', boxes, video.layout)
            lines = ''.join(f'{one:.8f}\n' for one in seconds)
            write_atomically(folder / video.name / f'{video.name}_time.txt', lines.encode())
        else:
            write_boxes(folder / f'{video.name}.txt', boxes, video.layout)


def write_tables(out: Path, results: dict[str, dict[str, TrackingScores]], content: dict[str, Any]) -> None:
    """Writes tracking.csv, a line for each video and network, and tracking.json."""
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(['network', 'sequence', 'frames', 'hidden', *NAMES])
    videos = []
    for network, of_network in results.items():
        for name, one in of_network.items():
            writer.writerow([network, name, one.frames, one.hidden, *(f'{one.values[key]:.2f}' for key in NAMES)])
            videos.append(dict(network=network, sequence=name, frames=one.frames, hidden=one.hidden, **one.values))
    write_atomically(out / 'tracking.csv', lines.getvalue().encode())
    write_atomically(out / 'tracking.json', (json.dumps({**content, 'videos': videos}, indent=2) + '\n').encode())


def picture(name: str, videos: list[TrackedVideo], followed: dict[str, FollowedBox]) -> Image.Image:
    """A few frames of a few videos, with the true box and the one that was found."""
    indices = np.linspace(0, len(videos) - 1, min(ROWS, len(videos))).round().astype(int)
    shown = [videos[index] for index in indices]
    rows = [_cells(video, followed[video.name].boxes) for video in shown]
    titles = ['first frame, given', *(f'after {100 * part // (SHOWN - 1)} %' for part in range(1, SHOWN))]
    columns = {title: [row[index] for row in rows] for index, title in enumerate(titles)}
    return Image.fromarray(lay_out(columns, (CELL, CELL), [f'{name}: boxes that were followed'], legend=COLORS))


def _cells(video: TrackedVideo, boxes: np.ndarray) -> list[np.ndarray]:
    """Frames of a video, equally far apart, (CELL, CELL, 3) each, with its boxes."""
    cells = []
    for index in np.linspace(0, len(boxes) - 1, SHOWN).round().astype(int).tolist():
        frame = Image.fromarray(read_image(video.frames[index]))
        scale = CELL / max(frame.size)
        cell = Image.new('RGB', (CELL, CELL), 'white')
        size = tuple(max(1, round(side * scale)) for side in frame.size)
        cell.paste(frame.resize(size, Image.Resampling.BICUBIC))  # type: ignore[arg-type]
        pen = ImageDraw.Draw(cell)
        if index < len(video.boxes) and video.visible[index]:
            _draw(pen, video.boxes[index] * scale, COLORS['true box'])
        _draw(pen, boxes[index] * scale, COLORS['found'])
        cells.append(np.array(cell))
    return cells


def _draw(pen: ImageDraw.ImageDraw, box: np.ndarray, color: tuple[int, int, int]) -> None:
    left, top, width, height = box.tolist()
    pen.rectangle((left, top, left + width, top + height), outline=color, width=2)
