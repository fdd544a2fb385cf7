"""Writes the built-in scenes as files for detection and segmentation: ``mstkit make-scenes DIR``.

DIR has both COCO's layout (train2017, val2017, annotations) and Cityscapes' (leftImg8bit, gtFine). The ten classes are
``mstkit.scenes.scene_files.LABELS``; the first one is the background, which only the label maps have. The same command
continues an interrupted run. Classification uses scenes without files, with the data set BuiltinScenes.

With --depth the scenes are others, which have a depth for each pixel, in the layout of mmseg's NYU-Depth v2
(images/train, annotations/train, 16-bit PNG, 1000 for the size of an object). With --figures they are figures in random
poses, whose joints are marked in COCO's format for keypoints (train2017, annotations/person_keypoints_train2017.json).
With --videos they are videos of moving objects, one of which is to be followed, in the layout of GOT-10k
(val/NAME/00000001.png, val/NAME/groundtruth.txt).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from mstkit.errors import UsageError, exit_cleanly
from mstkit.scenes.depth_files import ensure_depth_scenes
from mstkit.scenes.figure_files import ensure_figure_scenes
from mstkit.scenes.scene_files import ensure_scenes
from mstkit.scenes.video_files import ensure_videos
from mstkit.utils.output_paths import output_folder

GROUP = 'files'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='DIR', help='where the files go')
    parser.add_argument('--train', type=int, metavar='N', help='scenes to train on (400; 0 with --videos)')
    parser.add_argument('--val', type=int, metavar='N', help='scenes to validate on (100; 20 with --videos)')
    parser.add_argument('--size', type=int, default=128, metavar='PX', help='side of an image (%(default)s)')
    parser.add_argument(
        '--objects', type=int, metavar='N', help='objects in a scene (3; 5 with --depth, 4 with --videos), or figures'
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument('--depth', action='store_true', help='scenes with depth instead')
    kinds.add_argument('--figures', action='store_true', help='scenes with 1 to N figures and their joints instead')
    kinds.add_argument('--videos', action='store_true', help='videos with the boxes of an object instead')
    parser.add_argument('--frames', type=int, metavar='N', help='of a video (16)')
    parser.add_argument('--seed', type=int, default=0, help='of the scenes (%(default)s)')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Writes the missing files, and prints the folder."""
    args = parse_args()
    output_folder('DIR', args.folder)
    if args.frames is not None and not args.videos:
        raise UsageError(f'--frames is {args.frames}, but scenes have a single image: give --videos, or no --frames.')
    kinds: dict[str, Callable[..., Path]] = {
        'depth': ensure_depth_scenes,
        'figures': ensure_figure_scenes,
        'videos': ensure_videos,
    }
    write = next((kinds[name] for name in kinds if getattr(args, name)), ensure_scenes)
    # What is not given is what the function has.
    given = {key: value for key in ('train', 'val', 'objects', 'frames') if (value := getattr(args, key)) is not None}
    folder = write(args.folder, size=args.size, seed=args.seed, **given)
    print(f'the scenes are in {folder}')
