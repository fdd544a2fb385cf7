"""Reads the images that PanelHook drew and cuts them into rows, so that the page can lay them out."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mstkit.report.number_words import several
from mstkit.report.run_facts import RunRecord
from mstkit.visualization.step_panels import GAP, HIDDEN, TITLE, columns_of

MOST_EPOCHS = 12
CELL = 144  # px of a cell on the page, at most
BETWEEN = 4  # px
QUALITY = 78


@dataclass(frozen=True)
class Sheet:
    """An image of panels, cut into rows.

    Attributes:
        epoch: after which it was drawn.
        columns: titles of the columns; empty if they could not be recognized.
        rows: an image per row, or the whole sheet as one, as data URIs.
        size: width and height of a row, px.
        hidden: share of the images' area that the mask hides; None without a mask.
    """

    epoch: int
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    size: tuple[int, int]
    hidden: float | None = None


class Embedded(NamedTuple):
    """An image as a data URI, and its width and height, px."""

    source: str
    size: tuple[int, int]


def panels(runs: Sequence[RunRecord], place: str, rows: int) -> dict[str, Any]:
    """The sheets of runs over epochs, with notes; empty without sheets.

    Args:
        runs: in the order in which they are shown.
        place: the section of the page, which makes ids unique.
        rows: maximum number of rows of each sheet.
    """
    sheets, damaged, left_out = [], [], 0
    for index, run in enumerate(runs):
        chosen = choose(run.panels)
        left_out = max(left_out, len(run.panels) - len(chosen))
        for epoch, path in chosen.items():
            sheet = read_sheet(epoch, path, rows)
            if sheet is None:
                damaged.append(f'{run.name}: {path.name} cannot be read.')
            else:
                sheets.append(dict(index=index, run=run.name, sheet=sheet, **_titles(sheet)))
    if not sheets:
        return dict(sheets=[], notes=damaged) if damaged else {}
    epochs = sorted({one['sheet'].epoch for one in sheets})
    notes = [f'{left_out} more epochs of each run are in its folder panels.'] if left_out else []
    notes += ['The same images throughout, as the training sees them; hidden patches are gray.', *damaged]
    return dict(sheets=sheets, epochs=epochs, identity=f'{place}-slider', named=len(runs) > 1, notes=notes)


def _titles(sheet: Sheet) -> dict[str, Any]:
    """The titles of the columns, and a description of the sheet."""
    share = '' if sheet.hidden is None else f' ({100 * sheet.hidden:.0f} % hidden)'
    titles = [f'{name}{share}' if name == 'mask' else name for name in sheet.columns]
    return dict(titles=titles, said=f'{several(titles)}, from left to right' if titles else 'the whole sheet')


def choose(panels: dict[int, Path], most: int = MOST_EPOCHS) -> dict[int, Path]:
    """At most ``most`` panels: the first, the last, and evenly spaced ones between them."""
    epochs = sorted(panels)
    if len(epochs) > most:
        epochs = [epochs[round(index)] for index in np.linspace(0, len(epochs) - 1, most)]
    return {epoch: panels[epoch] for epoch in epochs}


def read_sheet(epoch: int, path: Path, rows: int = 8) -> Sheet | None:
    """Reads a sheet; None if the file is damaged.

    Args:
        epoch: of the sheet.
        path: of the PNG.
        rows: maximum number of rows.
    """
    try:
        with Image.open(path) as file:
            titles, pixels = columns_of(file), np.asarray(file.convert('RGB'))
    except (OSError, SyntaxError, ValueError):
        return None
    cells = _cells(pixels, (len(titles),) if titles else (4, 3, 2))
    if cells is None:
        whole = Image.fromarray(pixels)
        whole.thumbnail((1200, 2400))
        return Sheet(epoch, (), (data_uri(whole),), whole.size)
    names, hidden = _name(cells)
    names = titles or names
    strips = [_strip(row) for row in cells[:rows]]
    return Sheet(epoch, names, tuple(data_uri(strip) for strip in strips), strips[0].size, hidden)


def data_uri(image: Image.Image) -> str:
    """An image as a data URI in WebP format."""
    out = io.BytesIO()
    image.save(out, format='WEBP', quality=QUALITY, method=4)
    return f'data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}'


def embed(path: Path, width: int = 1600) -> Embedded | None:
    """An image file as a data URI, at most ``width`` pixels wide; None if it cannot be read."""
    try:
        with Image.open(path) as file:
            image = file.convert('RGBA')
    except (OSError, SyntaxError, ValueError):
        return None
    paper = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(paper, image).convert('RGB')
    image.thumbnail((width, 100_000))
    return Embedded(data_uri(image), image.size)


def _cells(pixels: np.ndarray, counts: Sequence[int]) -> list[list[np.ndarray]] | None:
    """The cells of a sheet, row by row, found by white gaps between so many columns; None if it has none."""
    height, width = pixels.shape[:2]
    for columns in counts:
        wide, rest = divmod(width - GAP - columns * GAP, columns)
        if rest or wide < 1:
            continue
        lefts = [GAP + index * (wide + GAP) for index in range(columns)]
        if not all((pixels[TITLE:, left - GAP : left] == 255).all() for left in lefts):
            continue
        # White lines across the whole sheet, below the titles, separate the rows.
        white = (pixels[TITLE:] == 255).all(axis=(1, 2))
        tall = next((index for index in range(1, len(white)) if white[index : index + GAP].all()), 0)
        if not tall or (height - TITLE) % (tall + GAP):
            continue
        tops = range(TITLE, height, tall + GAP)
        return [[pixels[top : top + tall, left : left + wide] for left in lefts] for top in tops]
    return None


def _name(cells: Sequence[Sequence[np.ndarray]]) -> tuple[tuple[str, ...], float | None]:
    """The titles of the columns of a sheet that does not name them, as those of before.

    They are recognized by the mask: the column that equals the input except for gray patches.

    Returns:
        The titles (empty if not recognized), and the share of hidden pixels (None without a mask).
    """
    mask, hidden = None, None
    for column in range(1, len(cells[0])):
        grays = []
        for row in cells:
            changed = (row[column] != row[0]).any(axis=-1)
            if not (row[column][changed] == np.array(HIDDEN)).all():
                break
            grays.append(changed.mean())
        else:
            mask, hidden = column, float(np.mean(grays))
    if mask is None:
        return ('input', 'attention', 'restored')[: len(cells[0])] if len(cells[0]) < 4 else (), None
    before = ['input', 'attention'][:mask] if mask <= 2 else []
    after = ['restored'] * (len(cells[0]) - mask - 1)
    return (*before, 'mask', *after) if before and len(after) < 2 else (), hidden


def _strip(cells: Sequence[np.ndarray]) -> Image.Image:
    """Joins the cells of a row to one image, downscaled."""
    height, width = cells[0].shape[:2]
    share = min(1.0, CELL / max(height, width))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    strip = Image.new('RGBA', (len(cells) * (size[0] + BETWEEN) - BETWEEN, size[1]))  # clear between them
    for column, cell in enumerate(cells):
        strip.paste(Image.fromarray(cell).resize(size, Image.Resampling.LANCZOS), (column * (size[0] + BETWEEN), 0))
    return strip
