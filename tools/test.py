"""Measures a checkpoint with the data sets of its config: ``python tools/test.py CONFIG CHECKPOINT``.

For a pre-trained model it is the weighted k-NN of the config's ``KNNHook``; a config with a ``test_dataloader`` and a
``test_evaluator`` is tested with those.
"""

from __future__ import annotations

import argparse
import json
import os

from mmengine.config import DictAction

from mstkit.engine.distributed import LAUNCHERS, rank_zero_speaks
from mstkit.engine.launch import load_config
from mstkit.engine.measure import measure_checkpoint
from mstkit.errors import exit_cleanly


def parse_args() -> argparse.Namespace:
    """Reads the command line; the arguments are OpenMMLab's, with --data-root and --seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='the config that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='a .pth file')
    parser.add_argument('--data-root', metavar='DIR', help='the folder of the labelled pictures, for every data set')
    parser.add_argument('--work-dir', metavar='DIR', help='for the log; ./work_dirs/CONFIG by default')
    parser.add_argument('--out', metavar='FILE', help='also write the numbers to this JSON file')
    parser.add_argument('--seed', type=int, help='wins over randomness.seed of the config')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='overrides')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='who started the processes')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Tests."""
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    with rank_zero_speaks():
        config, notes = load_config(
            args.config,
            cfg_options=args.cfg_options,
            data_root=args.data_root,
            work_dir=args.work_dir,
            seed=args.seed,
            launcher=args.launcher,
        )
        speaks = os.environ.get('RANK', '0') == '0'
        if speaks:
            for note in notes:
                print(note, flush=True)
        results = measure_checkpoint(config, args.checkpoint)
    if speaks:
        print(json.dumps(results, indent=2), flush=True)
        if args.out:
            with open(args.out, 'w', encoding='utf-8') as file:
                json.dump(results, file, indent=2)


if __name__ == '__main__':
    main()
