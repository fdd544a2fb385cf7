"""Reads the headers of image files: size and orientation, no pixels."""

from __future__ import annotations

import os
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from mstkit.datasets.image_reader import UnreadableImage
from mstkit.datasets.pillow_pixels import orientation_of


class Head(NamedTuple):
    """Size and orientation in the header of an image file.

    Attributes:
        width, height: px, as the image is stored.
        orientation: of EXIF, 1 to 8; 1 is upright, and from 5 on width and height are swapped.
    """

    width: int
    height: int
    orientation: int

    def size(self, turned: bool) -> tuple[int, int]:
        """(width, height) in px of the image after reading, if the reader applies the orientation or not."""
        return (self.height, self.width) if turned and self.orientation > 4 else (self.width, self.height)


def read_head(path: str | os.PathLike[str]) -> Head:
    """Reads the header of an image file.

    Raises:
        UnreadableImage: the file is missing or not an image.
    """
    name = os.fspath(path)
    try:
        with Image.open(path) as image:
            width, height = image.size
            return Head(width, height, orientation_of(image))
    except FileNotFoundError:
        raise UnreadableImage(name, 'there is no such file') from None
    except UnidentifiedImageError:
        empty = os.path.getsize(name) == 0
        reason = 'the file is empty' if empty else 'it is not in an image format that Pillow knows'
        raise UnreadableImage(name, reason) from None
    except Exception as error:  # damaged files surface as any kind of exception from Pillow's readers
        raise UnreadableImage(name, f'{error or type(error).__name__}') from error
