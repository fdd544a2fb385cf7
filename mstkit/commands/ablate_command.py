"""Compares variants of a config over seeds: ``mstkit ablate CONFIG --vary KEY=VALUE,VALUE --seeds 0,1,2``.

A value is a name from configs/_base_/ablation_choices.py, or a Python value for a key that is not in that file. --masks
takes names that mean the same mask in every method, --twins adds the random mask that hides as many patches as each,
and --measure judges every cell after its training. What is finished is not run again; what was interrupted goes on.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections import Counter
from pathlib import Path

from mstkit.engine.config.config_options import OptionsAction
from mstkit.engine.launch.command_line import add_training_arguments, parse_seeds
from mstkit.errors import UsageError, exit_cleanly
from mstkit.experiments import failures, run_jobs
from mstkit.experiments.ablation import make_plan
from mstkit.experiments.cell_evaluations import check_measures, evaluations_of
from mstkit.experiments.job import FINISHED
from mstkit.experiments.mask_benchmark import Benchmark
from mstkit.interop.checkpoint import BRANCH_PREFIXES
from mstkit.models.maskers.random_twins import random_twin
from mstkit.utils.output_paths import output_folder
from mstkit.utils.shipped_files import from_here, shipped

GROUP = 'train'  # of mstkit --help

CHOICES = shipped('configs/_base_/ablation_choices.py')
TRAIN = shipped('tools/train.py')
EVALUATE = shipped('tools/evaluation/evaluate.py')
BRANCHES = tuple(BRANCH_PREFIXES)


def parse_args() -> argparse.Namespace:
    """Reads the command line; options that are not about the grid are passed on to tools/train.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='+', help='the config that is varied, or several, each in a folder of its own')
    parser.add_argument(
        '--vary',
        action='append',
        default=[],
        metavar='KEY=VALUE,VALUE',
        help='a config key and its values, such as model.masker=none,mst; once per key, and the grid is the product',
    )
    parser.add_argument(
        '--masks', metavar='MASK,MASK', help='in place of --vary: names that mean the same mask in every method'
    )
    parser.add_argument('--twins', action='store_true', help='also train the random mask of the same count of each')
    parser.add_argument(
        '--measure', metavar='E,E', help='judge each cell and random weights: knn, linear, finetune (image by image)'
    )
    parser.add_argument(
        '--set', nargs='+', action=OptionsAction, default={}, metavar='E.SETTING=VALUE', help='of --measure'
    )
    parser.add_argument('--branch', choices=BRANCHES, help='that is measured; by default the one that papers measure')
    parser.add_argument('--seeds', default='0', metavar='S,S', help='every choice is trained with each; 0 by default')
    parser.add_argument(
        '--jobs', type=int, default=1, metavar='N', help='cells at the same time; GPUs are assigned in turn'
    )
    parser.add_argument('--k', type=int, default=20, help='neighbors of the k-NN accuracies in the table')
    parser.add_argument('--dry-run', action='store_true', help='list the cells, run and write nothing')
    parser.add_argument(
        '--images', type=int, metavar='N', help='training images that each cell sees, in place of --epochs'
    )
    parser.add_argument('--work-dir', metavar='DIR', help='for all files; ./work_dirs/ablate_CONFIG by default')
    parser.add_argument('--data-root', metavar='DIR', help='the folder of your images, for every data set')
    add_training_arguments(parser)
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='overrides for all cells'
    )
    return parser.parse_args()


def list_cells(benchmark: Benchmark) -> None:
    """Prints the cells that would be run, and their states; then the measurements and how long the rest takes."""
    cells = [cell for plan in benchmark.plans for cell in plan.cells]
    width = max(len(cell.group) for cell in cells)
    for number, cell in enumerate(cells, start=1):
        print(f'{number:4}  {cell.group:{width}}  seed {cell.seed}  {cell.folder}  {cell.state()}')
    for plan in benchmark.plans:
        for choice, twin in plan.twins.items():
            print(f'{plan.name + ": " if plan.name else ""}{choice} is compared with {twin}')
    if benchmark.evaluations:
        counts = Counter(job.measure for job in benchmark.evaluations)
        done = Counter(job.measure for job in benchmark.evaluations if job.record().get('status') == FINISHED)
        words = ', '.join(f'{name} {done[name]} of {count}' for name, count in counts.items())
        print(f'measurements finished: {words}')
    if any(job.record().get('status') == FINISHED for job in benchmark.jobs):
        print(benchmark.remaining())
    choices = sum(len(plan.configs) for plan in benchmark.plans)
    print(f'{len(cells)} cells: {choices} choices, {len(cells) // choices} seeds')


def plan_all(args: argparse.Namespace) -> Benchmark:
    """Everything that is to be trained and measured; nothing is written."""
    masks, measures = split_words(args.masks, '--masks'), split_words(args.measure, '--measure')
    if bool(masks) == bool(args.vary):
        raise UsageError('give either --vary KEY=VALUE,VALUE or --masks MASK,MASK, which say what is compared.')
    if args.images is not None and args.epochs is not None:
        raise UsageError(f'--images {args.images} --epochs {args.epochs}: both give the length; leave one of them out.')
    if args.set and not measures:
        raise UsageError(f'--set {next(iter(args.set))}: it is of --measure, which is not given.')
    if measures:
        check_measures(measures, args.set)
    several = len(args.config) > 1
    names = [Path(config).stem for config in args.config]
    if len(set(names)) < len(names):
        raise UsageError(f'the configs {", ".join(args.config)} have the same name, and so the same folder.')
    folder = Path(args.work_dir or Path('work_dirs') / f'ablate_{"+".join(names)}')
    plans = [
        make_plan(
            config,
            args.vary,
            parse_seeds(args.seeds),
            CHOICES,
            args.k,
            work_dir=folder / name if several else folder,
            cfg_options=args.cfg_options,
            data_root=args.data_root,
            epochs=args.epochs,
            auto_scale_lr=args.auto_scale_lr,
            amp=args.amp,
            masks=masks,
            random_twin=random_twin if args.twins else None,
            images=args.images,
            name=name if several else '',
        )
        for config, name in zip(args.config, names, strict=True)
    ]
    evaluations = [
        job
        for plan in plans
        for job in (
            evaluations_of(plan, measures, args.set, args.k, from_here(EVALUATE), args.branch) if measures else []
        )
    ]
    return Benchmark(plans, evaluations, folder, args.k)


def split_words(text: str | None, option: str) -> list[str]:
    """The names of a list with commas; empty without one."""
    words = [word.strip() for word in (text or '').split(',')] if text is not None else []
    if '' in words:
        raise UsageError(f'{option} {text!r} has an empty name; names are separated by single commas.')
    if len(set(words)) < len(words):
        raise UsageError(f'{option} {text}: a name is given twice.')
    return words


@exit_cleanly
def main() -> None:
    """Plans, trains, reports."""
    args = parse_args()
    if args.work_dir:
        output_folder('--work-dir', args.work_dir)
    if args.jobs < 1:
        raise UsageError(f'--jobs is a whole number from 1, not {args.jobs}')
    benchmark = plan_all(args)
    say = functools.partial(print, flush=True)
    for plan in benchmark.plans:
        for note in plan.notes:
            say(f'{plan.name}: {note}' if plan.name else note)
    if args.dry_run:
        list_cells(benchmark)
        return
    output_folder('--work-dir', benchmark.folder)  # checked again, since it may be the default
    benchmark.write_configs()
    benchmark.write_report()  # finds damaged files before training

    try:
        run_jobs(benchmark.jobs, from_here(TRAIN), args.jobs, benchmark.write_report, say)
    except KeyboardInterrupt:
        say('stopped; the same command resumes from the last checkpoints')
        sys.exit(130)
    page = os.path.join(benchmark.folder, 'ablation.md')
    single = len(benchmark.plans) == 1
    say(f'\n{benchmark.write_report()}\n\nwritten: {page}{", .csv and .png" if single else ""}')
    failed = failures(benchmark.jobs)
    if failed:
        say(failed)
        sys.exit(1)
