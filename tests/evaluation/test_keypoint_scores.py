"""Scores of keypoints, beside the same worked out one keypoint at a time, and beside pycocotools."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mstkit.evaluation.protocols.keypoint_scores import oks, oks_average_precision, pck

SIGMAS = (0.026, 0.1, 0.05)


def drawn(count: int = 12, seed: int = 0, most: float = 12.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, truth, boxes and areas; some keypoints are not labeled, of one object none."""
    draws = np.random.default_rng(seed)
    known = draws.uniform(0, 60, (count, 3, 3))
    known[..., 2] = draws.integers(0, 3, (count, 3))
    known[0, :, 2] = 0
    known[1:, 0, 2] = 2
    boxes = np.concatenate([draws.uniform(0, 5, (count, 2)), draws.uniform(20, 60, (count, 2))], axis=1)
    areas = boxes[:, 2] * boxes[:, 3] * draws.uniform(0.4, 0.9, count)
    found = known[..., :2] + draws.normal(0, 1, (count, 3, 2)) * draws.uniform(0.2, most, (count, 1, 1))
    return found, known, boxes, areas


def oks_of(found: np.ndarray, known: np.ndarray, area: float) -> float:
    parts = []
    for (x, y), (known_x, known_y, v), sigma in zip(found, known, SIGMAS, strict=True):
        if v > 0:
            parts.append(math.exp(-((x - known_x) ** 2 + (y - known_y) ** 2) / (2 * area * (2 * sigma) ** 2)))
    return sum(parts) / len(parts) if parts else math.nan


def test_oks():
    found, known, _, areas = drawn()
    values = oks(found, known, areas, SIGMAS)
    assert np.isnan(values[0])
    wanted = [oks_of(*row) for row in zip(found, known, areas, strict=True)]
    assert np.allclose(values, wanted, rtol=1e-12, atol=0, equal_nan=True)
    assert np.array_equal(oks(known[1:, :, :2], known[1:], areas[1:], SIGMAS), np.ones(len(known) - 1))
    # An error of k times the square root of the area counts exp(−1/2).
    one = np.array([[[10.0, 20.0, 2.0]]])
    off = one[..., :2] + np.array([2 * 0.05 * 30.0, 0.0])
    assert oks(off, one, np.array([900.0]), [0.05])[0] == pytest.approx(math.exp(-0.5), rel=1e-12)


def test_pck():
    found, known, boxes, _ = drawn()
    for alpha in (0.1, 0.2):
        right: list[list[bool]] = [[] for _ in SIGMAS]
        for points, truth, box in zip(found, known, boxes, strict=True):
            for number, ((x, y), (known_x, known_y, v)) in enumerate(zip(points, truth, strict=True)):
                if v > 0:
                    right[number].append(math.hypot(x - known_x, y - known_y) <= alpha * max(box[2], box[3]))
        every = [one for part in right for one in part]
        share, each = pck(found, known, boxes, alpha)
        assert share == pytest.approx(100 * sum(every) / len(every)) and 0 < share < 100
        assert each == pytest.approx([100 * sum(part) / len(part) for part in right])
    assert pck(found, known, boxes, 0.1)[0] < pck(found, known, boxes)[0]
    known[:, 1, 2] = 0
    assert np.isnan(pck(found, known, boxes)[1]).tolist() == [False, True, False]
    # What is exactly as far off as is allowed is right.
    one, off, box = np.array([[[10.0, 20.0, 1.0]]]), np.array([[[13.0, 24.0]]]), np.array([[0, 0, 25.0, 7.0]])
    assert pck(off, one, box, 0.2)[0] == 100.0 and pck(off, one, box, 0.19)[0] == 0.0


def content_of(known: np.ndarray, boxes: np.ndarray, areas: np.ndarray, per_image: int = 2) -> dict:
    annotations = [
        dict(
            id=number,
            image_id=number // per_image,
            category_id=1,
            bbox=boxes[number].tolist(),
            area=float(areas[number]),
            iscrowd=0,
            keypoints=known[number].ravel().tolist(),
            num_keypoints=int((known[number, :, 2] > 0).sum()),
        )
        for number in range(len(known))
    ]
    images = [dict(id=number) for number in range(-(-len(known) // per_image))]
    return dict(images=images, annotations=annotations, categories=[dict(id=1, name='figure')])


def precision_of(similar: np.ndarray, confidences: np.ndarray, threshold: float) -> float:
    """Average precision with one object and one prediction in each image, at 101 recalls."""
    order = np.argsort(-confidences, kind='stable')
    right = np.cumsum(similar[order] >= threshold)
    precision, recall = right / np.arange(1, len(order) + 1), right / len(order)
    # pycocotools adds a spacing in its denominator, which moves no recall over a hundredth here.
    return float(np.mean([max(precision[recall >= level - 1e-9], default=0.0) for level in np.linspace(0, 1, 101)]))


def test_average_precision_of_one_object_in_each_image():
    found, known, boxes, areas = (part[1:] for part in drawn(40, seed=1, most=5.0))
    confidences = np.random.default_rng(2).uniform(size=len(found))
    result = oks_average_precision(
        content_of(known, boxes, areas, per_image=1), range(len(found)), found, confidences, SIGMAS
    )
    similar = oks(found, known, areas, SIGMAS)
    levels = np.arange(10) * 0.05 + 0.5
    wanted = [100 * precision_of(similar, confidences, level) for level in levels]
    assert result['AP'] == pytest.approx(np.mean(wanted), abs=1e-6) and 5 < result['AP'] < 95
    assert result['AP50'] == pytest.approx(wanted[0], abs=1e-6) and result['AP75'] == pytest.approx(wanted[5], abs=1e-6)
    assert result['AR'] == pytest.approx(np.mean([100 * (similar >= level).mean() for level in levels]), abs=1e-6)
    assert np.isnan(result['APL']) and result['APM'] > 0  # no area is above 96²


def test_objects_of_one_image_compete_and_id_0_counts():
    """As pycocotools has it for annotations that are numbered from 1; ours are numbered from 0."""
    found, known, boxes, areas = drawn(seed=3)
    confidences = np.linspace(1, 0.5, len(found))
    content = content_of(known, boxes, areas)
    before = repr(content)
    result = oks_average_precision(content, range(len(found)), found, confidences, SIGMAS)
    assert repr(content) == before  # pycocotools writes into what it gets
    truth = COCO()
    truth.dataset = content_of(known, boxes, areas)
    for entry in truth.dataset['annotations']:
        entry['id'] += 1
    truth.createIndex()
    points = np.concatenate([found, np.ones((len(found), 3, 1))], axis=2).reshape(len(found), -1).tolist()
    results = [
        dict(image_id=number // 2, category_id=1, keypoints=points[number], score=confidences[number])
        for number in range(len(found))
    ]
    evaluation = COCOeval(truth, truth.loadRes(results), 'keypoints')
    evaluation.params.kpt_oks_sigmas = np.array(SIGMAS)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert list(result.values())[:2] == pytest.approx((100 * evaluation.stats[:2]).tolist())
    assert result['AR'] == pytest.approx(100 * evaluation.stats[5])
    # The similarities are those of ours.
    table = evaluation.ious[1, 1]
    assert sorted(np.diag(table)) == pytest.approx(sorted(oks(found, known, areas, SIGMAS)[2:4]))


def test_perfect_predictions_and_none():
    _, known, boxes, areas = drawn()
    content = content_of(known, boxes, areas)
    perfect = oks_average_precision(content, range(len(known)), known[..., :2], [1.0] * len(known), SIGMAS)
    assert perfect['AP'] == pytest.approx(100.0) and perfect['AR'] == 100.0
    nothing = oks_average_precision(content, [], np.zeros((0, 3, 2)), [], SIGMAS)
    assert nothing['AP'] == 0.0 and nothing['AR50'] == 0.0
