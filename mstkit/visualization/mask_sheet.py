"""A contact sheet of masks: the same images under several masking strategies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from mstkit.structures import DrawnMask
from mstkit.visualization.attention_overlay import enlarged, under_heat
from mstkit.visualization.image_sheet import lay_out
from mstkit.visualization.step_panels import save_image

CELL = 128
# Told apart by lightness and texture, not by hue: dark gray with light stripes.
GRAY, STRIPE, COVER = 96, 214, 0.85
DARK = 24  # of a thrown patch, without stripes
STRIPE_EVERY, STRIPE_WIDTH = 6, 2


def draw_mask_sheet(
    images: Tensor,
    attention: Mapping[str, Tensor],
    masks: Mapping[str, DrawnMask],
    path: str | os.PathLike[str],
    title: Sequence[str] = (),
    caption: Sequence[str] = (),
) -> np.ndarray:
    """Draws one row per image: the image, its attention as heat maps, and the image under each mask.

    Attention is scaled to each image's own range. Hidden patches are gray with light stripes, thrown ones nearly black.
    Colors are reduced to 6 bits per channel, which is not visible and makes the file a third smaller. The file is
    written atomically.

    Args:
        images: (B, 3, H, W) uint8 RGB.
        attention: (B, h, w) by the title of its column, at least one; a line break in a title starts its second line.
        masks: (B, h, w) bool each, likewise.
        path: of the PNG; its folder is made.
        title: paragraphs above the images, broken where the sheet ends.
        caption: likewise, below.

    Returns:
        The sheet, (H, W, 3) uint8 RGB.
    """
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise ValueError(f'a sheet needs images of shape (B, 3, H, W), not {tuple(images.shape)}')
    rows, columns = next(iter(attention.values())).shape[1:]
    # Whole pixels per patch, so that all patches look alike.
    size = (columns * max(1, round(CELL / columns)), rows * max(1, round(CELL / rows)))
    shown = [enlarged(one, size, Image.Resampling.BICUBIC) for one in images.permute(0, 2, 3, 1).cpu().numpy()]
    cells = {'input': shown}
    for name, received in attention.items():
        heat = received.detach().float().cpu().numpy()
        cells[name] = [under_heat(cell, one, size) for cell, one in zip(shown, heat, strict=True)]
    for name, mask in masks.items():
        cells[name] = [_striped(cell, one, size) for cell, one in zip(shown, _as_arrays(mask.hidden), strict=True)]
        if mask.thrown is not None:
            thrown = _as_arrays(mask.thrown)
            cells[name] = [_darkened(cell, one, size) for cell, one in zip(cells[name], thrown, strict=True)]
    sheet = lay_out(cells, size, title, caption)
    save_image(Image.fromarray(sheet), path)
    return sheet


def _as_arrays(mask: Tensor) -> np.ndarray:
    return mask.detach().cpu().numpy().astype(bool)


def _inside(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels of the True cells of a mask (h, w)."""
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)) > 0


def _darkened(cell: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image with its thrown patches nearly black; ``mask`` is (h, w), True = thrown."""
    return np.where(_inside(mask, size)[..., None], np.uint8(DARK), cell)


def _striped(cell: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image with its hidden patches nearly covered by stripes; ``mask`` is (h, w), True = hidden."""
    hidden = _inside(mask, size)
    diagonal = np.add.outer(np.arange(size[1]), np.arange(size[0])) % STRIPE_EVERY < STRIPE_WIDTH
    cover = np.where(diagonal, STRIPE, GRAY)[..., None]
    covered = (COVER * cover + (1 - COVER) * cell).round().astype(np.uint8)
    # A dark outline: without it, one hidden patch in an image of fine texture is easily missed.
    around = np.pad(hidden, 1, mode='edge')
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    covered[hidden & ~inner] = 0
    return np.where(hidden[..., None], covered, cell)
