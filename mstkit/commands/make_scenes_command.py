"""Writes the built-in scenes as files for detection and segmentation: ``mstkit make-scenes DIR``.

DIR has both COCO's layout (train2017, val2017, annotations) and Cityscapes' (leftImg8bit, gtFine). The ten classes are
``mstkit.scenes.scene_files.LABELS``; the first one is the background, which only the label maps have. The same command
continues an interrupted run. Classification uses scenes without files, with the data set BuiltinScenes.

With --depth the scenes are others, which have a depth for each pixel, in the layout of mmseg's NYU-Depth v2
(images/train, annotations/train, 16-bit PNG, 1000 for the size of an object). With --figures they are figures in random
poses, whose joints are marked in COCO's format for keypoints (train2017, annotations/person_keypoints_train2017.json).
"""

from __future__ import annotations

import argparse

from mstkit.errors import exit_cleanly
from mstkit.scenes.depth_files import ensure_depth_scenes
from mstkit.scenes.figure_files import ensure_figure_scenes
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
    parser.add_argument('--objects', type=int, metavar='N', help='objects in a scene (3; 5 with --depth), or figures')
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument('--depth', action='store_true', help='scenes with depth instead')
    kinds.add_argument('--figures', action='store_true', help='scenes with 1 to N figures and their joints instead')
    parser.add_argument('--seed', type=int, default=0, help='of the scenes (%(default)s)')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Writes the missing files, and prints the folder."""
    args = parse_args()
    output_folder('DIR', args.folder)
    objects = (5 if args.depth else 3) if args.objects is None else args.objects
    write = ensure_depth_scenes if args.depth else ensure_figure_scenes if args.figures else ensure_scenes
    folder = write(args.folder, args.train, args.val, args.size, objects, args.seed)
    print(f'the scenes are in {folder}')
