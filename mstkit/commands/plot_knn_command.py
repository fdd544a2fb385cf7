"""Draws k-NN accuracy over epochs of one or more runs: ``mstkit plot-knn WORK_DIR [WORK_DIR …]``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mstkit.errors import UsageError, exit_cleanly
from mstkit.utils.output_paths import output_file
from mstkit.visualization import Curve, draw_curves

GROUP = 'look'  # of mstkit --help


def read(work_dir: Path) -> list[dict]:
    """The records that KNNHook wrote.

    Raises:
        UsageError: the folder has none.
    """
    file = work_dir / 'knn.jsonl'
    if not file.is_file():
        raise UsageError(f'{work_dir} has no knn.jsonl: give work dirs of runs that measured k-NN accuracy')
    return [json.loads(line) for line in file.read_text(encoding='utf-8').splitlines()]


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR')
    parser.add_argument('--out', default='knn.png', metavar='FILE', help='a figure; its ending chooses the format')
    parser.add_argument('--labels', nargs='+', metavar='NAME', help='one per run; the folder names by default')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Draws."""
    args = parse_args()
    output_file('--out', args.out)
    runs = {Path(folder): read(Path(folder)) for folder in args.work_dirs}
    labels = args.labels or [folder.name for folder in runs]
    if len(labels) != len(runs):
        raise UsageError(f'--labels has {len(labels)} names for {len(runs)} runs')
    curves = []
    for number, (label, records) in enumerate(zip(labels, runs.values(), strict=True)):
        for dash, branch in enumerate(('student', 'teacher')):
            points = [
                (r['epoch'], r['branches'][branch][f'k{r["k"]}_top1']) for r in records if branch in r['branches']
            ]
            if points:
                curves.append(Curve(f'{label}, {branch}', points, color=number, dash=dash))
    draw_curves({'': curves}, args.out)
    print(f'written: {args.out}')
