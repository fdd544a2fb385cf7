"""Writes the built-in scenes as files for detection and segmentation: ``mstkit make-scenes DIR``.

DIR has both COCO's layout (train2017, val2017, annotations) and Cityscapes' (leftImg8bit, gtFine). The ten classes are
``mstkit.scenes.scene_files.LABELS``; the first one is the background, which only the label maps have. The same command
continues an interrupted run. Classification uses scenes without files, with the data set BuiltinScenes.
"""

from __future__ import annotations

import argparse

from mstkit.errors import exit_cleanly
from mstkit.scenes.scene_files import ensure_scenes
from mstkit.utils.output_paths import output_folder

GROUP = 'files'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='DIR', help='where the files go')
    parser.add_argument('--train', type=int, default=400, metavar='N', help='scenes to train on (default: %(default)s)')
    parser.add_argument('--val', type=int, default=100, metavar='N', help='scenes to validate on (%(default)s)')
    parser.add_argument('--size', type=int, default=128, metavar='PX', help='side of an image (%(default)s)')
    parser.add_argument('--objects', type=int, default=3, metavar='N', help='objects in a scene (%(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of the scenes (%(default)s)')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Writes the missing files, and prints the folder."""
    args = parse_args()
    output_folder('DIR', args.folder)
    folder = ensure_scenes(args.folder, args.train, args.val, args.size, args.objects, args.seed)
    print(f'the scenes are in {folder}')
