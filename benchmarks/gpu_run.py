"""All that is to be measured on one GPU, in slices: python benchmarks/gpu_run.py --all --out DIR

A slice takes 8 minutes at most and leaves DIR/SLICE.json; slices run in any order, and --all leaves out those whose
JSON is there. See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from gpu_slices import checks, feeding, steps, training
from gpu_slices.results import LIMIT, Results, wait_or_end
from gpu_slices.settings import Settings
from mmengine.logging import MMLogger

from mstkit.errors import UsageError, exit_cleanly
from mstkit.utils.files import write_atomically

GRACE = 40.0  # seconds after the deadline in which a slice has to end by itself


class Slice(NamedTuple):
    """A part of the measurements.

    Attributes:
        what: measured in it.
        measure: does it.
    """

    what: str
    measure: Callable[[Settings, Results], None]


# In the order of their worth: what a first session of half an hour should bring home comes first.
SLICES = {
    'steps': Slice('steps of DINO, iBOT, MAE, MST and AttMask, bfloat16, eager and compiled', steps.main_steps),
    'peers': Slice("DINO, iBOT and MAE beside lightly's, by turns", steps.peers),
    'gpu-tests': Slice('the tests that a CPU skips', checks.gpu_tests),
    'learning': Slice(
        'learning for a time: MST, DINO, MAE',
        training.learning(*(f'configs/{name}/{name}_vit-tiny_folder.py' for name in ('mst', 'dino', 'mae'))),
    ),
    'learning-peers': Slice(
        'the same with lightly: SimCLR, DINO, iBOT',
        training.learning('lightly:simclr', 'lightly:dino', 'lightly:ibot'),
    ),
    'methods': Slice('a step of every method, bfloat16', steps.methods),
    'feeding': Slice('loader and augmentation on the device, beside a step', feeding.feeding),
    'precisions': Slice('the steps in float16 and float32, eager and compiled', steps.precisions),
    'processes': Slice('DDP and FSDP: one process with NCCL, two on one GPU with gloo', training.processes),
    'masks': Slice('masks compared by mstkit ablate; goes on each time until it is done', training.masks),
    'learning-more': Slice(
        'learning for a time: iBOT, and lightly with MAE and LeJEPA',
        training.learning('configs/ibot/ibot_vit-tiny_folder.py', 'lightly:mae', 'lightly:lejepa'),
    ),
    'all-tests': Slice('all other tests, on a machine with a GPU', checks.all_tests),
}
ADVICE = """
slices, in the order in which a short session should take them:
{slices}

Before the session, with a network: pip install -e '.[tests]' and lightly, in an environment that travels with the
checkout; a folder with train and val for --data-root. Without one, scenes are drawn. Nothing is downloaded.
Where a command may run 10 minutes, run one slice in each: --slice steps, --slice peers, … A slice that is ended from
outside keeps the rows that it has. --rehearse runs all at tiny size on the CPU, and says what needs a GPU.
"""


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    listed = '\n'.join(f'  {name:15} {one.what}' for name, one in SLICES.items())
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=ADVICE.format(slices=listed),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--list', action='store_true', help='the slices, and what became of them in --out')
    what.add_argument('--slice', metavar='NAME', help='run one, again if need be')
    what.add_argument('--all', action='store_true', help='run those that have no JSON yet')
    parser.add_argument('--out', metavar='DIR', default='work_dirs/gpu_run', help='for all files; %(default)s')
    parser.add_argument('--data-root', metavar='DIR', help='images in train and val; drawn scenes by default')
    parser.add_argument('--seconds', type=float, default=LIMIT, help='of a slice at most; %(default)g')
    parser.add_argument('--rehearse', action='store_true', help='at tiny size on the CPU')
    parser.add_argument('--inside', action='store_true', help=argparse.SUPPRESS)  # the process of a slice
    return parser.parse_args()


def state_of(out: Path, name: str) -> str:
    """What became of a slice: 'not run', or its status, with what is left of it."""
    path = out / f'{name}.json'
    if not path.is_file():
        return 'not run'
    content = json.loads(path.read_text())
    counts = ', '.join(f'{len(content[key])} {key}' for key in ('rows', 'unreached', 'skipped') if content.get(key))
    failed = sum('error' in row for row in content['rows'])
    return f'{content["status"]}: {counts or "nothing"}{f", {failed} with an error" if failed else ""}'


def is_due(out: Path, name: str) -> bool:
    """Whether --all runs it: it has no JSON, was broken off, or goes on each time."""
    path = out / f'{name}.json'
    if not path.is_file():
        return True
    content = json.loads(path.read_text())
    return content['status'] in ('running', 'failed') or bool(content.get('goes_on'))


def run_slice(args: argparse.Namespace, name: str) -> bool:
    """Runs a slice in a process of its own, which is ended after its time; returns whether it came to its end."""
    out = Path(args.out)
    words = [sys.executable, __file__, '--slice', name, '--inside', '--out', args.out, '--seconds', str(args.seconds)]
    words += ['--data-root', args.data_root] if args.data_root else []
    words += ['--rehearse'] if args.rehearse else []
    print(f'{name}: {SLICES[name].what}', flush=True)
    start = time.monotonic()
    process = subprocess.Popen(words, start_new_session=True)
    code = wait_or_end(process, args.seconds + GRACE)
    if code != 0:
        path = out / f'{name}.json'
        content = (
            json.loads(path.read_text()) if path.is_file() else dict(slice=name, rows=[], unreached=[], skipped=[])
        )
        content.update(status='failed', why='its time was over' if code is None else f'ended with exit code {code}')
        write_atomically(path, json.dumps(content, indent=1).encode() + b'\n')
    print(f'{name}: {state_of(out, name)}, {time.monotonic() - start:.0f} s', flush=True)
    return code == 0


@exit_cleanly
def main() -> None:
    """Runs slices, or lists them."""
    args = parse_args()
    out = Path(args.out)
    if args.slice is not None and args.slice not in SLICES:
        raise UsageError(f'--slice {args.slice}: give one of {", ".join(SLICES)}.')
    if args.seconds < 1:
        raise UsageError(f'--seconds is {args.seconds:g}: give at least 1.')
    if args.list:
        for name, one in SLICES.items():
            print(f'{name:15} {state_of(out, name):40} {one.what}')
        return
    if not args.rehearse and not torch.cuda.is_available():
        raise UsageError('torch sees no GPU here: give --rehearse, which runs everything at tiny size on the CPU.')
    out.mkdir(parents=True, exist_ok=True)
    if args.inside:
        MMLogger.get_instance('mmengine').setLevel('ERROR')  # else a line for every parameter
        results = Results(out / f'{args.slice}.json', args.slice, args.seconds, args.rehearse)
        root = Path(args.data_root).resolve() if args.data_root else None
        SLICES[args.slice].measure(Settings(out.resolve(), root, args.rehearse), results)
        results.close()
        return
    names = [args.slice] if args.slice else [name for name in SLICES if is_due(out, name)]
    ended = [run_slice(args, name) for name in names]
    print(f'{sum(ended)} of {len(names)} slices came to their end; their JSON is in {out}')
    if not all(ended):
        sys.exit(1)


if __name__ == '__main__':
    main()
