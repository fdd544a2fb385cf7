"""A sheet of codes: the patches that are nearest to each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from mstkit.visualization.image_sheet import lay_out
from mstkit.visualization.step_panels import save_image

CELL = 72  # px
OUTLINE = (255, 220, 0)


def draw_code_sheet(
    codes: Mapping[str, Tensor], path: str | os.PathLike[str], title: Sequence[str] = (), context: int = 1
) -> np.ndarray:
    """Draws one column per code: its patches, each outlined in the middle of what is around it.

    Args:
        codes: (E, 3, s, s) uint8 RGB by the title of the column; as many everywhere.
        path: of the PNG; its folder is made.
        title: paragraphs above, broken where the sheet ends.
        context: how many patches are around each on every side, in the width of a patch.

    Returns:
        The sheet, (H, W, 3) uint8 RGB.
    """
    cells = {name: [_outlined(one, context) for one in patches] for name, patches in codes.items()}
    sheet = lay_out(cells, (CELL, CELL), title)
    save_image(Image.fromarray(sheet), path)
    return sheet


def _outlined(patch: Tensor, context: int) -> np.ndarray:
    whole = Image.fromarray(patch.permute(1, 2, 0).numpy()).resize((CELL, CELL), Image.Resampling.BICUBIC)
    pixels = np.array(whole)
    first, last = CELL * context // (2 * context + 1), CELL * (context + 1) // (2 * context + 1)
    pixels[[first - 1, last], first - 1 : last + 1] = OUTLINE
    pixels[first - 1 : last + 1, [first - 1, last]] = OUTLINE
    return pixels
