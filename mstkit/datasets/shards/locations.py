"""Where shards are: paths, URLs and brace patterns, all opened by the ``webdataset`` library.

The library runs commands: all of ``pipe:``, and programs such as curl behind other URLs. So a place with a scheme comes
from whoever writes the config or the command line, never out of a data file: see :func:`beside`.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from types import ModuleType
from urllib.parse import urlparse
from urllib.request import url2pathname

from mstkit.errors import UsageError

REQUIREMENT = 'webdataset>=1.0.2'
_SCHEME = re.compile(r'[A-Za-z][A-Za-z0-9+.-]+:')  # two letters at least: C:\ is a drive
_PLAIN_NAME = re.compile(r'[\w.+=@,-]+(/[\w.+=@,-]+)*')  # nothing that a shell or a URL takes for more than a name


def library() -> ModuleType:
    """The ``webdataset`` package, imported where shards are used and nowhere else.

    Raises:
        UsageError: it is not installed.
    """
    try:  # here, because the package is optional
        import webdataset
    except ImportError:
        raise UsageError(f"shards need the package webdataset: pip install '{REQUIREMENT}'") from None
    return webdataset


def is_url(place: str) -> bool:
    """Whether a place has a scheme (``https:``, ``gs:``, ``pipe:``) rather than being a path."""
    return _SCHEME.match(place) is not None


def local_path(url: str) -> str | None:
    """The path of a shard on this machine, or None where it is somewhere else."""
    if not is_url(url):
        return os.path.expanduser(url)
    return url2pathname(urlparse(url).path) if url.startswith('file:') else None


def join(root: str, name: str) -> str:
    """A name below a folder or a URL; a name that is a whole path or URL stays as it is."""
    if not root or is_url(name) or os.path.isabs(name) or name.startswith('~'):
        return name
    return f'{root.rstrip("/")}/{name}' if is_url(root) else os.path.join(root, name)


def beside(folder: str, name: object) -> str:
    """The place of a file that a data file names: below that data file's own folder, and nowhere else.

    A link below the folder is followed, as in all data sets; it was made by whoever made the folder, and leads to a
    file that is read as a tar.

    Args:
        folder: the folder or URL in which the data file lies.
        name: a plain relative name, with forward slashes; below a URL, of letters, digits and ``. _ - + = , @`` only,
            since what follows ``pipe:`` goes to a shell.

    Returns:
        A path that begins with a folder, or a URL that begins with ``folder``.

    Raises:
        ValueError: the name is something else, in words for the user.
    """
    if not isinstance(name, str) or not name.strip() or '\0' in name:
        raise ValueError(f'it names {name!r} for a file')
    parts = name.replace('\\', '/').split('/')
    if _SCHEME.match(name.strip()) or os.path.isabs(name) or name.startswith('~') or '..' in parts or '' in parts:
        raise ValueError(
            f'it names {name!r}, and a data file may name only files in its own folder, such as shard-000000.tar; '
            'other places are given in the config, as ShardDataset.shards'
        )
    if not is_url(folder):
        return os.path.join(folder or os.curdir, name)
    if not _PLAIN_NAME.fullmatch(name):
        raise ValueError(f'it names {name!r}: below a URL, names consist of letters, digits and . _ - + = , @')
    return f'{folder.rstrip("/")}/{name}'


def last_name(url: str) -> str:
    """What is left of a place without its folder and scheme: the name by which an index knows a shard."""
    if (path := local_path(url)) is not None:
        return os.path.basename(path)
    name = url.rpartition('/')[2]
    while _SCHEME.match(name):
        name = name.partition(':')[2]
    return name.strip()


def expand(patterns: str | Sequence[str], root: str = '') -> list[str]:
    """The shards that patterns stand for, in their order.

    Args:
        patterns: one or several of paths, URLs, brace patterns (``train-{000000..000099}.tar``) and, on this machine,
            wildcards (``train-*.tar``).
        root: the folder or URL that names are relative to.

    Raises:
        UsageError: nothing was given, a shard comes twice, or no file fits a wildcard.
    """
    found: list[str] = []
    for pattern in [patterns] if isinstance(patterns, str) else list(patterns):
        # A command may hold braces of its own: what follows pipe: is handed to the shell as it is.
        names = [pattern] if pattern.startswith('pipe:') else library().shardlists.expand_urls(pattern)
        for name in names:
            place = join(root, name)
            if is_url(place) or not glob.has_magic(place):
                found.append(place)
                continue
            matches = sorted(glob.glob(os.path.expanduser(place)))
            if not matches:
                raise UsageError(f'no file fits the shards {place!r}: correct the pattern, or the data root.')
            # A file may be called as a command is: what was found on this disk is opened as a path.
            found += [os.path.join(os.curdir, match) if is_url(match) else match for match in matches]
    if not found:
        raise UsageError(f'the shards are {patterns!r}: give at least one tar file.')
    twice = next((name for name in found if found.count(name) > 1), None) if len(set(found)) < len(found) else None
    if twice is not None:
        raise UsageError(f'the shard {twice} comes twice in {patterns!r}: give each one once.')
    return found


def fetch(url: str) -> bytes:
    """All bytes of a small file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        if (path := local_path(url)) is not None:
            with open(path, 'rb') as file:
                return file.read()
        with library().gopen(url) as stream:
            content = stream.read()
            stream.close()  # which raises where the command behind the URL failed
            return content
    except UsageError:
        raise
    except Exception as error:  # whatever the command behind the URL fails with
        raise UsageError(f'{url} cannot be read: {" ".join(str(error).split())}') from error
