"""Builds the documentation as a site, and checks its links and pictures: ``make docs`` runs this.

Usage: python docs/build.py [--out build/docs]

It prints the first page's place as its last line, or every warning, and ends with 1 if there was any.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from docs.site_builder.building import build  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=ROOT / 'build' / 'docs', help='folder of the site')
    return parser.parse_args()


def main() -> int:
    """Builds, checks and says so."""
    args = parse_args()
    problems = build(ROOT, args.out)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f'docs: {len(problems)} problems, see above', file=sys.stderr)
        return 1
    print(f'docs: {args.out / "html" / "index.html"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
