"""JPEG files, the bulk of all photographs, decoded faster than Pillow does and to the same pixels.

Measured on one core on photographs of 500 x 375 and of 2048 x 1365 pixels, into an array: Pillow takes 1.9 and 20 ms,
OpenCV 1.4 and 6.9 ms. simplejpeg takes 1.4 and 5.7 ms, which is too little of a difference for a further dependency;
torchvision's decoder, 1.5 and 6.0 ms, is deprecated. All of them call libjpeg-turbo and give equal pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

_END = b'\xff\xd9'  # the marker at the end of a whole file
_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def decode_quickly(data: bytes, height: int, width: int, step: int = 1) -> np.ndarray | None:
    """Decodes a JPEG file of three channels or one, as it is stored.

    Args:
        data: the file.
        height, width: what its head says.
        step: 1, 2, 4 or 8, the divisor of the sides; by libjpeg's scaled inverse transform.

    Returns:
        (H, W, 3) uint8 RGB, the sides divided and rounded up. None where Pillow has to have a look, which says best
        what is wrong: a damaged file, or one that does not end as it should, for OpenCV fills up what is missing.
    """
    if not data.endswith(_END):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[step] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    if image is None or image.shape != (-(-height // step), -(-width // step), 3):
        return None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
