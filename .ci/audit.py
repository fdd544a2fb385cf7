"""Warns of installed packages that have known vulnerabilities; what pip-audit finds, in a line each.

Run by ``make audit``, and by CI, which it never fails: an advisory appears at any hour, and is no fault of a change.
``--strict`` exits with 1 if there is one, for whoever wants to know before a release.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 180  # seconds for each of its steps


def pip_audit(folder: Path) -> Path:
    """The interpreter of an environment of its own with pip-audit, which is made once: its packages are not ours."""
    python = folder / ('Scripts' if os.name == 'nt' else 'bin') / 'python'
    if not python.exists():
        venv.create(folder, with_pip=True)
    words = [python, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', 'pip-audit']
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=PATIENCE)
    return python


def audited(python: Path, packages: str) -> list[dict[str, Any]]:
    """What pip-audit says of each package below a folder of packages.

    Raises:
        ValueError: it said nothing that can be read.
    """
    words = [python, '-m', 'pip_audit', '--path', packages, '--format', 'json', '--progress-spinner', 'off']
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)  # exits with 1 if it finds something
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)['dependencies']
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError((done.stderr.strip().splitlines() or ['it said nothing'])[-1]) from error
    return found


def sentences(packages: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each vulnerability."""
    return [
        f'{package["name"]} {package["version"]} has {flaw["id"]}'
        f'{"".join(f", {alias}" for alias in flaw.get("aliases", ()))}: '
        + (f'mended in {", ".join(flaw["fix_versions"])}' if flaw.get('fix_versions') else 'not mended yet')
        for package in packages
        for flaw in package.get('vulns', ())
    ]


def main() -> int:
    """Prints what was found, and how many packages could not be looked up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--strict', action='store_true', help='exit with 1 if a package has a known vulnerability')
    args = parser.parse_args()
    try:
        packages = audited(pip_audit(Path(sys.prefix) / 'audit'), sysconfig.get_paths()['purelib'])
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        print(f'audit: not done: {str(getattr(error, "stderr", None) or error).strip().splitlines()[-1]}')
        return int(args.strict)
    found = sentences(packages)
    start = '::warning::' if os.environ.get('GITHUB_ACTIONS') else 'warning: '
    for sentence in found:
        print(f'{start}{sentence}')
    skipped = sum('skip_reason' in package for package in packages)
    if packages and skipped == len(packages):
        print(f'audit: not done: none of {skipped} packages could be looked up')
        return int(args.strict)
    more = f'; {skipped} could not be looked up' if skipped else ''
    print(f'audit: {len(packages)} packages, {len(found)} known vulnerabilities{more}')
    return int(args.strict and bool(found))


if __name__ == '__main__':
    sys.exit(main())
