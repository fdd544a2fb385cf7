"""Writes a folder of images as tar shards: ``mstkit make-shards --images DIR --out DIR``.

DIR is read like the data set ImageFolder (sub-folders are classes, or there are no classes); instead of DIR, a text
file with a path and optionally a label per line can be given. The shards have webdataset's format; mstkit reads them
with ShardDataset. For existing shards, ``--index`` counts the samples and writes the index that ShardDataset needs to
read them from a URL.
"""

from __future__ import annotations

import argparse
import os

from mstkit.datasets import ImageFolder, TextList
from mstkit.datasets.shards.index import count_samples, write_index
from mstkit.datasets.shards.locations import expand, local_path
from mstkit.datasets.shards.writer import write_shards
from mstkit.errors import UsageError, exit_cleanly
from mstkit.utils.output_paths import output_file, output_folder

GROUP = 'files'  # of mstkit --help

_SHOWN = 10


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--images', metavar='DIR|LIST', help='a folder of images, or a text file that lists them')
    source.add_argument(
        '--index', nargs='+', metavar='SHARDS', help='only count the samples of these shards: paths, URLs, a{0..9}.tar'
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='an empty or new folder; with --index, the file')
    parser.add_argument('--shard-size', type=float, default=256, metavar='MB', help='(default: %(default)s)')
    parser.add_argument('--samples', type=int, metavar='N', help='at most so many samples in a shard')
    parser.add_argument('--prefix', default='shard', help='of the names PREFIX-000000.tar (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of the order of the samples (default: %(default)s)')
    parser.add_argument('--in-order', action='store_true', help='keep the order of the files, instead of mixing them')
    parser.add_argument('--verify', action='store_true', help='read every image, and leave out what cannot be read')
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Writes shards or an index, and prints a summary."""
    args = parse_args()
    (output_file if args.index else output_folder)('--out', args.out)
    if args.index is not None:
        if os.path.exists(args.out):
            raise UsageError(f'{args.out} is there already: remove it, or give another --out.')
        index = count_samples(expand(args.index))
        write_index(args.out, index)
        print(f'{args.out}: {sum(index.counts)} samples in {len(index.urls)} shards')
        folder = os.path.dirname(os.path.abspath(args.out))
        paths = [local_path(url) for url in index.urls]
        if any(path is None or os.path.dirname(os.path.abspath(path)) != folder for path in paths):
            print('It is not in the folder of the shards and holds only their names: give the data set both, as')
            print(f'train_dataloader.dataset.shards={args.index[0]!r} and train_dataloader.dataset.index={args.out!r}')
        return
    dataset = TextList(args.images) if os.path.isfile(args.images) else ImageFolder(args.images, split='')
    seed = None if args.in_order else args.seed
    written = write_shards(dataset, args.out, args.shard_size * 1e6, args.samples, seed, args.prefix, args.verify)
    for line in written.left_out[:_SHOWN]:
        print(f'left out: {line}')
    if len(written.left_out) > _SHOWN:
        print(f'left out: {len(written.left_out) - _SHOWN} more')
    classes = f' of {len(written.index.classes)} classes' if written.index.classes else ''
    print(
        f'{args.out}: {sum(written.index.counts)} samples{classes} in {len(written.index.urls)} shards, '
        f'{written.size / 1e6:.1f} MB; {len(written.left_out)} images could not be read and were left out'
    )
