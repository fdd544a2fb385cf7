from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.structures import PanelData
from mstkit.visualization import draw_panels
from mstkit.visualization.step_panels import GAP, TITLE, columns_of

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def normalized(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def cell(image: np.ndarray, column: int, row: int, side: int) -> np.ndarray:
    left, top = GAP + column * (side + GAP), TITLE + row * (side + GAP)
    return image[top : top + side, left : left + side]


def test_columns_show_what_they_say(tmp_path: Path) -> None:
    colors = torch.tensor([[200.0, 30, 10], [0, 255, 77]])
    images = normalized(colors[:, :, None, None].expand(2, 3, 32, 32))
    attention = torch.zeros(2, 4, 4)
    attention[:, 0, 0] = 1
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0, 3, 3] = True
    data = PanelData(images, attention, mask, normalized(torch.full((2, 3, 32, 32), 50.0)))
    path = tmp_path / 'new' / 'panel.png'
    image = draw_panels(data, MEAN, STD, path)
    side = 160
    assert image.shape == (TITLE + 2 * (side + GAP), GAP + 4 * (side + GAP), 3)
    with Image.open(path) as saved:
        assert np.array_equal(np.asarray(saved), image)
    assert [entry.name for entry in path.parent.iterdir()] == ['panel.png']
    for row in range(2):
        assert (cell(image, 0, row, side) == colors[row].numpy().astype(np.uint8)).all()
        assert (cell(image, 3, row, side) == 50).all()
        heat = cell(image, 1, row, side).astype(int).sum(axis=2)
        assert heat[5, 5] > 1.5 * heat[-5, -5]
    hidden = (cell(image, 2, 0, side) == 128).all(axis=2)
    expected = np.zeros((side, side), dtype=bool)
    expected[120:, 120:] = True
    assert np.array_equal(hidden, expected)
    assert not (cell(image, 2, 1, side) == 128).all(axis=2).any()


@pytest.mark.parametrize('known', ['true means', 'something that has far too many words'])
def test_a_title_says_what_the_reconstruction_has_from_the_image(tmp_path: Path, known: str) -> None:
    """Inside its column, which is the last, and black on white as the others."""
    images = torch.zeros(1, 3, 32, 32)
    plain, said = (
        draw_panels(PanelData(images, None, None, images, reconstruction_with=words), MEAN, STD, tmp_path / 'a.png')
        for words in ('', known)
    )
    ends = [np.flatnonzero((image[:TITLE] < 128).all(axis=2).any(axis=0)).max() for image in (plain, said)]
    assert ends[0] + 30 < ends[1] < said.shape[1] - 2


def test_missing_columns_are_left_out(tmp_path: Path) -> None:
    images = torch.zeros(3, 3, 224, 224)
    image = draw_panels(PanelData(images, None, None, None), MEAN, STD, tmp_path / 'a.png', max_rows=2)
    assert image.shape == (TITLE + 2 * (224 + GAP), 2 * GAP + 224, 3)
    masked = PanelData(images, None, torch.ones(3, 7, 7, dtype=torch.bool), None)
    assert draw_panels(masked, MEAN, STD, tmp_path / 'b.png').shape[1] == GAP + 2 * (224 + GAP)


def test_further_columns_come_last_with_their_titles(tmp_path: Path) -> None:
    images = torch.zeros(3, 3, 160, 160)
    further = {name: normalized(torch.full((3, 3, 160, 160), level)) for name, level in (('one', 40.0), ('two', 90.0))}
    path = tmp_path / 'a.png'
    image = draw_panels(PanelData(images, None, None, images, further=further), MEAN, STD, path, max_rows=2)
    assert (cell(image, 2, 1, 160) == 40).all() and (cell(image, 3, 0, 160) == 90).all()
    assert image.shape[0] == TITLE + 2 * (160 + GAP)
    with Image.open(path) as saved:
        assert columns_of(saved) == ('input', 'reconstruction', 'one', 'two')


def test_broken_numbers_still_give_a_image(tmp_path: Path) -> None:
    images = torch.full((1, 3, 16, 16), float('nan'))
    image = draw_panels(
        PanelData(images, torch.full((1, 2, 2), float('nan')), None, images), MEAN, STD, tmp_path / 'a.png'
    )
    assert image.dtype == np.uint8


@pytest.mark.parametrize('shape', [(0, 3, 8, 8), (2, 1, 8, 8), (3, 8, 8)])
def test_what_is_no_image_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match='panels need images'):
        draw_panels(PanelData(torch.zeros(shape), None, None, None), MEAN, STD, tmp_path / 'a.png')
    assert list(tmp_path.iterdir()) == []
