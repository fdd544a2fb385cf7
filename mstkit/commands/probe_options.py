"""What the commands that probe frozen patch tokens have in common: options, and the table of their scores."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import torch

from mstkit.networks import KINDS_IN_WORDS


class ProbeSettings(Protocol):
    """The settings that every probe has; see the protocols of depth and of keypoints."""

    @property
    def layers(self) -> int:
        """Blocks that give tokens."""

    @property
    def rates(self) -> Sequence[float]:
        """Learning rates."""

    @property
    def epochs(self) -> int:
        """Over the train images."""

    @property
    def most(self) -> int:
        """Train images at the most."""


def add_probe_options(
    parser: argparse.ArgumentParser, defaults: ProbeSettings, of: str, seen: str, written: str
) -> None:
    """Adds the sources and the options that every probe has.

    Args:
        parser: of the command.
        defaults: of the protocol.
        of: what a linear layer learns from: images, instances.
        seen: what the size is of.
        written: the name of the JSON file.
    """
    parser.add_argument('source', nargs='+', help=KINDS_IN_WORDS)
    parser.add_argument('--layers', type=int, default=defaults.layers, help='blocks that give tokens: 1, or 4')
    parser.add_argument('--size', type=int, help=f'px, side of {seen}; default: that of the network')
    parser.add_argument('--epochs', type=int, default=defaults.epochs, help=f'over the train {of}')
    parser.add_argument(
        '--rates', type=float, nargs='+', default=defaults.rates, help=f'held-out train {of} choose one'
    )
    parser.add_argument('--most', type=int, default=defaults.most, metavar='N', help=f'train {of} at the most')
    parser.add_argument('--branch', help='student or teacher; default: all that a checkpoint has')
    parser.add_argument('--seed', type=int, default=0, help=f'of weights, order and held-out {of}')
    parser.add_argument('--out', metavar='DIR', help=f'for {written} and pictures')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')


def scores_table(rows: Mapping[str, Mapping[str, Any]], columns: Mapping[str, int]) -> str:
    """A line for each network, and first what is reached without looking at an image.

    Args:
        rows: scores by name, by network.
        columns: names of the scores, with their decimal places.
    """
    wide, of_each = max(map(len, rows)) + 2, max(10, *(len(name) + 1 for name in columns))
    lines = [' ' * wide + ''.join(f'{name:>{of_each}}' for name in columns)]
    for title, values in rows.items():
        cells = (f'{values[name]:{of_each}.{places}f}' for name, places in columns.items())
        lines.append(f'{title:{wide}}' + ''.join(cells))
    return '\n'.join(lines)
