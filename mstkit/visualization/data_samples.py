"""Draws an image with the ground truth or the predictions of a data sample: mmdet's, mmseg's, mmpretrain's, ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from mmengine.structures import BaseDataElement, InstanceData
from PIL import Image, ImageDraw, ImageFont

from mstkit.utils.class_palette import palette
from mstkit.visualization.image_sheet import FONT, LINE
from mstkit.visualization.keypoint_drawing import draw_keypoints

SIDE = 320  # px, longer side: small images are enlarged, so that text does not cover the objects
SCORE = 0.3  # detections with a lower score are not drawn
COVER = 0.5  # opacity of an object's color
MAP_COVER = 0.6  # opacity of a label map, over the image in gray
_EDGE = 2  # px


class Painter:
    """Draws instances, keypoints, a label map, depth or a label of a data sample.

    Args:
        metainfo: of the data set: ``classes``, and optionally ``palette`` and, for keypoints, ``skeleton``.

    Attributes:
        unnamed: indices of the classes that were drawn without their name.
    """

    def __init__(self, metainfo: Mapping[str, Any]) -> None:
        self.classes: Sequence[str] = metainfo.get('classes') or ()
        self.palette: Sequence[Sequence[int]] = metainfo.get('palette') or palette(max(len(self.classes), 20))
        self.skeleton: Sequence[tuple[int, int]] = metainfo.get('skeleton') or ()
        self.unnamed: set[int] = set()
        self.font = ImageFont.load_default(size=FONT)

    def truth(self, image: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Draws the ground truth.

        Args:
            image: (H, W, 3) uint8 RGB, at the size that the sample's boxes and maps refer to.
            sample: on the CPU.

        Returns:
            (h, w, 3) uint8 RGB with a longer side of ``SIDE``, plus a line with the class name if there is a label.
        """
        drawn = self._drawn(image, sample, 'gt')
        return self._with_words(drawn, self._name(sample.gt_label[0])) if 'gt_label' in sample else drawn

    def prediction(self, image: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Draws the model's predictions; arguments and result as of :meth:`truth`."""
        drawn = self._drawn(image, sample, 'pred')
        if 'pred_label' not in sample:
            return drawn
        label = sample.pred_label[0]
        words = [f'{self._name(label)} {100 * float(sample.pred_score[label]):.0f} %']
        words += ['right' if label in sample.gt_label else 'wrong'] if 'gt_label' in sample else []
        return self._with_words(drawn, ', '.join(words))

    def plain(self, image: np.ndarray) -> np.ndarray:
        """The image at the size of the others; argument and result as of :meth:`truth`."""
        height, width = (max(1, round(_scale_of(image) * side)) for side in image.shape[:2])
        return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))

    def hides(self, sample: BaseDataElement) -> bool:
        """Whether nothing of the image is seen in the drawing of a sample: depth has its place."""
        return 'gt_depth_map' in sample

    def legend(self, numbers: Iterable[int]) -> dict[str, tuple[int, ...]]:
        """The colors of classes by their names."""
        return {self._name(number): self._color(number) for number in sorted(numbers)}

    def _drawn(self, image: np.ndarray, sample: BaseDataElement, whose: str) -> np.ndarray:
        scaled = self.plain(image)
        if f'{whose}_instances' in sample:
            instances = sample.get(f'{whose}_instances')
            if 'keypoints' in instances:  # of objects whose boxes were given
                return draw_keypoints(scaled, instances, _scale_of(image), self.skeleton)
            return self._with_instances(scaled, instances, _scale_of(image))
        if f'{whose}_sem_seg' in sample:
            return self._with_label_map(scaled, np.asarray(sample.get(f'{whose}_sem_seg').data)[0])
        if f'{whose}_depth_map' in sample:
            depth = np.asarray(sample.get(f'{whose}_depth_map').data, np.float32)
            farthest = float(sample.gt_depth_map.data.max()) if 'gt_depth_map' in sample else float(depth.max())
            return colored_depth(_resized(depth, scaled.shape[:2])[0], farthest)
        return scaled

    def _with_label_map(self, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Every class in its color; ignored pixels are gray."""
        (labels,) = _resized(labels[None], image.shape[:2])
        image = np.asarray(Image.fromarray(image).convert('L').convert('RGB'))
        for number in np.unique(labels).tolist():
            if number < len(self.classes):
                self.unnamed.add(number)
                image = _covered(image, labels == number, self._color(number), MAP_COVER)
        return image

    def _with_instances(self, image: np.ndarray, instances: InstanceData, scale: float) -> np.ndarray:
        """Masks first, then boxes, then text, so that nothing covers the text; highest scores on top."""
        scores = instances.scores.tolist() if 'scores' in instances else [1.0] * len(instances)
        order = sorted((i for i, score in enumerate(scores) if score >= SCORE), key=lambda i: scores[i])
        labels = instances.labels.tolist()
        if 'masks' in instances:
            masks = _resized(_array(instances.masks), image.shape[:2])
            for i in order:
                image = _covered(image, masks[i] > 0, self._color(labels[i]), COVER)
        canvas = Image.fromarray(image)
        pen = ImageDraw.Draw(canvas)
        boxes = scale * np.asarray(instances.bboxes).reshape(-1, 4)
        limits = np.tile((canvas.width - 1, canvas.height - 1), 2)
        for i in order:
            pen.rectangle(boxes[i].clip(0, limits).tolist(), outline=self._color(labels[i]), width=_EDGE)
        for i in order:
            words = self._name(labels[i]) + (f' {100 * scores[i]:.0f} %' if 'scores' in instances else '')
            wide = self.font.getlength(words) + 2 * _EDGE
            left = max(0, min(boxes[i][0], canvas.width - wide))
            top = max(0, boxes[i][1] - LINE)  # above the box, or inside where there is no room
            pen.rectangle((left, top, left + wide, top + LINE - 1), fill=self._color(labels[i]))
            pen.text((left + _EDGE, top + 1), words, fill=_readable_on(self._color(labels[i])), font=self.font)
        return np.asarray(canvas)

    def _with_words(self, image: np.ndarray, words: str) -> np.ndarray:
        canvas = Image.new('RGB', (image.shape[1], image.shape[0] + LINE), 'white')
        canvas.paste(Image.fromarray(image))
        ImageDraw.Draw(canvas).text((0, image.shape[0]), words, fill='black', font=self.font)
        return np.asarray(canvas)

    def _name(self, number: Any) -> str:
        return str(self.classes[int(number)]) if int(number) < len(self.classes) else f'class {int(number)}'

    def _color(self, number: Any) -> tuple[int, ...]:
        return tuple(int(part) for part in self.palette[int(number) % len(self.palette)])


def _scale_of(image: np.ndarray) -> float:
    return SIDE / max(image.shape[:2])


def colored_depth(depth: np.ndarray, farthest: float) -> np.ndarray:
    """Depth in colors: near is bright, far is dark, unknown is black.

    Args:
        depth: (H, W) in meters, 0 where it is unknown.
        farthest: the depth of the darkest color.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    near = 1 - np.clip(depth / max(farthest, 1e-6), 0, 1)
    colors = colormaps['magma'](near)[..., :3]
    return np.where(depth[..., None] > 0, colors * 255, 0).round().astype(np.uint8)


def _covered(image: np.ndarray, where: np.ndarray, color: tuple[int, ...], share: float) -> np.ndarray:
    """The image, (H, W, 3), with a color laid over a region, (H, W) bool."""
    mixed = (share * np.asarray(color) + (1 - share) * image).round().astype(np.uint8)
    return np.where(where[..., None], mixed, image)


def _resized(maps: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Maps, (N, H, W), at another height and width, each pixel from the nearest one."""
    rows, columns = ((np.arange(new) + 0.5) * old / new for new, old in zip(size, maps.shape[1:], strict=True))
    return maps[:, rows.astype(int)][:, :, columns.astype(int)]


def _array(masks: Any) -> np.ndarray:
    """Masks, (N, H, W), in any of mmdet's forms."""
    # mmdet's classes, which only mstkit.downstream imports, have this method; its other form is an array.
    return masks.to_ndarray() if hasattr(masks, 'to_ndarray') else np.asarray(masks)


def _readable_on(color: tuple[int, ...]) -> str:
    red, green, blue = color
    return 'black' if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else 'white'
