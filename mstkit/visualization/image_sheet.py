"""A contact sheet of images in rows and columns, with titles, legend and caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mstkit.visualization.step_panels import GAP

LINE = 18  # px from one line of words to the next
FONT = 13  # px
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def lay_out(
    cells: Mapping[str, Sequence[np.ndarray]],
    size: tuple[int, int],
    title: Sequence[str] = (),
    caption: Sequence[str] = (),
    legend: Mapping[str, Sequence[int]] | None = None,
) -> np.ndarray:
    """Lays out title, column titles, rows of cells, legend and caption, from top to bottom.

    Colors are reduced to 6 bits per channel, which is not visible and makes the PNG a third smaller.

    Args:
        cells: (H, W, 3) uint8 RGB images by column title, equally many in every column; a title may have two lines.
        size: (width, height) of all cells.
        title: paragraphs above, with automatic line breaks.
        caption: likewise, below.
        legend: colors, 0 to 255, by label.

    Returns:
        The sheet, (H, W, 3) uint8 RGB.
    """
    width, height = size
    font = ImageFont.load_default(size=FONT)
    total = GAP + len(cells) * (width + GAP)
    above, below = (_wrapped(paragraphs, total - 2 * GAP, font) for paragraphs in (title, caption))
    entries = _placed(legend or {}, total - 2 * GAP, font)
    heading_lines = max(name.count('\n') + 1 for name in cells)
    top = GAP + (len(above) + heading_lines) * LINE + GAP
    bottom = top + len(next(iter(cells.values()))) * (height + GAP)
    words = bottom + (entries[-1][1] + 1 if entries else 0) * LINE
    sheet = Image.new('RGB', (total, words + len(below) * LINE + GAP), 'white')
    pen = ImageDraw.Draw(sheet)
    for row, line in enumerate(above):
        pen.text((GAP, GAP + row * LINE), line, fill='black', font=font)
    for row, line in enumerate(below):
        pen.text((GAP, words + row * LINE), line, fill='black', font=font)
    for left, row, name, color in entries:
        y = bottom + row * LINE
        pen.rectangle((left, y + 2, left + FONT, y + 2 + FONT), fill=color, outline='black')
        pen.text((left + FONT + GAP, y), name, fill='black', font=font)
    for column, (name, images) in enumerate(cells.items()):
        left = GAP + column * (width + GAP)
        for row, line in enumerate(name.split('\n')):
            pen.text((left, GAP + (len(above) + row) * LINE), line, fill='black', font=font)
        for row, image in enumerate(images):
            sheet.paste(Image.fromarray(image), (left, top + row * (height + GAP)))
    pixels = np.asarray(sheet)
    return (pixels & 0xFC) | (pixels >> 6)  # black stays 0 and white 255


def _placed(
    legend: Mapping[str, Sequence[int]], width: int, font: _Font
) -> list[tuple[int, int, str, tuple[int, ...]]]:
    """Positions of the entries of a legend: (left edge, line, label, color) each."""
    placed = []
    left, row = GAP, 0
    for name, color in legend.items():
        wide = round(FONT + GAP + font.getlength(name))
        if left > GAP and left + wide > width:
            left, row = GAP, row + 1
        placed.append((left, row, name, tuple(color)))
        left += wide + 3 * GAP
    return placed


def _wrapped(paragraphs: Sequence[str], width: int, font: _Font) -> list[str]:
    """Breaks paragraphs into lines of at most ``width`` pixels, between words; a longer word stands alone."""
    lines = []
    for paragraph in paragraphs:
        line = ''
        for word in paragraph.split():
            longer = f'{line} {word}'.strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines
