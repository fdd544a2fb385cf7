"""Compares masks from the results of several ablations: ``mstkit compare-masks FILE [FILE …] --out DIR``.

A FILE is the ``ablation_hits.json`` that ``mstkit ablate --measure`` leaves. Those of the same config are joined, such
as seeds that were trained on several machines; those of different configs stand beside each other, as methods.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mstkit.errors import UsageError, exit_cleanly
from mstkit.experiments.ablation_report import NAME
from mstkit.experiments.mask_comparison_report import comparison_paragraphs
from mstkit.experiments.mask_results import SUFFIX, join_results, read_results, write_results
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import output_folder

GROUP = 'look'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('files', nargs='+', metavar='FILE', help='ablation_hits.json of an ablation')
    parser.add_argument(
        '--out', default='work_dirs/compare_masks', metavar='DIR', help='for page, plot and joined results'
    )
    return parser.parse_args()


@exit_cleanly
def main() -> None:
    """Joins, compares, writes the page."""
    args = parse_args()
    if len(set(args.files)) < len(args.files):
        raise UsageError(f'{" ".join(args.files)}: a file is given twice.')
    folder = output_folder('--out', args.out)
    methods = join_results({file: read_results(Path(file)) for file in args.files})
    folder.mkdir(parents=True, exist_ok=True)
    paragraphs = comparison_paragraphs(methods, folder)
    if not paragraphs:
        raise UsageError(f'{" ".join(args.files)}: no measurement is finished in it yet.')
    for results in methods:
        write_results(folder / f'{results.method or NAME}{SUFFIX}', results)
    page = folder / f'{NAME}.md'
    heading = f'# Masks compared in {", ".join(results.config for results in methods)}'
    write_atomically(page, ('\n\n'.join([heading, *paragraphs]) + '\n').encode())
    print('\n\n'.join([*paragraphs, f'written: {page}']))
