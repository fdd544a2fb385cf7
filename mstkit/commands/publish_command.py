"""Makes a release file of a checkpoint: ``mstkit publish CHECKPOINT --branch teacher --out DIR``.

The file has the backbone of one branch, without heads, decoders and optimizer, with the config, the epoch, and the k-NN
accuracies of that epoch where the work dir has them. Its name ends in the first 8 characters of its SHA-256. It is what
``--pretrained FILE`` and every command that measures a network read.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import torch

from mstkit.errors import UsageError, exit_cleanly
from mstkit.interop.checkpoint import BRANCH_PREFIXES, branch_state, read_checkpoint
from mstkit.networks import open_networks
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import output_folder
from mstkit.version import __version__

GROUP = 'files'  # of mstkit --help

KEPT = ('cfg', 'epoch', 'iter', 'seed', 'run', 'data')  # of the checkpoint's meta


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='a .pth file in a work dir')
    parser.add_argument('--branch', choices=tuple(BRANCH_PREFIXES), default='student', help='(default: %(default)s)')
    parser.add_argument('--out', metavar='DIR', default='.', help='where the file goes (default: the current folder)')
    parser.add_argument('--name', metavar='NAME', help='of the file, before branch and hash; the work dir by default')
    return parser.parse_args()


def measured(work_dir: Path, epoch: Any, branch: str) -> dict[str, float]:
    """The k-NN accuracies of a branch after an epoch, percent; empty where the work dir has none.

    Raises:
        UsageError: the record is damaged.
    """
    file = work_dir / 'knn.jsonl'
    if not file.is_file():
        return {}
    try:
        records = [json.loads(line) for line in file.read_text(encoding='utf-8').splitlines()]
        now = [one['branches'] for one in records if one['epoch'] == epoch]
        found = [dict(branches[branch]) for branches in now if branch in branches]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f'{file} is no record of k-NN accuracies ({error}): move it away or mend it.') from error
    return found[-1] if found else {}


def release(checkpoint: dict[str, Any], branch: str, numbers: dict[str, float]) -> bytes:
    """The content of the file: it is read like any checkpoint, and its branch is called student there."""
    meta = checkpoint.get('meta') or {}
    state = branch_state(checkpoint, branch)
    content = {
        'meta': {
            **{name: meta[name] for name in KEPT if name in meta},
            'released': {'branch': branch, 'mstkit': __version__, 'knn': numbers},
        },
        'state_dict': {f'backbone.{name}': value.detach().cpu().clone() for name, value in state.items()},
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@exit_cleanly
def main() -> None:
    """Reads, checks, writes."""
    args = parse_args()
    output_folder('--out', args.out)
    source = Path(args.checkpoint)
    name = args.name or source.resolve().parent.name
    if '/' in name:
        raise UsageError(f'--name {name}: it is the name of a file without its folder, which --out gives.')
    (network,) = open_networks(str(source), args.branch, 'cpu')  # what is released can be opened
    checkpoint = read_checkpoint(source)
    epoch = (checkpoint.get('meta') or {}).get('epoch')
    numbers = measured(source.resolve().parent, epoch, args.branch)
    content = release(checkpoint, args.branch, numbers)
    length = f'_epoch{epoch}' if isinstance(epoch, int) else ''
    path = Path(args.out, f'{name}{length}_{args.branch}-{hashlib.sha256(content).hexdigest()[:8]}.pth')
    write_atomically(path, content)
    print(f'{path}: {network.origin.rpartition(", ")[2]}, {len(content) / 1e6:.1f} MB')
    known = ', '.join(f'{key} {value:.1f}' for key, value in numbers.items()) or 'none in the work dir'
    print(f'k-NN accuracies in it: {known}')
    print('its config is that of the run, with the folders it names')
