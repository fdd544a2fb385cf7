"""Compares variants of a config over seeds: ``mstkit ablate CONFIG --vary KEY=VALUE,VALUE --seeds 0,1,2``.

A value is a name from configs/_base_/ablation_choices.py, or a Python value for a key that is not in that file. Cells
that are finished are not run again; interrupted ones are resumed.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys

from mstkit.engine.config.config_options import OptionsAction
from mstkit.engine.launch.command_line import add_training_arguments, parse_seeds
from mstkit.errors import UsageError, exit_cleanly
from mstkit.experiments import failures, run_jobs
from mstkit.experiments.ablation import Plan, make_plan
from mstkit.experiments.ablation_report import write_report
from mstkit.utils.output_paths import output_folder
from mstkit.utils.shipped_files import from_here, shipped

GROUP = 'train'  # of mstkit --help

CHOICES = shipped('configs/_base_/ablation_choices.py')
TRAIN = shipped('tools/train.py')


def parse_args() -> argparse.Namespace:
    """Reads the command line; options that are not about the grid are passed on to tools/train.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='the config that is varied')
    parser.add_argument(
        '--vary',
        action='append',
        required=True,
        metavar='KEY=VALUE,VALUE',
        help='a config key and its values, such as model.masker=none,mst; once per key, and the grid is the product',
    )
    parser.add_argument('--seeds', default='0', metavar='S,S', help='every choice is trained with each; 0 by default')
    parser.add_argument(
        '--jobs', type=int, default=1, metavar='N', help='cells at the same time; GPUs are assigned in turn'
    )
    parser.add_argument('--k', type=int, default=20, help='neighbors of the k-NN accuracies in the table')
    parser.add_argument('--dry-run', action='store_true', help='list the cells, run and write nothing')
    parser.add_argument('--work-dir', metavar='DIR', help='for all files; ./work_dirs/ablate_CONFIG by default')
    parser.add_argument('--data-root', metavar='DIR', help='the folder of your images, for every data set')
    add_training_arguments(parser)
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='overrides for all cells'
    )
    return parser.parse_args()


def list_cells(plan: Plan) -> None:
    """Prints the cells that would be run, and their states."""
    width = max(len(cell.group) for cell in plan.cells)
    for number, cell in enumerate(plan.cells, start=1):
        print(f'{number:4}  {cell.group:{width}}  seed {cell.seed}  {cell.folder}  {cell.state()}')
    print(f'{len(plan.cells)} cells: {len(plan.configs)} choices, {len(plan.cells) // len(plan.configs)} seeds')


@exit_cleanly
def main() -> None:
    """Plans, trains, reports."""
    args = parse_args()
    if args.work_dir:
        output_folder('--work-dir', args.work_dir)
    if args.jobs < 1:
        raise UsageError(f'--jobs is a whole number from 1, not {args.jobs}')
    plan = make_plan(
        args.config,
        args.vary,
        parse_seeds(args.seeds),
        CHOICES,
        args.k,
        work_dir=args.work_dir,
        cfg_options=args.cfg_options,
        data_root=args.data_root,
        epochs=args.epochs,
        auto_scale_lr=args.auto_scale_lr,
        amp=args.amp,
    )
    say = functools.partial(print, flush=True)
    for note in plan.notes:
        say(note)
    if args.dry_run:
        list_cells(plan)
        return
    output_folder('--work-dir', plan.folder)  # checked again, since it may be the default
    plan.write_configs()
    write_report(plan, args.k)  # finds damaged files before training

    try:
        run_jobs(plan.cells, from_here(TRAIN), args.jobs, lambda: write_report(plan, args.k), say)
    except KeyboardInterrupt:
        say('stopped; the same command resumes from the last checkpoints')
        sys.exit(130)
    say(f'\n{write_report(plan, args.k)}\n\nwritten: {os.path.join(plan.folder, "ablation.md")}, .csv and .png')
    failed = failures(plan.cells)
    if failed:
        say(failed)
        sys.exit(1)
