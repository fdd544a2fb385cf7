from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.structures import DrawnMask
from mstkit.visualization.mask_sheet import draw_mask_sheet
from mstkit.visualization.step_panels import GAP

COLORS = torch.tensor([[200, 40, 20], [0, 252, 100]], dtype=torch.uint8)
IMAGES = COLORS[:, :, None, None].expand(2, 3, 32, 32)


def find(sheet: np.ndarray, color: torch.Tensor) -> np.ndarray:
    return (np.abs(sheet.astype(int) - color.numpy().astype(int)) <= 3).all(axis=2)


def test_cells_are_where_they_belong(tmp_path: Path):
    attention = torch.zeros(2, 4, 4)
    attention[:, 0, 0] = 1
    corner = torch.zeros(2, 4, 4, dtype=torch.bool)
    corner[0, 3, 3] = True
    masks = {'corner\nhides 3 %': DrawnMask(corner, None), 'all': DrawnMask(torch.ones_like(corner), None)}
    path = tmp_path / 'new' / 'sheet.png'
    sheet = draw_mask_sheet(IMAGES, {'attention': attention}, masks, path, ['A title.'], ['A caption.'])
    with Image.open(path) as saved:
        assert saved.mode == 'RGB'
        assert np.array_equal(np.asarray(saved), sheet)
    assert [entry.name for entry in path.parent.iterdir()] == ['sheet.png']
    side = 128
    assert sheet.shape[1] == GAP + 4 * (side + GAP)
    first = find(sheet, COLORS[0])
    top = int(np.flatnonzero(first[:, GAP : GAP + side].all(axis=1))[0])

    def cell(column: int, row: int) -> np.ndarray:
        left, above = GAP + column * (side + GAP), top + row * (side + GAP)
        return sheet[above : above + side, left : left + side]

    for row in range(2):
        assert find(cell(0, row), COLORS[row]).all()
        heat = cell(1, row).astype(int).sum(axis=2)
        assert heat[5, 5] > 1.5 * heat[-5, -5]
        assert not find(cell(3, row), COLORS[row]).any()
    expected = np.ones((side, side), dtype=bool)
    expected[96:, 96:] = False
    assert np.array_equal(find(cell(2, 0), COLORS[0]), expected)
    assert find(cell(2, 1), COLORS[1]).all()
    # Stripes: two lightnesses far apart, whatever is below.
    covered = cell(2, 0)[96:, 96:].mean(axis=2)
    assert covered.max() - covered.min() > 80


def test_thrown_patches_are_darker_than_hidden_ones(tmp_path):
    hidden, thrown = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    hidden[:, 0], thrown[:, 1] = True, True
    sheet = draw_mask_sheet(
        IMAGES, {'attention': torch.ones(2, 4, 4)}, {'m': DrawnMask(hidden, thrown)}, tmp_path / 'x.png'
    )
    side = 128
    top = int(np.flatnonzero(find(sheet, COLORS[0])[:, GAP : GAP + side].all(axis=1))[0])
    cell = sheet[top : top + side, -side - GAP : -GAP].astype(int)
    assert (cell[32:64] < 32).all() and find(cell[64:], COLORS[0]).all()
    assert cell[2:30, 2:-2].mean() > 96, 'hidden ones are gray'


@pytest.mark.parametrize('grid', [(7, 7), (14, 14), (3, 5), (200, 200)])
def test_patches_are_whole_pixels(grid, tmp_path):
    mask = torch.zeros(2, *grid, dtype=torch.bool)
    sheet = draw_mask_sheet(
        IMAGES, {'attention': torch.ones(2, *grid)}, {'m': DrawnMask(mask, None)}, tmp_path / 'x.png'
    )
    assert (sheet.shape[1] - GAP) % 3 == 0
    assert ((sheet.shape[1] - GAP) // 3 - GAP) % grid[1] == 0


def test_long_words_stay_inside_the_sheet(tmp_path):
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    plain = draw_mask_sheet(
        IMAGES, {'attention': torch.ones(2, 4, 4)}, {'m': DrawnMask(mask, None)}, tmp_path / 'x.png'
    )
    text = ['one two three ' * 20, 'two']
    sheet = draw_mask_sheet(
        IMAGES, {'attention': torch.ones(2, 4, 4)}, {'m': DrawnMask(mask, None)}, tmp_path / 'x.png', text, text
    )
    assert sheet.shape[1] == plain.shape[1]
    assert sheet.shape[0] > plain.shape[0] + 8 * 18
    assert (sheet[:, -GAP:] == 255).all(), 'text runs over the edge'


def test_wrong_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match='images'):
        draw_mask_sheet(IMAGES[:0], {'attention': torch.ones(0, 4, 4)}, {}, tmp_path / 'x.png')
