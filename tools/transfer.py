"""Fine-tunes a pre-trained backbone in several tasks: ``python tools/transfer.py --pretrained FILE``.

The demo configs on the built-in pictures unless ``--configs`` and ``--data-root`` say otherwise. The same command again
goes on where it was interrupted. Options that take ``TASK=VALUE`` take several of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mstkit.datasets.scene_files import ensure_scenes
from mstkit.errors import UsageError, exit_cleanly
from mstkit.interop.checkpoint import BRANCH_PREFIXES
from mstkit.transfer import TASKS, make_plan, train, write_report
from mstkit.transfer.plan import FINISHED, Plan
from mstkit.transfer.predictions import draw_predictions

TOOLS = Path(__file__).resolve().parent
CONFIGS = TOOLS.parent / 'configs' / 'downstream'
SCENES = Path('work_dirs') / 'scenes'
NEED_SCENES = ('detection', 'segmentation')


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
    parser.add_argument('--pictures', type=int, default=4, metavar='N', help='pictures with drawn predictions')
    parser.add_argument('--work-dir', default='work_dirs/transfer', metavar='DIR', help='for everything')
    return parser.parse_args()


def by_task(words: Sequence[str], option: str, kind: Callable[[str], Any] = str) -> dict[str, Any]:
    """Splits ``TASK=VALUE``.

    Raises:
        UsageError: something else.
    """
    pairs = {}
    for word in words:
        task, equals, value = word.partition('=')
        try:
            pairs[task] = kind(value)
        except ValueError:
            equals = ''
        if not equals or not value:
            raise UsageError(f'{option} {word}: give TASK=VALUE, such as detection={"DIR" if kind is str else 12}.')
    return pairs


def draw(plan: Plan, count: int) -> list[str]:
    """A sheet of predictions per task, of the first seed; returns the file names."""
    files = []
    for task in dict.fromkeys(run.task for run in plan.runs):
        done = [run for run in plan.runs if run.task == task and run.record().get('status') == FINISHED]
        first = {run.start: run for run in done if run.seed == plan.runs[0].seed}
        if first and count > 0:
            files.append(f'{task}_predictions.png')
            draw_predictions(first, plan.folder / files[-1], count)
    return files


@exit_cleanly
def main() -> None:
    """Trains, measures, draws."""
    args = parse_args()
    tasks = [task.strip() for task in args.tasks.split(',') if task.strip()]
    configs, roots = by_task(args.configs, '--configs'), by_task(args.data_root, '--data-root')
    classes = by_task(args.num_classes, '--num-classes', int)
    if any(task in tasks and task not in roots and task not in configs for task in NEED_SCENES):
        ensure_scenes(SCENES)
        roots = {**{task: str(SCENES) for task in NEED_SCENES if task not in configs}, **roots}
    settings: dict[str, dict[str, Any]] = {}
    for key, values in (('data_root', roots), ('num_classes', classes)):
        for task, value in values.items():
            settings.setdefault(task, {})[key] = value
    try:
        seeds = [int(seed) for seed in args.seeds.split(',')]
    except ValueError:
        raise UsageError(f'--seeds {args.seeds}: give whole numbers, such as 0,1,2.') from None
    plan = make_plan(
        args.pretrained,
        tasks,
        Path(args.work_dir),
        CONFIGS,
        args.branch,
        args.from_scratch_too,
        seeds,
        configs,
        settings,
        by_task(args.length, '--length', int),
    )

    def say(line: str) -> None:
        print(line, flush=True)

    finished = train(plan.runs, TOOLS / 'train.py', lambda: write_report(plan), say)
    table = write_report(plan, draw(plan, args.pictures))
    say(f'\n{table}\n\n{plan.folder / "transfer.md"} has the curves and the predictions.')
    if not finished:
        sys.exit(1)


if __name__ == '__main__':
    main()
