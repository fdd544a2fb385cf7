"""Command-line arguments that are common to the tools that run a config."""

from __future__ import annotations

import argparse
import os

from mmengine.config import Config

from mstkit.engine.config.config_options import OptionsAction
from mstkit.engine.launch.launch import load_config
from mstkit.engine.parallel.distributed import LAUNCHERS
from mstkit.engine.screen.console import FULL, SCREENS, chosen_screen
from mstkit.errors import UsageError
from mstkit.interop.checkpoint import BRANCH_PREFIXES
from mstkit.utils.output_paths import output_folder
from mstkit.utils.private_attributes import content_of


def add_run_arguments(parser: argparse.ArgumentParser, config_help: str) -> None:
    """Adds the common arguments of OpenMMLab's tools, and --data-root and --seed.

    Args:
        parser: the parser; ``config`` becomes its first positional argument.
        config_help: the help text of ``config``.
    """
    parser.add_argument('config', help=config_help)
    parser.add_argument('--data-root', metavar='DIR', help='the folder of your images, for every data set')
    parser.add_argument('--work-dir', metavar='DIR', help='for logs and results; ./work_dirs/CONFIG by default')
    parser.add_argument('--seed', type=int, help='wins over randomness.seed of the config')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        help='overrides, such as model.masker.type=RandomMasker model.masker.prob=0.15',
    )
    parser.add_argument(
        '--screen', choices=SCREENS, help='full: show the whole log, not only a summary, the progress and warnings'
    )
    add_launcher_argument(parser)


def add_launcher_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a command that may run in several processes."""
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='the program that starts the processes')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that change a training, whether of a single run or of an ablation."""
    parser.add_argument('--epochs', type=int, metavar='N', help='train for N epochs; the schedules are adapted')
    parser.add_argument('--amp', action='store_true', help='mixed precision (on by default where the device has bf16)')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the lr with the global batch')


def add_downstream_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of downstream configs: the pre-trained backbone, the number of classes, and the length."""
    parser.add_argument(
        '--pretrained', metavar='FILE', help='start from the backbone of this checkpoint, of mstkit or another program'
    )
    parser.add_argument(
        '--branch', choices=tuple(BRANCH_PREFIXES), help="the branch of --pretrained's checkpoint; default: student"
    )
    parser.add_argument('--num-classes', type=int, metavar='N', help='downstream: classes of label maps, for all heads')
    parser.add_argument('--iterations', type=int, metavar='N', help='--epochs for a config that counts in iterations')


def parse_seeds(text: str) -> list[int]:
    """Parses seeds such as ``0,1,2``.

    Raises:
        UsageError: not whole numbers from 0, or a number occurs twice.
    """
    words = [word.strip() for word in text.split(',')]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(f'--seeds {text}: give whole numbers from 0, separated by commas: 0,1,2.')
    seeds = [int(word) for word in words]
    if len(set(seeds)) < len(seeds):
        raise UsageError(f'--seeds {text}: a seed is named twice.')
    return seeds


def speaks() -> bool:
    """Whether this process prints messages for the user, which only rank 0 does."""
    return os.environ.get('RANK', '0') == '0'


def config_from(args: argparse.Namespace, said: list[str] | None = None, **changes: object) -> Config:
    """Reads the config named on the command line and prints what the other arguments changed in it.

    Args:
        args: parsed by a parser with :func:`add_run_arguments`.
        said: a list to which these lines are appended; a short screen leaves it to the summary to show them.
        **changes: further arguments of :func:`mstkit.engine.launch.launch.load_config`.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.work_dir:
        output_folder('--work-dir', args.work_dir)
    config, notes = load_config(
        args.config,
        cfg_options=args.cfg_options,
        data_root=args.data_root,
        work_dir=args.work_dir,
        seed=args.seed,
        launcher=args.launcher,
        **changes,  # type: ignore[arg-type]
    )
    if args.screen is not None:
        config.screen = args.screen
    if speaks() and (said is None or chosen_screen(content_of(config)) == FULL):
        for note in notes:
            print(note, flush=True)
    if said is not None:
        said += notes
    return config
