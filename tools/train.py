"""Pre-trains a model: ``python tools/train.py CONFIG [--data-root DIR]``."""

from __future__ import annotations

import argparse
import os

from mmengine.config import DictAction

from mstkit.engine.distributed import LAUNCHERS, rank_zero_speaks
from mstkit.engine.launch import build_runner, load_config
from mstkit.errors import exit_cleanly


def parse_args() -> argparse.Namespace:
    """Reads the command line; the arguments are OpenMMLab's, with --data-root and --seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a file in configs/, or your own')
    parser.add_argument('--data-root', metavar='DIR', help='the folder of your pictures, for every data set')
    parser.add_argument('--work-dir', metavar='DIR', help='for logs and checkpoints; ./work_dirs/CONFIG by default')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on with this checkpoint, or without a name with the newest one in the work dir',
    )
    parser.add_argument('--epochs', type=int, metavar='N', help='another length, for run and schedules')
    parser.add_argument('--seed', type=int, help='wins over randomness.seed of the config')
    parser.add_argument('--amp', action='store_true', help='mixed precision (on by default where the device has bf16)')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the lr with the global batch')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='overrides, such as model.masker.type=RandomMasker model.masker.prob=0.15',
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='who started the processes')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Trains."""
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    with rank_zero_speaks():
        config, notes = load_config(
            args.config,
            cfg_options=args.cfg_options,
            data_root=args.data_root,
            work_dir=args.work_dir,
            seed=args.seed,
            epochs=args.epochs,
            launcher=args.launcher,
            resume=args.resume,
            auto_scale_lr=args.auto_scale_lr,
            amp=args.amp,
        )
        if os.environ.get('RANK', '0') == '0':
            for note in notes:
                print(note, flush=True)
        build_runner(config).train()


if __name__ == '__main__':
    main()
