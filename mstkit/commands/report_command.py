"""Writes a run as one HTML page: ``mstkit report WORK_DIR [WORK_DIR …]``.

Several work dirs are compared. A folder of tools/ablate.py or tools/transfer.py stands for all of its runs. The page is
self-contained: it loads nothing from the network or the disk.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mstkit.errors import UsageError, exit_cleanly
from mstkit.report import build_page
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import output_file

GROUP = 'look'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='of finished, running or interrupted runs')
    parser.add_argument('--out', metavar='FILE.html', help='WORK_DIR/report.html by default, of the first work dir')
    return parser.parse_args()


def write_report(work_dirs: list[str], out: str | None = None) -> Path:
    """Writes the page and returns its path.

    Raises:
        UsageError: a folder without logs, or a file that cannot be written.
    """
    folders = [Path(folder) for folder in work_dirs]
    path = Path(out) if out else folders[0] / 'report.html'
    if path.suffix.lower() not in ('.html', '.htm'):
        raise UsageError(f'--out {path}: the report is an HTML file, so its name ends in .html.')
    if out or path.parent.is_dir():  # otherwise the work dir is wrong, which build_page reports
        output_file('--out', path)
    write_atomically(path, build_page(folders).encode())
    return path


@exit_cleanly
def main() -> None:
    """Writes the report."""
    args = parse_args()
    path = write_report(args.work_dirs, args.out)
    print(f'written: {path} ({path.stat().st_size / 1e6:.1f} MB)')
