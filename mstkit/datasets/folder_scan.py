"""Lists the images below a folder, in a deterministic order."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field

from mmengine.logging import print_log

from mstkit.errors import UsageError

IMAGE_EXTENSIONS = (
    '.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.gif', '.ppm', '.pgm', '.pbm', '.pnm',
    '.tif', '.tiff', '.webp', '.avif', '.jp2',
)  # fmt: skip

_SECONDS_BETWEEN_REPORTS = 5.0


@dataclass
class FolderScan:
    """Files found below a folder.

    Attributes:
        images: paths relative to the folder, with forward slashes, sorted by name within each folder.
        ignored: number of files that are no images, by extension.
        broken_links: number of links to a missing file or to a folder that contains them.
    """

    images: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    broken_links: int = 0

    def ignored_in_words(self) -> str:
        """One clause about the ignored files, or ``''``."""
        parts = []
        if self.ignored:
            most = ', '.join(f'{count} {suffix}' for suffix, count in self.ignored.most_common(4))
            parts.append(f'{self.ignored.total()} files that are no images ({most})')
        if self.broken_links:
            parts.append(f'{self.broken_links} broken links')
        return f'; ignored {" and ".join(parts)}' if parts else ''


def scan_folder(root: str, extensions: tuple[str, ...] = IMAGE_EXTENSIONS) -> FolderScan:
    """Lists the images in a folder and all folders below it.

    Links are followed; hidden files and folders (``.name``) are skipped and not counted; the case of an extension does
    not matter. Files are not opened; 500 000 of them take about a second.

    Args:
        root: the folder.
        extensions: file extensions of images, in lower case, with the dot.

    Returns:
        The images and the counts.

    Raises:
        UsageError: a folder may not be read.
    """
    scan = FolderScan()
    # A stack instead of recursion: (entries, path prefix, identities of all parent folders, to detect circular links).
    stack = [(iter(listing(root)), '', frozenset([_identity(root)]))]
    next_report = time.monotonic() + _SECONDS_BETWEEN_REPORTS
    while stack:
        entries, prefix, parents = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            continue
        if time.monotonic() > next_report:
            print_log(f'reading the folder {root}: {len(scan.images)} images so far', logger='current')
            next_report = time.monotonic() + _SECONDS_BETWEEN_REPORTS
        if _is(entry.is_dir):
            identity = _identity(entry.path)
            if identity in parents:
                scan.broken_links += 1
            else:
                stack.append((iter(listing(entry.path)), f'{prefix}{entry.name}/', parents | {identity}))
        elif not _is(entry.is_file):
            scan.broken_links += entry.is_symlink()
        else:
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix in extensions:
                scan.images.append(prefix + entry.name)
            else:
                scan.ignored[suffix or 'without extension'] += 1
    return scan


def class_folders(root: str, extensions: tuple[str, ...] = IMAGE_EXTENSIONS) -> list[str]:
    """The sorted names of the sub-folders that contain an image at any depth; see :func:`scan_folder`."""
    return [entry.name for entry in listing(root) if _is(entry.is_dir) and _has_image(entry.path, extensions)]


def _has_image(folder: str, extensions: tuple[str, ...]) -> bool:
    inner = []
    for entry in listing(folder):
        if _is(entry.is_dir):
            inner.append(entry)
        elif _is(entry.is_file) and os.path.splitext(entry.name)[1].lower() in extensions:
            return True
    return any(_has_image(entry.path, extensions) for entry in inner if not entry.is_symlink())


def listing(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder sorted by name, without hidden ones; UsageError without permission to read it."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith('.')), key=lambda e: e.name)
    except PermissionError:
        raise UsageError(f'the folder {folder} may not be read: change its permissions or move it away.') from None


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is(question: object) -> bool:
    """Calls ``entry.is_dir`` or ``entry.is_file``; False for a circular link, where these raise OSError."""
    try:
        return bool(question())  # type: ignore[operator]
    except OSError:
        return False
