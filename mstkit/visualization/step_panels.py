"""Panels of a training step: input, attention, mask, reconstruction."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from mstkit.structures import PanelData
from mstkit.utils.files import write_atomically
from mstkit.visualization.attention_overlay import enlarged, under_heat

SMALLEST_CELL = 160
GAP = 6
TITLE, TITLE_FONT = 24, 14  # pixels
HIDDEN, THROWN = (128, 128, 128), (32, 32, 32)
COLUMNS = 'columns'  # the key of the text in the file


def draw_panels(
    data: PanelData,
    mean: Sequence[float] | Tensor,
    std: Sequence[float] | Tensor,
    path: str | os.PathLike[str],
    max_rows: int = 8,
) -> np.ndarray:
    """Draws one row per image and one column per field of ``data``, and saves it as a PNG.

    Attention is scaled to each image's own range and overlaid as a heat map; hidden patches are gray, and thrown ones
    nearly black, in the reconstruction and its target as well. Small images are enlarged. The file is written
    atomically.

    Args:
        data: what to draw; fields that are None are left out.
        mean: per channel, (3,), on the 0..255 scale, of the normalization of ``data.images``.
        std: likewise.
        path: of the PNG, which also holds the titles of the columns as text; its folder is created.
        max_rows: images beyond these are not drawn.

    Returns:
        The image, (H, W, 3) uint8 RGB.
    """
    if data.images.ndim != 4 or data.images.shape[1] != 3 or len(data.images) == 0:
        raise ValueError(f'panels need images of shape (B, 3, H, W), not {tuple(data.images.shape)}')
    images = _to_pixels(data.images[:max_rows], mean, std)
    scale = max(1, math.ceil(SMALLEST_CELL / min(images.shape[1:3])))
    size = (images.shape[2] * scale, images.shape[1] * scale)
    shown = [enlarged(image, size, Image.Resampling.BICUBIC) for image in images]

    thrown = None if data.thrown is None else data.thrown[:max_rows].detach().cpu().numpy().astype(bool)

    def without(cells: list[np.ndarray]) -> list[np.ndarray]:  # the thrown patches
        if thrown is None:
            return cells
        return [_covered(cell, mask, size, THROWN) for cell, mask in zip(cells, thrown, strict=True)]

    columns: list[tuple[str, list[np.ndarray]]] = [('input', shown)]
    if data.attention is not None:
        maps = data.attention[:max_rows].detach().float().cpu().numpy()
        whose = data.attention_of.removesuffix('Guide').lower()  # 'ema' of an EMAGuide: a title has to be short
        title = 'attention' if whose == 'teacher' else f'attention ({whose})'
        columns.append((title, [under_heat(cell, heat, size) for cell, heat in zip(shown, maps, strict=True)]))
    if data.mask is not None:
        masks = data.mask[:max_rows].detach().cpu().numpy().astype(bool)
        more = '' if thrown is None else f', {100 * thrown.mean():.0f} % thrown'
        title = f'mask ({100 * masks.mean():.0f} % hidden{more})'
        cells = [_covered(cell, mask, size, HIDDEN) for cell, mask in zip(shown, masks, strict=True)]
        columns.append((title, without(cells)))
    if data.reconstruction is not None:
        restored = _to_pixels(data.reconstruction[:max_rows], mean, std)
        title = 'reconstruction' + (f' ({data.reconstruction_with})' if data.reconstruction_with else '')
        columns.append((title, without([enlarged(one, size, Image.Resampling.BICUBIC) for one in restored])))
    if data.target is not None:
        true = _to_pixels(data.target[:max_rows], mean, std)
        columns.append(('target', without([enlarged(one, size, Image.Resampling.BICUBIC) for one in true])))
    for title, column in data.further.items():
        pixels = _to_pixels(column[:max_rows], mean, std)
        columns.append((title, [enlarged(one, size, Image.Resampling.BICUBIC) for one in pixels]))

    sheet = _sheet(columns, size)
    save_image(sheet, path, [title for title, _ in columns])
    return np.asarray(sheet)


def _to_pixels(images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> np.ndarray:
    """Undoes the normalization: (B, 3, H, W) to (B, H, W, 3) uint8."""
    values = images.detach().float().cpu().numpy().transpose(0, 2, 3, 1)
    channel_mean = np.asarray([float(value) for value in mean], dtype=np.float32)
    channel_std = np.asarray([float(value) for value in std], dtype=np.float32)
    pixels = np.nan_to_num(values * channel_std + channel_mean)
    return pixels.clip(0, 255).round().astype(np.uint8)


def _covered(cell: np.ndarray, mask: np.ndarray, size: tuple[int, int], color: tuple[int, int, int]) -> np.ndarray:
    """The image with patches covered by a color; ``mask`` is (h, w), True = covered."""
    places = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)) > 0
    covered = cell.copy()
    covered[places] = color
    return covered


def _sheet(columns: list[tuple[str, list[np.ndarray]]], size: tuple[int, int]) -> Image.Image:
    """Titles on top, cells in rows below."""
    width, height = size
    rows = len(columns[0][1])
    sheet = Image.new('RGB', (GAP + len(columns) * (width + GAP), TITLE + rows * (height + GAP)), 'white')
    pen = ImageDraw.Draw(sheet)
    widest = max(ImageFont.load_default(size=TITLE_FONT).getlength(title) for title, _ in columns)
    font = ImageFont.load_default(size=TITLE_FONT * min(1.0, (width - GAP) / widest))
    for column, (title, cells) in enumerate(columns):
        left = GAP + column * (width + GAP)
        pen.text((left, 4), title, fill='black', font=font)
        for row, cell in enumerate(cells):
            sheet.paste(Image.fromarray(cell), (left, TITLE + row * (height + GAP)))
    return sheet


def save_image(sheet: Image.Image, path: str | os.PathLike[str], columns: Sequence[str] = ()) -> None:
    """Writes a PNG, whole or not at all; its folder is made. Titles of columns go into it as text, see columns_of."""
    words = PngInfo()
    if columns:
        words.add_text(COLUMNS, json.dumps(list(columns)))
    write_atomically(path, lambda file: sheet.save(file, format='PNG', pnginfo=words))


def columns_of(image: Image.Image) -> tuple[str, ...]:
    """The titles of the columns of an opened sheet; none where its file does not name them."""
    try:
        found = json.loads(image.info.get(COLUMNS, '[]'))
    except (TypeError, ValueError):
        return ()
    return tuple(found) if isinstance(found, list) and all(isinstance(title, str) for title in found) else ()
