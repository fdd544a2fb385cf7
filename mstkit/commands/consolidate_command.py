"""Converts a sharded checkpoint to a single file: ``mstkit consolidate WORK_DIR/epoch_9.dcp --out FILE.pth``.

The result is the same as that of a training without sharding: all tools can read it, and a training can be resumed
from it with any number of processes, sharded or not. Needs as much memory as the size of the file.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mstkit.engine.checkpoints import checkpointing
from mstkit.errors import UsageError, exit_cleanly
from mstkit.interop.checkpoint import read_checkpoint
from mstkit.utils.output_paths import output_file

GROUP = 'files'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='FOLDER', help='the checkpoint of a sharded training')
    parser.add_argument('--out', metavar='FILE', help='(default: the name of the folder, with .pth)')
    parser.add_argument('--weights-only', action='store_true', help='leave out the parts that only resuming needs')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Reads the shards, writes the file and prints a summary."""
    args = parse_args()
    folder = Path(args.folder)
    if folder.is_file():
        raise UsageError(f'{folder} is a file, so it is not a sharded checkpoint: give the folder of a sharded one.')
    out = Path(args.out or folder.with_suffix('.pth'))
    if out.exists():
        raise UsageError(f'{out} is there already: remove it, or give another --out.')
    output_file('--out', out)
    checkpoint = read_checkpoint(folder)
    if args.weights_only:
        checkpoint = {name: value for name, value in checkpoint.items() if name in ('meta', 'state_dict')}
    checkpointing.save(checkpoint, out)
    more = [name for name in checkpoint if name not in ('meta', 'state_dict')]
    also = f', with {", ".join(more)}' if more else ''
    print(f'{out}: {len(checkpoint["state_dict"])} tensors, {os.path.getsize(out) / 1e6:.1f} MB{also}')
