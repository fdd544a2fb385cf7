"""The legend of a sheet; its cells and words are tested with the sheet of masks."""

from __future__ import annotations

import numpy as np
import pytest

from mstkit.visualization.image_sheet import FONT, LINE, lay_out

GRAY = np.full((40, 90, 3), 128, np.uint8)


def swatches(sheet: np.ndarray, color: tuple[int, ...]) -> np.ndarray:
    return np.all(np.abs(sheet.astype(int) - color) <= 3, axis=2)


@pytest.mark.parametrize('count', [1, 12])
def test_every_entry_has_its_color_and_stays_inside(count):
    plain = lay_out({'a': [GRAY], 'b': [GRAY]}, (90, 40))
    legend = {f'class {index}': (20 * index, 255 - 20 * index, 60) for index in range(count)}
    sheet = lay_out({'a': [GRAY], 'b': [GRAY]}, (90, 40), legend=legend)
    lines = 1 if count == 1 else 6  # two of them fit into 192 px
    assert sheet.shape == (plain.shape[0] + lines * LINE, plain.shape[1], 3)
    for color in legend.values():
        ys, xs = np.nonzero(swatches(sheet, color))
        assert (FONT - 1) ** 2 == len(ys) == (np.ptp(ys) + 1) * (np.ptp(xs) + 1), 'a square'
    assert (sheet[:, -6:] == 255).all()


def test_a_caption_is_below_the_legend():
    sheet = lay_out({'a': [GRAY], 'b': [GRAY]}, (90, 40), caption=['words'], legend={'one': (200, 0, 0)})
    bottom = np.nonzero(swatches(sheet, (200, 0, 0)))[0].max()
    assert (sheet[bottom + 4 :] < 128).any()
