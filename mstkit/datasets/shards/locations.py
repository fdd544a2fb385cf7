"""Paths, URLs and brace patterns of shards, which the ``webdataset`` library opens.

The library runs commands: any command for ``pipe:``, and programs such as curl for other URLs. Therefore URLs are only
accepted from the config or the command line, never from a data file, see :func:`beside`.
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
_PLAIN_NAME = re.compile(r'[\w.+=@,-]+(/[\w.+=@,-]+)*')  # no character with a special meaning in a shell or a URL


def library() -> ModuleType:
    """The ``webdataset`` package, imported where shards are used and nowhere else.

    Raises:
        UsageError: it is not installed.
    """
    try:  # imported here: the package is optional
        import webdataset
    except ImportError:
        raise UsageError(f"shards need the package webdataset: pip install '{REQUIREMENT}'") from None
    return webdataset


def is_url(place: str) -> bool:
    """Whether a place has a scheme (``https:``, ``gs:``, ``pipe:``) rather than being a path."""
    return _SCHEME.match(place) is not None


def local_path(url: str) -> str | None:
    """The path of a local shard; None for a remote one."""
    if not is_url(url):
        return os.path.expanduser(url)
    return url2pathname(urlparse(url).path) if url.startswith('file:') else None


def join(root: str, name: str) -> str:
    """Joins a folder or URL and a name; an absolute path or a URL as name is returned unchanged."""
    if not root or is_url(name) or os.path.isabs(name) or name.startswith('~'):
        return name
    return f'{root.rstrip("/")}/{name}' if is_url(root) else os.path.join(root, name)


def beside(folder: str, name: object) -> str:
    """The path or URL of a file named in an (untrusted) data file, restricted to the data file's own folder.

    Links inside the folder are followed: they were made by the owner of the folder, and their targets are only read as
    tar files.

    Args:
        folder: the folder or URL of the data file.
        name: a relative name, with forward slashes; below a URL, of letters, digits and ``. _ - + = , @`` only, since
            a ``pipe:`` URL is passed to a shell.

    Returns:
        A path or URL that begins with ``folder``.

    Raises:
        ValueError: any other name, with an explanation for the user.
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
    """The file name of a path or URL, without folder and scheme, as in an index."""
    if (path := local_path(url)) is not None:
        return os.path.basename(path)
    name = url.rpartition('/')[2]
    while _SCHEME.match(name):
        name = name.partition(':')[2]
    return name.strip()


def expand(patterns: str | Sequence[str], root: str = '') -> list[str]:
    """Expands patterns to the list of shards, in order.

    Args:
        patterns: one or several of paths, URLs, brace patterns (``train-{000000..000099}.tar``) and, on this machine,
            wildcards (``train-*.tar``).
        root: the folder or URL that names are relative to.

    Raises:
        UsageError: nothing was given, a shard comes twice, or no file fits a wildcard.
    """
    found: list[str] = []
    for pattern in [patterns] if isinstance(patterns, str) else list(patterns):
        # Not for pipe:, since a shell command may contain braces itself.
        names = [pattern] if pattern.startswith('pipe:') else library().shardlists.expand_urls(pattern)
        for name in names:
            place = join(root, name)
            if is_url(place) or not glob.has_magic(place):
                found.append(place)
                continue
            matches = sorted(glob.glob(os.path.expanduser(place)))
            if not matches:
                raise UsageError(f'no file fits the shards {place!r}: correct the pattern, or the data root.')
            # Prefix ./ to local files whose name looks like a URL, so that they are opened as paths.
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
    except Exception as error:  # the library and the command behind the URL raise all kinds of errors
        raise UsageError(f'{url} cannot be read: {" ".join(str(error).split())}') from error
