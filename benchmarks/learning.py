"""What is learned in a fixed time: python benchmarks/learning.py compare METHOD METHOD … --data-root DIR --out FOLDER

METHOD is a pre-training config of ours or lightly:NAME, one of lightly's methods around timm's ViT of the same size.
Each is trained for --seconds with every seed, in a process of its own, in turns; k-NN (k = 20, T = 0.07, the whole
training set as the bank) and a linear probe say what its features are worth before and after. See benchmarks/README.md.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from contest.judged_features import Judge
from contest.learned import PEER, read_learned, table_of
from contest.learned_figure import draw_learned
from contest.learner import CLOCKS, Learner, spend
from contest.our_learner import OurLearner
from contest.peer_step import DTYPES
from contest.time_slices import take_turns
from mmengine.config import DictAction
from mmengine.logging import MMLogger

from mstkit.errors import UsageError, exit_cleanly
from mstkit.utils.files import write_atomically


def parse_args(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        '--data-root', required=True, metavar='DIR', help='images to learn from, train/CLASS, val/CLASS'
    )
    shared.add_argument(
        '--judge-root',
        nargs='+',
        metavar='DIR',
        help='folders of images to judge by, likewise; those of --data-root if none',
    )
    shared.add_argument('--seconds', type=float, default=1500, help='of training, measurements not counted')
    shared.add_argument('--clock', choices=list(CLOCKS), default='wall', help='cpu: seconds that the process computed')
    shared.add_argument('--threads', type=int, default=1)
    shared.add_argument('--workers', type=int, default=1, help='of the loader')
    shared.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    shared.add_argument('--dtype', choices=list(DTYPES), default='bfloat16')
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    run = commands.add_parser('run', parents=[shared], help='one method, one seed')
    run.add_argument('method', metavar='METHOD')
    run.add_argument('--seed', type=int, default=0)
    run.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, help='of a config of ours')
    run.add_argument('--out', metavar='FILE', help='also write the results there, as JSON')
    run.add_argument('--save', metavar='FILE', help='write the weights of a config of ours, for our other commands')
    compare = commands.add_parser('compare', parents=[shared], help='several methods, several seeds, in turns')
    compare.add_argument('methods', nargs='+', metavar='METHOD')
    compare.add_argument('--seeds', default='0,1,2', help='all methods with the first one, then with the next …')
    compare.add_argument('--out', required=True, metavar='FOLDER', help='a file for each training; what is there stays')
    compare.add_argument(
        '--slice', type=float, metavar='SECONDS', help='the methods of a seed take turns of so long; needs --clock cpu'
    )
    compare.add_argument('--at-once', type=int, default=1, help='methods of a seed that run at a time; with --slice')
    compare.add_argument('--save', metavar='FOLDER', help='also write the weights of our configs there')
    table = commands.add_parser('table', help='the table of a folder')
    table.add_argument('folder', metavar='FOLDER')
    plot = commands.add_parser('plot', help='k-NN before and after, of a folder')
    plot.add_argument('folder', metavar='FOLDER')
    plot.add_argument('image', metavar='IMAGE', help='the file that is written')
    plot.add_argument(
        '--titles', nargs='+', type=_title, default=[], metavar='JUDGE=TITLE', help='of the folders that judged'
    )
    return parser.parse_args(words)


def _title(word: str) -> tuple[str, str]:
    judge, sign, title = word.partition('=')
    if not sign:
        raise argparse.ArgumentTypeError(f'{word!r} is not JUDGE=TITLE')
    return judge, title


def learner_of(args: argparse.Namespace) -> Learner:
    """Builds the training of a method.

    Raises:
        UsageError: an unknown method of lightly's, or lightly is not installed.
    """
    given = dict(seed=args.seed, workers=args.workers, device=args.device, dtype=args.dtype)
    if not args.method.startswith(PEER):
        return OurLearner(args.method, args.cfg_options, args.data_root, **given)
    try:
        from contest.lightly_learner import PEERS  # lightly is optional
    except ImportError as error:
        raise UsageError(f'{args.method}: {error}; install it: pip install lightly timm') from error
    name = args.method.removeprefix(PEER)
    if name not in PEERS:
        raise UsageError(f'{args.method} is not known; there are {", ".join(PEER + known for known in PEERS)}')
    return PEERS[name](args.data_root, **given)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Trains and judges one method with one seed."""
    torch.set_num_threads(args.threads)
    MMLogger.get_instance('mmengine').setLevel('ERROR')  # else a line for every parameter
    if args.save and args.method.startswith(PEER):
        raise UsageError(f'--save is for configs of ours, not for {args.method}')
    learner = learner_of(args)
    judges = judges_of(args.judge_root or [args.data_root])
    judged: dict[str, dict[str, dict[str, dict[str, float]]]] = {name: {} for name in judges}

    def ask_all(when: str) -> None:
        for folder, judge in judges.items():
            judged[folder][when] = {
                branch: judge(network, learner.device, DTYPES[args.dtype])
                for branch, network in learner.networks().items()
            }
            print(f'{args.method}, seed {args.seed}, {folder}: {when} {judged[folder][when]}', flush=True)

    ask_all('before')
    spent = spend(learner, args.seconds, args.clock, lambda line: print(line, flush=True))
    ask_all('after')
    if args.save and isinstance(learner, OurLearner):
        learner.save(args.save)
    left_out = ('command', 'out', 'save', 'seconds', 'data_root', 'judge_root')
    return dict(
        **{name: value for name, value in vars(args).items() if name not in left_out},
        data=Path(args.data_root).absolute().name,  # no paths: a result is kept where others see it
        **spent,
        budget=args.seconds,
        batch=learner.batch,
        judged=judged,
        date=time.strftime('%Y-%m-%d'),
        torch=torch.__version__,
        lightly=version('lightly') if args.method.startswith(PEER) else None,
        processor=processor(args.device),
    )


def judges_of(folders: Sequence[str]) -> dict[str, Judge]:
    """A judge for each folder, by the folder's name.

    Raises:
        UsageError: two folders of the same name.
    """
    names = [Path(folder).absolute().name for folder in folders]
    if len(set(names)) < len(names):
        raise UsageError(f'--judge-root {" ".join(folders)}: two folders of the same name; results are kept by it')
    return {name: Judge(folder) for name, folder in zip(names, folders, strict=True)}


def processor(device: str) -> str:
    """The name of what computes."""
    if device.startswith('cuda'):
        return torch.cuda.get_device_name(device)
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    except OSError:
        return 'unknown'
    return next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), 'unknown')


def compare(args: argparse.Namespace) -> None:
    """Runs what has no file yet, each in a process of its own; prints the table after each.

    Raises:
        UsageError: seeds that are no numbers, or a training that failed.
    """
    folder = Path(args.out)
    try:
        seeds = [int(seed) for seed in args.seeds.split(',')]
    except ValueError as error:
        raise UsageError(f'--seeds {args.seeds}: give whole numbers with commas, such as 0,1,2') from error
    names = {method: Path(method).stem.replace(PEER, 'lightly-') for method in args.methods}
    if len(set(names.values())) < len(names):
        raise UsageError(f'two of the methods have the same name: {" ".join(args.methods)}')
    shared = ('data_root', 'judge_root', 'seconds', 'clock', 'threads', 'workers', 'device', 'dtype')
    options = [
        word
        for name in shared
        if (value := getattr(args, name)) is not None
        for word in (f'--{name.replace("_", "-")}', *map(str, value if isinstance(value, list) else [value]))
    ]
    if args.slice is not None and (args.clock != 'cpu' or args.slice <= 0):
        raise UsageError(f'--slice {args.slice:g} is a time above 0, and goes with --clock cpu: others run in between')
    if args.at_once < 1 or (args.at_once > 1 and args.slice is None):
        raise UsageError(f'--at-once {args.at_once} is a number from 1 on, and above 1 goes with --slice')

    def file_of(method: str, seed: int) -> Path:
        return folder / f'{names[method]}_seed{seed}.json'

    def words_of(method: str, seed: int) -> list[str]:
        file = file_of(method, seed)
        words = [sys.executable, __file__, 'run', method, *options, '--seed', str(seed), '--out', str(file)]
        if args.save and not method.startswith(PEER):
            words += ['--save', str(Path(args.save) / f'{file.stem}.pth')]
        return words

    for number, seed in enumerate(seeds):
        missing = [method for method in args.methods if not file_of(method, seed).exists()]
        together = [missing] if args.slice else [[method] for method in missing]  # in turns, or one after the other
        for methods in filter(None, together):
            commands = [words_of(method, seed) for method in methods]
            for words in commands:
                print(f'[seed {number + 1} of {len(seeds)}] {shlex.join(words[1:])}', flush=True)
            codes = take_turns(commands, args.slice, args.at_once)
            failed = [method for method, code in zip(methods, codes, strict=True) if code]
            if failed:
                raise UsageError(f'{", ".join(failed)} with seed {seed} failed; see above')
    print(table_of(read_learned(folder)))


@exit_cleanly
def main() -> None:
    """Runs the command."""
    args = parse_args()
    if args.command == 'table':
        print(table_of(read_learned(Path(args.folder))))
    elif args.command == 'plot':
        draw_learned(read_learned(Path(args.folder)), args.image, dict(args.titles))
    elif args.command == 'compare':
        compare(args)
    else:
        result = run(args)
        print(json.dumps(result))
        if args.out:
            write_atomically(args.out, (json.dumps(result) + '\n').encode())


if __name__ == '__main__':
    main()
