"""A contact sheet of attention maps: one row per image and network, one column per head."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mstkit.utils.class_palette import palette
from mstkit.visualization.attention_overlay import enlarged, under_heat
from mstkit.visualization.image_sheet import lay_out
from mstkit.visualization.step_panels import save_image

CELL = 144
NAME_WIDTH = 19  # characters of a network's name in a line of its cell
COVER = 0.75  # opacity of a kept token's color
BRIGHTEST = 0.99  # quantile at which the heat map saturates, since single tokens may get most of the attention


class AttentionRow(NamedTuple):
    """The attention of one network for one image.

    Attributes:
        network: its name.
        image: (3, H, W) uint8 RGB.
        heads: (N, h, w), attention that each patch receives, per head.
        kept: (N, h, w) bool, the tokens with the most attention of each head.
        colors: (h, w, 3), 0 to 1, token features as colors; None for no such column.
    """

    network: str
    image: Tensor
    heads: Tensor
    kept: Tensor
    colors: Tensor | None


def draw_attention_sheet(
    rows: Sequence[AttentionRow],
    path: str | os.PathLike[str],
    title: Sequence[str] = (),
    caption: Sequence[str] = (),
) -> np.ndarray:
    """Draws the image, the heat map of each head, the kept tokens in the colors of their heads, and token features.

    Heat maps are scaled to their own range up to the quantile ``BRIGHTEST``. A token kept by several heads has the
    color of the head that gives it the largest share of its attention. With several networks, the first column has
    their names. The file is written atomically.

    Args:
        rows: in the order in which they are drawn.
        path: of the PNG; its folder is created.
        title: paragraphs above the images, with automatic line breaks.
        caption: likewise, below.

    Returns:
        The sheet, (H, W, 3) uint8 RGB.
    """
    if not rows:
        raise ValueError('a sheet of attention needs at least one row')
    size, most = (CELL, CELL), max(len(row.heads) for row in rows)
    hues = np.asarray(palette(most))
    blank = np.full((CELL, CELL, 3), 255, dtype=np.uint8)
    cells: dict[str, list[np.ndarray]] = {}

    def add(column: str, cell: np.ndarray) -> None:
        cells.setdefault(column, []).append(cell)

    several = len({row.network for row in rows}) > 1
    for row in rows:
        image = enlarged(row.image.permute(1, 2, 0).cpu().numpy(), size, Image.Resampling.BICUBIC)
        heads = row.heads.detach().float().cpu().numpy()
        if several:
            add('network', _words(row.network))
        add('input', image)
        for index in range(most):
            cell = under_heat(image, _without_peaks(heads[index]), size) if index < len(heads) else blank
            add(f'head {index + 1}', cell)
        add('kept', _in_colors_of_heads(image, heads, row.kept.cpu().numpy(), hues))
        if row.colors is not None:
            dots = (row.colors.detach().float().cpu().numpy() * 255).round().astype(np.uint8)
            add('tokens', enlarged(dots, size, Image.Resampling.NEAREST))
    legend = {f'head {index + 1}': color for index, color in enumerate(hues.tolist())}
    sheet = lay_out(cells, size, title, caption, legend)
    save_image(Image.fromarray(sheet), path)
    return sheet


def _in_colors_of_heads(image: np.ndarray, heads: np.ndarray, kept: np.ndarray, hues: np.ndarray) -> np.ndarray:
    """The image in pale gray, with the tokens kept by a head tinted in the head's color.

    Args:
        image: (CELL, CELL, 3) uint8.
        heads: (N, h, w).
        kept: (N, h, w) bool.
        hues: (at least N, 3), 0 to 255.
    """
    totals = heads.sum(axis=(1, 2), keepdims=True)
    parts = np.where(kept, heads / np.where(totals > 0, totals, 1), -1)
    tint = hues[parts.argmax(axis=0)].astype(np.uint8)
    shown, size = kept.any(axis=0), (CELL, CELL)
    large = np.asarray(Image.fromarray(shown.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)) > 0
    gray = image.mean(axis=2, keepdims=True)
    # A gray image, so that colors belong to heads only.
    tinted = COVER * enlarged(tint, size, Image.Resampling.NEAREST) + (1 - COVER) * gray
    result = np.where(large[..., None], tinted, 0.35 * gray + 0.65 * 255)
    return result.round().astype(np.uint8)


def _without_peaks(heat: np.ndarray) -> np.ndarray:
    return np.minimum(heat, np.quantile(heat, BRIGHTEST))


def _words(name: str) -> np.ndarray:
    """A cell with a network's name."""
    cell = Image.new('RGB', (CELL, CELL), 'white')
    lines = textwrap.wrap(name, NAME_WIDTH)
    ImageDraw.Draw(cell).multiline_text((0, 4), '\n'.join(lines), fill='black', font=ImageFont.load_default(size=13))
    return np.asarray(cell)
