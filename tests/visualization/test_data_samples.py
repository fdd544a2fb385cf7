"""What is drawn on an image, by its colors and places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, LabelData, PixelData
from mmpretrain.structures import DataSample

from mstkit.utils.class_palette import palette
from mstkit.visualization.data_samples import SIDE, Painter
from mstkit.visualization.image_sheet import LINE

CLASSES = ('cat', 'dog', 'owl')
COLORS = [[250, 0, 0], [0, 250, 0], [0, 0, 250]]
GRAY = np.full((32, 64, 3), 100, np.uint8)
SCALE = SIDE / 64


@pytest.fixture
def painter() -> Painter:
    return Painter(dict(classes=CLASSES, palette=COLORS))


def where(image: np.ndarray, color: list[int]) -> np.ndarray:
    return (image == color).all(axis=2)


def instances(*scores: float, masks: Callable | None = None) -> InstanceData:
    """Of the classes in their order: two boxes, the second one smaller."""
    boxes = torch.tensor([[4.0, 10.0, 40.0, 30.0], [50.0, 12.0, 60.0, 28.0]])
    found = InstanceData(bboxes=boxes, labels=torch.tensor([0, 1]))
    maps = np.zeros((2, 32, 64), np.uint8)
    maps[0, 14:26, 8:36] = 1
    maps[1, 16:24, 52:58] = 1
    found.masks = (masks or torch.from_numpy)(maps)
    if scores:
        found.scores = torch.tensor(scores)
    return found


def test_boxes_masks_and_names_are_enlarged_with_the_image(painter):
    drawn = painter.truth(GRAY, BaseDataElement(gt_instances=instances()))
    assert drawn.shape == (SIDE // 2, SIDE, 3) and drawn.dtype == np.uint8
    red, green = (where(drawn, color) for color in COLORS[:2])
    assert red[round(30 * SCALE), round(5 * SCALE) : round(39 * SCALE)].all(), 'the lower edge'
    assert green[round(13 * SCALE) : round(27 * SCALE), round(50 * SCALE)].all(), 'the left edge'
    label = red[round(10 * SCALE) - LINE : round(10 * SCALE), round(4 * SCALE) : round(4 * SCALE) + 20]
    assert 0.4 < label.mean() < 0.97, 'a name on a ground of its color, above the box'
    covered = [175, 50, 50]  # half of the color, half of the image
    assert where(drawn, covered)[round(15 * SCALE) : round(25 * SCALE), round(9 * SCALE) : round(35 * SCALE)].all()
    assert where(drawn, [100, 100, 100])[: round(10 * SCALE) - LINE - 1].all()
    assert painter.unnamed == set()


def test_masks_of_mmdet_come_in_several_forms(painter):
    from mmdet.structures.mask import BitmapMasks

    plain = painter.truth(GRAY, BaseDataElement(gt_instances=instances()))
    for form in (lambda maps: BitmapMasks(maps, 32, 64), lambda maps: maps, lambda maps: torch.from_numpy(maps).bool()):
        assert np.array_equal(painter.truth(GRAY, BaseDataElement(gt_instances=instances(masks=form))), plain)


def test_only_detections_that_are_sure_enough(painter):
    both = painter.prediction(GRAY, BaseDataElement(pred_instances=instances(0.9, 0.4)))
    one = painter.prediction(GRAY, BaseDataElement(pred_instances=instances(0.9, 0.2)))
    assert where(both, COLORS[1]).any() and not where(one, COLORS[1]).any()
    assert where(one, COLORS[0]).sum() == where(both, COLORS[0]).sum()
    none = painter.prediction(GRAY, BaseDataElement(pred_instances=instances(0.1, 0.2)))
    empty = painter.prediction(GRAY, BaseDataElement(pred_instances=instances(0.1, 0.2)[:0]))
    assert (none == 100).all() and (empty == 100).all()


def test_names_stay_inside_the_image(painter):
    corner = InstanceData(bboxes=torch.tensor([[62.0, 0.0, 64.0, 2.0], [-5.0, 31.0, 90.0, 40.0]]))
    corner.labels, corner.scores = torch.tensor([2, 7]), torch.tensor([0.5, 0.6])
    drawn = painter.prediction(GRAY, BaseDataElement(pred_instances=corner))
    blue = where(drawn, COLORS[2])
    assert blue[:LINE, SIDE - 60 :].sum() > 300, 'moved to the left, below the edge'
    assert where(drawn, COLORS[1])[-1].any(), 'a box that ends outside ends at the edge; the eighth class is named'


def test_keypoints_and_the_lines_between_them():
    painter = Painter(dict(keypoints=('a', 'b', 'c'), skeleton=((0, 1), (1, 2))))
    points = torch.tensor([[[10.0, 8.0], [40.0, 8.0], [40.0, 28.0]]])
    truth = InstanceData(keypoints=points, keypoints_visible=torch.tensor([[2.0, 1.0, 0.0]]))
    sample = BaseDataElement(gt_instances=truth, pred_instances=InstanceData(keypoints=points + 2))
    drawn = painter.truth(GRAY, sample)
    first, second, third = (where(drawn, color) for color in palette(3))
    for shown, (x, y) in ((first, (10, 8)), (second, (40, 8))):
        rows, columns = np.nonzero(shown)
        assert np.abs([columns.mean() + 0.5 - x * SCALE, rows.mean() + 0.5 - y * SCALE]).max() < 1
        assert 30 < shown.sum() < 80, 'a dot'
    assert not third.any(), 'not labeled'
    white = where(drawn, [255, 255, 255])
    assert white[round(8 * SCALE) - 2 : round(8 * SCALE) + 2, round(12 * SCALE) : round(38 * SCALE)].any(axis=0).all()
    assert not white[round(12 * SCALE) :].any()
    predicted = painter.prediction(GRAY, sample)
    assert all(where(predicted, color).any() for color in palette(3)), 'what is predicted is drawn altogether'
    assert np.array_equal(painter.prediction(GRAY, BaseDataElement(pred_instances=truth)), drawn)
    assert painter.legend(painter.unnamed) == {}


def test_label_maps_over_what_is_left_of_the_image(painter):
    labels = torch.zeros(1, 32, 64, dtype=torch.long)
    labels[:, :, 32:] = 2
    labels[:, :8] = 255
    image = np.full((32, 64, 3), (200, 0, 0), np.uint8)
    drawn = painter.truth(image, BaseDataElement(gt_sem_seg=PixelData(data=labels)))
    lightness = round(0.299 * 200)
    left, right, ignored = drawn[-1, 0], drawn[-1, -1], drawn[0, 0]
    assert np.allclose(left, 0.6 * np.array(COLORS[0]) + 0.4 * lightness, atol=1)
    assert np.allclose(right, 0.6 * np.array(COLORS[2]) + 0.4 * lightness, atol=1)
    assert np.allclose(ignored, lightness, atol=1)
    assert (drawn[round(8 * SCALE) :, : SIDE // 2] == left).all(), 'regions keep their edges'
    assert painter.unnamed == {0, 2}
    assert painter.legend(painter.unnamed) == {'cat': (250, 0, 0), 'owl': (0, 0, 250)}


def test_labels_are_told_right_or_wrong(painter, monkeypatch):
    words: list[str] = []

    def note_words(self: Painter, image: np.ndarray, text: str) -> np.ndarray:
        words.append(text)
        return image

    monkeypatch.setattr(Painter, '_with_words', note_words)
    for true in (1, 2):
        sample = DataSample().set_gt_label(true).set_pred_label(1).set_pred_score(torch.tensor([0.1, 0.84, 0.06]))
        painter.truth(GRAY, sample)
        painter.prediction(GRAY, sample)
    painter.prediction(GRAY, DataSample().set_pred_label(0).set_pred_score(torch.tensor([0.5, 0.25, 0.25])))
    assert words == ['dog', 'dog 84 %, right', 'owl', 'dog 84 %, wrong', 'cat 50 %']


def test_words_are_below_the_image(painter):
    drawn = painter.truth(GRAY, DataSample().set_gt_label(1))
    assert drawn.shape == (SIDE // 2 + LINE, SIDE, 3)
    assert (drawn[: SIDE // 2] == 100).all()
    assert (drawn[SIDE // 2 :, 100:] == 255).all() and drawn[SIDE // 2 :, :100].min() < 50


def test_a_data_set_without_names_or_colors():
    painter = Painter({})
    sample = DataSample().set_gt_label(3).set_pred_label(3).set_pred_score(torch.ones(5) / 5)
    assert painter.prediction(GRAY, sample).shape[0] == SIDE // 2 + LINE
    assert isinstance(sample.gt_label, torch.Tensor) and not isinstance(sample.gt_label, LabelData)
    drawn = painter.truth(GRAY, BaseDataElement(gt_instances=instances()))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 4
