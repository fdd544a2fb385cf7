"""Measures a checkpoint with the data sets of its config: ``mstkit test CONFIG CHECKPOINT``.

A pre-trained model is evaluated by weighted k-NN with the settings of the config's ``KNNHook``; a config with a
``test_dataloader`` and a ``test_evaluator`` is tested with these.
"""

from __future__ import annotations

import argparse
import json

import mstkit.downstream  # noqa: F401  (mmcv's operators, for configs of mmdet and mmseg)
from mstkit.engine.launch.command_line import add_run_arguments, config_from, speaks
from mstkit.engine.launch.measure import measure_checkpoint
from mstkit.engine.parallel.distributed import rank_zero_speaks
from mstkit.errors import exit_cleanly
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import output_file

GROUP = 'measure'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line; the arguments are OpenMMLab's, with --data-root and --seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser, 'the config that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='a .pth file')
    parser.add_argument('--out', metavar='FILE', help='also write the numbers to this JSON file')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Tests."""
    args = parse_args()
    with rank_zero_speaks():
        if args.out:
            output_file('--out', args.out)
        results = measure_checkpoint(config_from(args), args.checkpoint)
    if speaks():
        print(json.dumps(results, indent=2), flush=True)
        if args.out:
            write_atomically(args.out, (json.dumps(results, indent=2) + '\n').encode())
