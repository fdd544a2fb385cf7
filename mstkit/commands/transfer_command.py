"""Fine-tunes a pre-trained backbone in several tasks: ``mstkit transfer --pretrained FILE``.

Tracking needs no training: boxes are followed by the features as they are. By default the demo configs are trained on
the built-in images; ``--configs`` and ``--data-root`` give others. The same command continues after an interruption.
Options with ``TASK=VALUE`` take one or more of these.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mstkit.downstream  # noqa: F401  (mmcv's operators, for configs of mmdet and mmseg)
from mstkit.engine.launch.command_line import parse_seeds
from mstkit.errors import UsageError, exit_cleanly
from mstkit.experiments import FINISHED, failures, run_jobs
from mstkit.experiments.predictions import draw_predictions, stack_images
from mstkit.experiments.tasks import TASKS, check_task
from mstkit.experiments.transfer import FineTuning, Plan, TaskOptions, make_plan
from mstkit.experiments.transfer_report import write_report
from mstkit.experiments.transfer_source import read_source
from mstkit.experiments.zero_shot import ZeroShot
from mstkit.interop.checkpoint import BRANCH_PREFIXES
from mstkit.scenes.depth_files import ensure_depth_scenes
from mstkit.scenes.figure_files import ensure_figure_scenes
from mstkit.scenes.scene_files import ensure_scenes
from mstkit.scenes.video_files import ensure_videos
from mstkit.utils.output_paths import output_folder
from mstkit.utils.shipped_files import find_config, from_here, shipped

GROUP = 'train'  # of mstkit --help

TRAIN = shipped('tools/train.py')
CONFIGS = shipped('configs/downstream')
SCENES: dict[str, tuple[Path, Callable[[Path], Path]]] = {  # that the demo configs read, and what writes them
    'objects': (Path('work_dirs') / 'scenes', ensure_scenes),
    'depth': (Path('work_dirs') / 'depth_scenes', functools.partial(ensure_depth_scenes, size=96)),
    'figures': (Path('work_dirs') / 'figures', ensure_figure_scenes),
    'videos': (Path('work_dirs') / 'videos', ensure_videos),
}


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pretrained', required=True, metavar='FILE', help='a checkpoint of a pre-training')
    parser.add_argument('--branch', choices=tuple(BRANCH_PREFIXES), default='student', help='of that checkpoint')
    parser.add_argument('--tasks', default=','.join(TASKS), metavar='T,T', help=f'among {", ".join(TASKS)}')
    parser.add_argument('--from-scratch-too', action='store_true', help='also from random weights, to compare')
    parser.add_argument('--seeds', default='0', metavar='S,S', help='every training is done with each; 0 by default')
    for option, metavar, words in (
        ('--configs', 'TASK=FILE', 'other configs than the demo ones'),
        ('--data-root', 'TASK=DIR', 'the data of a task'),
        ('--num-classes', 'TASK=N', 'classes of label maps'),
        ('--length', 'TASK=N', 'epochs, or iterations where the config counts those'),
    ):
        parser.add_argument(option, nargs='+', default=[], metavar=metavar, help=words)
    parser.add_argument(
        '--jobs', type=int, default=1, metavar='N', help='trainings at the same time; GPUs are assigned in turn'
    )
    parser.add_argument('--images', type=int, default=4, metavar='N', help='images with drawn predictions; 0: none')
    parser.add_argument('--work-dir', default='work_dirs/transfer', metavar='DIR', help='for all files')
    return parser.parse_args()


def by_task(
    words: Sequence[str], option: str, tasks: Sequence[str], kind: Callable[[str], Any] = str
) -> dict[str, Any]:
    """Splits words of the form ``TASK=VALUE``.

    Raises:
        UsageError: something else, or a task that is unknown, not to be trained, or named twice.
    """
    values: dict[str, Any] = {}
    for word in words:
        task, _, value = word.partition('=')
        if not value or (kind is int and not value.isdecimal()):
            example = 'DIR' if kind is str else '12'
            raise UsageError(f'{option} {word}: give TASK=VALUE, such as {tasks[0]}={example}.')
        if check_task(task) not in tasks:
            raise UsageError(f'{option} {word}: --tasks {",".join(tasks)} does not name {task}.')
        if task in values:
            raise UsageError(f'{option} {word}: {task} is named twice.')
        values[task] = kind(value)
    return values


def read_tasks(args: argparse.Namespace) -> dict[str, TaskOptions]:
    """The tasks to be trained, with their options."""
    tasks = list(dict.fromkeys(check_task(word.strip()) for word in args.tasks.split(',')))
    configs = by_task(args.configs, '--configs', tasks)
    roots = by_task(args.data_root, '--data-root', tasks)
    classes = by_task(args.num_classes, '--num-classes', tasks, int)
    lengths = by_task(args.length, '--length', tasks, int)
    for task in tasks:
        for option, values in (('--configs', configs), ('--num-classes', classes), ('--length', lengths)):
            if task in values and TASKS[task].program is not None:
                raise UsageError(f'{option} {task}={values[task]}: {task} is measured without training.')
        if (scenes := TASKS[task].scenes) and task not in configs:
            roots.setdefault(task, str(SCENES[scenes][0]))
    return {
        task: TaskOptions(
            find_config(configs[task]) if task in configs else _demo_config(task),
            roots.get(task),
            classes.get(task),
            lengths.get(task),
        )
        for task in tasks
    }


def _demo_config(task: str) -> Path | None:
    config = TASKS[task].config
    return None if config is None else from_here(CONFIGS / config)


def draw(plan: Plan, count: int, say: Callable[[str], object]) -> list[str]:
    """Draws a sheet of predictions per task, of the first seed; returns the file names."""
    files = []
    for task in plan.tasks:
        runs = [run for run in plan.runs if run.task == task and run.seed == plan.runs[0].seed]
        done = {run.start: run for run in runs if run.record().get('status') == FINISHED}
        trained = {start: run for start, run in done.items() if isinstance(run, FineTuning)}
        pictures = [picture for run in done.values() if isinstance(run, ZeroShot) for picture in run.pictures]
        if not count or not (trained or pictures):
            continue
        name = f'{task}_predictions.png'
        say(f'drawing {plan.folder / name}')
        try:
            if trained:
                draw_predictions(trained, plan.folder / name, count)
            else:
                stack_images(pictures, plan.folder / name)
        except UsageError as error:
            say(f'not drawn: {error}')  # the report does not need it
        else:
            files.append(name)
    return files


@exit_cleanly
def main() -> None:
    """Trains, measures, draws."""
    args = parse_args()
    output_folder('--work-dir', args.work_dir)
    for option, value, least in (('--jobs', args.jobs, 1), ('--images', args.images, 0)):
        if value < least:
            raise UsageError(f'{option} is a whole number from {least}, not {value}')
    tasks, seeds = read_tasks(args), parse_seeds(args.seeds)
    source = read_source(args.pretrained, args.branch)
    for folder, write in SCENES.values():
        if any(options.data_root == str(folder) for options in tasks.values()):
            write(folder)
    plan = make_plan(source, tasks, Path(args.work_dir), seeds, args.from_scratch_too)
    say = functools.partial(print, flush=True)
    write_report(plan)  # finds damaged files before training
    try:
        run_jobs(plan.runs, from_here(TRAIN), args.jobs, lambda: write_report(plan), say)
    except KeyboardInterrupt:
        say('stopped; the same command resumes from the last checkpoints')
        sys.exit(130)
    say(f'\n{write_report(plan)}\n')  # before drawing, which may fail
    write_report(plan, draw(plan, args.images, say))
    say(f'{plan.folder / "transfer.md"} has the curves and the predictions, transfer.csv every number.')
    failed = failures(plan.runs)
    if failed:
        say(failed)
        sys.exit(1)
