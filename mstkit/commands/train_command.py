"""Trains a model from a config: ``mstkit train CONFIG [--data-root DIR]``.

For a config in configs/downstream, ``--pretrained FILE`` gives the checkpoint whose backbone is fine-tuned.
"""

from __future__ import annotations

import argparse

import mstkit.downstream  # noqa: F401  (mmcv's operators, for configs of mmdet and mmseg)
from mstkit.engine.config.trackers import TRACKERS
from mstkit.engine.launch.command_line import (
    add_downstream_arguments,
    add_run_arguments,
    add_training_arguments,
    config_from,
)
from mstkit.engine.launch.launch import build_runner
from mstkit.engine.parallel.distributed import rank_zero_speaks
from mstkit.errors import exit_cleanly

GROUP = 'train'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line; the arguments are OpenMMLab's, with --data-root, --seed and --epochs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser, 'a file in configs/, or your own')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint; without a name, from the last one in the work dir',
    )
    parser.add_argument(
        '--accept-changes', action='store_true', help="resume although config or images differ from the checkpoint's"
    )
    parser.add_argument(
        '--track',
        nargs='+',
        choices=TRACKERS,
        default=(),
        metavar='TRACKER',
        help=f'also tell a tracker of experiments: {", ".join(TRACKERS)}',
    )
    add_training_arguments(parser)
    add_downstream_arguments(parser)
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Trains."""
    args = parse_args()
    changes: list[str] = []
    with rank_zero_speaks():
        config = config_from(
            args,
            changes,
            epochs=args.epochs,
            iterations=args.iterations,
            resume=args.resume,
            accept_changes=args.accept_changes,
            auto_scale_lr=args.auto_scale_lr,
            amp=args.amp,
            pretrained=args.pretrained,
            branch=args.branch,
            num_classes=args.num_classes,
            track=args.track,
        )
        build_runner(config, changes).train()
