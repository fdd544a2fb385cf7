from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.utils.class_palette import palette
from mstkit.visualization.attention_sheet import CELL, COVER, AttentionRow, draw_attention_sheet
from mstkit.visualization.step_panels import GAP

GRAY = torch.full((3, 8, 8), 100, dtype=torch.uint8)


def row(network: str, heads: int = 2) -> AttentionRow:
    """The first head looks at the upper half, the second at the left half; colors are blue."""
    attention = torch.full((2, 4, 4), 0.001)
    attention[0, :2], attention[1, :, :2] = 0.1, 0.2
    blue = torch.tensor([0.0, 0.0, 1.0]).expand(4, 4, 3)
    return AttentionRow(network, GRAY, attention[:heads], attention[:heads] > 0.01, blue)


def cell(sheet: np.ndarray, column: int, index: int, rows: int) -> np.ndarray:
    """The sheet ends in one line of legend."""
    top = len(sheet) - GAP - 18 - (rows - index) * (CELL + GAP)
    left = GAP + column * (CELL + GAP)
    return sheet[top : top + CELL, left : left + CELL].astype(int)


def test_one_network(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'sheet.png'
    sheet = draw_attention_sheet([row('a')], path)
    assert np.array_equal(np.asarray(Image.open(path)), sheet)
    assert sheet.shape[1] == GAP + 5 * (CELL + GAP)  # input, two heads, kept, tokens
    assert (np.abs(cell(sheet, 0, 0, 1) - 100) <= 3).all()
    heat = [cell(sheet, column, 0, 1).sum(axis=2) for column in (1, 2)]
    assert heat[0][10, -10] > 2 * heat[0][-10, 10] and heat[1][-10, 10] > 2 * heat[1][10, -10]
    assert (np.abs(cell(sheet, 4, 0, 1) - [0, 0, 255]) <= 3).all()
    kept, hues = cell(sheet, 3, 0, 1), np.asarray(palette(2))
    quarters = {(10, -10): hues[0], (-10, 10): hues[1]}
    for (y, x), hue in quarters.items():
        assert (np.abs(kept[y, x] - (COVER * hue + (1 - COVER) * 100)) <= 4).all()
    # Both keep the upper left; either gives it 1/8 of its attention but for the little that is elsewhere.
    assert (np.abs(kept[10, 10] - (COVER * hues[1] + (1 - COVER) * 100)) <= 4).all()
    assert np.ptp(kept[-10, -10]) == 0 and kept[-10, -10].min() > 180


def test_networks_are_named_and_may_have_other_numbers_of_heads(tmp_path: Path) -> None:
    path = tmp_path / 'sheet.png'
    sheet = draw_attention_sheet([row('a network'), row('another', heads=1)], path)
    assert sheet.shape[1] == GAP + 6 * (CELL + GAP)
    names = [cell(sheet, 0, index, 2) for index in (0, 1)]
    assert all(0.005 < (name < 128).mean() < 0.1 for name in names) and not np.array_equal(*names)
    assert (cell(sheet, 3, 1, 2) == 255).all() and not (cell(sheet, 3, 0, 2) == 255).any()


def test_a_sheet_of_nothing() -> None:
    with pytest.raises(ValueError, match='at least one row'):
        draw_attention_sheet([], 'x.png')
