"""Success, precision, average overlap and success rates, each against a computation of another kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mstkit.evaluation.benchmarks.tracking_files import GOT10K, TrackedVideo
from mstkit.evaluation.benchmarks.tracking_scores import NAMES, inside, overall, overlaps, score_boxes

SIZE = (60, 40)


def boxes(count: int, seed: int, low: float = -6, high: float = 44) -> np.ndarray:
    draws = np.random.default_rng(seed)
    return np.concatenate([draws.uniform(low, high, (count, 2)), draws.uniform(3, 30, (count, 2))], axis=1)


def video(true: np.ndarray, visible: np.ndarray | None = None) -> TrackedVideo:
    seen = np.ones(len(true), bool) if visible is None else visible
    return TrackedVideo('one', GOT10K, (Path('a.png'),) * len(true), SIZE, true, seen)


def counted(first: list[float], second: list[float], within: tuple[int, int] | None = None) -> float:
    """Overlap of two boxes of whole numbers, by counting pixels."""

    def pixels(box: list[float]) -> set[tuple[int, int]]:
        left, top, width, height = map(int, box)
        every = {(x, y) for x in range(left, left + width) for y in range(top, top + height)}
        return {(x, y) for x, y in every if within is None or (0 <= x < within[0] and 0 <= y < within[1])}

    one, other = pixels(first), pixels(second)
    return len(one & other) / len(one | other) if one | other else 0.0


def test_overlap_is_that_of_counted_pixels():
    first, second = boxes(200, 0).round(), boxes(200, 1).round()
    wanted = [counted(*pair) for pair in zip(first, second, strict=True)]
    assert overlaps(first, second) == pytest.approx(wanted)
    assert 0.02 < np.mean(wanted) < 0.5
    wanted = [counted(*pair, SIZE) for pair in zip(first, second, strict=True)]
    assert overlaps(inside(first, SIZE), inside(second, SIZE)) == pytest.approx(wanted)


def test_boxes_outside_of_the_image_have_no_overlap():
    away = np.array([[-30.0, 3.0, 10.0, 10.0], [70.0, 50.0, 5.0, 5.0]])
    assert inside(away, SIZE)[:, 2:].prod(axis=1).tolist() == [0, 0]
    assert overlaps(inside(away, SIZE), inside(away, SIZE)).tolist() == [0, 0]


def near(true: np.ndarray, seed: int) -> np.ndarray:
    return true + np.random.default_rng(seed).normal(0, 8, true.shape) * [1, 1, 0.2, 0.2]


def test_the_scores_are_those_of_their_definitions():
    true = boxes(40, 2, 0, 30).round()
    found = near(true, 3).round().clip([-50, -50, 1, 1])
    seen = np.random.default_rng(4).random(40) < 0.8
    seen[0] = True
    result = score_boxes(found, video(true, seen))
    rows = [(one, other) for one, other, shown in zip(found, true, seen, strict=True) if shown]
    shares = [counted(*row) for row in rows]
    plot = [sum(share > step / 20 for share in shares) / len(rows) for step in range(21)]
    assert result.values['success'] == pytest.approx(100 * sum(plot) / 21)
    middles = [(one[:2] + one[2:] / 2 - other[:2] - other[2:] / 2, other[2:]) for one, other in rows]
    hits = [float(np.hypot(*apart)) <= 20 for apart, _ in middles]
    assert result.values['precision'] == pytest.approx(100 * sum(hits) / len(rows))
    hits = [float(np.hypot(*(apart / size))) <= 0.2 for apart, size in middles]
    assert result.values['norm_precision'] == pytest.approx(100 * sum(hits) / len(rows))
    assert 0 < sum(hits) < len(rows)
    shares = [counted(*row, SIZE) for row in rows[1:]]
    assert result.values['ao'] == pytest.approx(100 * sum(shares) / len(shares))
    for name, limit in (('sr50', 0.5), ('sr75', 0.75)):
        assert result.values[name] == pytest.approx(100 * sum(share > limit for share in shares) / len(shares))
    assert (result.frames, result.hidden) == (int(seen.sum()), 40 - int(seen.sum()))
    assert list(result.values) == list(NAMES) and result.overlaps == pytest.approx(shares)


def test_a_perfect_box_and_one_far_away():
    true = boxes(30, 5, 0, 30)
    perfect = score_boxes(true.copy(), video(true)).values
    # An overlap of 1 is not above the last of the 21 thresholds.
    wanted = dict(success=100 * 20 / 21, precision=100, norm_precision=100, ao=100, sr50=100, sr75=100)
    assert perfect == pytest.approx(wanted)
    lost = true + np.array([1000.0, 0.0, 0.0, 0.0])
    lost[0] = true[0]
    values = score_boxes(lost, video(true)).values
    assert (values['ao'], values['sr50']) == (0, 0), 'the first frame, which is given, does not count'
    assert values['precision'] == pytest.approx(100 / 30)


def test_otb_means_over_videos_and_got10k_over_frames():
    long, short = boxes(41, 6, 0, 30), boxes(6, 7, 0, 30)
    scores = [score_boxes(near(true, 8), video(true)) for true in (long, short)]
    found = overall(scores)
    for name in NAMES[:3]:
        assert found[name] == pytest.approx((scores[0].values[name] + scores[1].values[name]) / 2)
    for name in NAMES[3:]:
        assert found[name] == pytest.approx((40 * scores[0].values[name] + 5 * scores[1].values[name]) / 45)
    assert abs(scores[0].values['ao'] - scores[1].values['ao']) > 1
