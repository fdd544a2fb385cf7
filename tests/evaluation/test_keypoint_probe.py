"""The linear probe of keypoints: loss and decoding by their formulas, and that it learns; crops and the way back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.datasets.keypoint_annotations import KeypointInstance
from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.keypoint_crops import (
    PADDED,
    crop_square,
    read_crops,
    squares,
    to_crops,
    to_pixels,
)
from mstkit.evaluation.benchmarks.keypoints_of_networks import mean_places
from mstkit.evaluation.protocols.keypoint_probe import (
    SPREAD,
    KeypointHead,
    KeypointTokens,
    choose_rate,
    decode,
    place_loss,
    train_head,
)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_loss_is_that_of_its_formula():
    maps = torch.randn(2, 3, 5, 6, generator=draws())
    places = torch.rand(2, 3, 2, generator=draws(1))
    labeled = torch.tensor([[True, True, False], [True, False, True]])
    places[1, 2] = torch.tensor([1.1, 0.5])  # outside of the crop, which no map can say
    losses = []
    for image in range(2):
        for point in range(3):
            if not labeled[image, point] or (image, point) == (1, 2):
                continue
            x, y = places[image, point].tolist()
            weights = [
                [
                    math.exp(-(((column + 0.5) / 6 - x) ** 2 + ((row + 0.5) / 5 - y) ** 2) / (2 * SPREAD**2))
                    for column in range(6)
                ]
                for row in range(5)
            ]
            target = torch.tensor(weights) / sum(map(sum, weights))
            chance = maps[image, point].flatten().softmax(0).reshape(5, 6)
            losses.append(float(-(target * chance.log()).sum()))
    assert float(place_loss(maps, places, labeled)) == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert float(place_loss(maps, places, torch.zeros(2, 3, dtype=torch.bool))) == 0.0


def test_what_is_not_labeled_has_no_gradient():
    maps = torch.randn(1, 2, 4, 4, generator=draws()).requires_grad_()
    place_loss(maps, torch.full((1, 2, 2), 0.4), torch.tensor([[True, False]])).backward()
    assert maps.grad is not None and bool((maps.grad[0, 1] == 0).all()) and bool((maps.grad[0, 0] != 0).any())


def test_a_place_between_cells_is_read_back():
    """Of maps that say what the loss asks for, the place comes back to a part of a cell, with about all probability."""
    places = 0.15 + 0.7 * torch.rand(4, 3, 2, generator=draws())
    cells = (torch.arange(32) + 0.5) / 32
    x, y = (-((cells - places[..., axis, None]) ** 2) / (2 * SPREAD**2) for axis in (0, 1))
    found, confidences = decode(x[..., None, :] + y[..., :, None])
    assert (found - places).abs().max() < 0.15 / 32
    assert confidences.min() > 0.85 and confidences.max() <= 1.0


def test_a_second_maximum_elsewhere_lowers_only_the_confidence():
    maps = torch.full((1, 1, 32, 32), -30.0)
    maps[0, 0, 4, 6] = 1.0
    one, alone = decode(maps)
    maps[0, 0, 25, 20] = 0.9
    other, shared = decode(maps)
    assert torch.allclose(one, other, atol=1e-6) and torch.allclose(one[0, 0], torch.tensor([6.5, 4.5]) / 32)
    assert float(alone) == pytest.approx(1.0) and float(shared) == pytest.approx(1 / (1 + math.exp(-0.1)), rel=1e-4)


def data(count: int = 40, seed: int = 0) -> KeypointTokens:
    """Each of two keypoints is where one of eight channels is large; some are not labeled."""
    generator = draws(seed)
    tokens = torch.randn(count, 8, 6, 6, generator=generator)
    cells = torch.randint(0, 36, (count, 2), generator=generator)
    for point, channel in enumerate((2, 5)):
        tokens[torch.arange(count), channel, cells[:, point] // 6, cells[:, point] % 6] = 6.0
    places = torch.stack([cells % 6 + 0.5, cells // 6 + 0.5], dim=-1) / 6
    return KeypointTokens(tokens, places, torch.rand(count, 2, generator=generator) < 0.9)


def test_it_learns_what_is_linear():
    train, val = data(), data(seed=1)
    head = train_head(train, 0.02, 40, 8)
    found, confidences = head.predict(val.tokens, batch=7)
    assert float(((found - val.places).norm(dim=-1) < 0.5 / 6).float().mean()) > 0.9
    assert confidences.shape == (40, 2)
    again = train_head(train, 0.02, 40, 8)
    assert isinstance(again, KeypointHead) and torch.equal(head.linear.weight, again.linear.weight)
    assert torch.allclose(head.predict(val.tokens, batch=1)[0], found, atol=1e-5)


def test_held_out_crops_choose_the_rate():
    best, errors = choose_rate(data(), (1e-6, 0.02), 40, 8, 0, 0.25, 0.1)
    assert best == 0.02 and errors[0.02] < 20 < errors[1e-6]
    broken = data()
    broken.tokens[0, 0, 0, 0] = math.nan
    with pytest.raises(UsageError, match=r'the keypoint heads of all learning rates \(0.02\) are not finite'):
        choose_rate(broken, (0.02,), 1, 8, 0, 0.25, 0.1)


def instance(image: object, box: tuple[float, float, float, float], points: list[list[float]]) -> KeypointInstance:
    return KeypointInstance(image, 1, (40, 30), box, box[2] * box[3], np.array(points, np.float32), 1)


def test_crops_show_the_box_in_the_middle(tmp_path):
    """A point of the image is where its place in the crop says, also where the crop leaves the image."""
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(40) * 5, np.arange(30)[:, None] * 5
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    boxes = [(10.5, 4.0, 12.0, 16.5), (-2.0, 20.0, 20.0, 9.0)]
    points = [[[12.0, 9.0, 2], [20.0, 15.5, 1]], [[10.0, 22.0, 2], [4.0, 26.0, 2]]]
    instances = [instance(tmp_path / 'a.png', box, rows) for box, rows in zip(boxes, points, strict=True)]
    crops = squares(instances)
    assert crops[:, 2].tolist() == [PADDED * 16.5, PADDED * 20.0]
    middles = [[box[0] + box[2] / 2, box[1] + box[3] / 2] for box in boxes]
    assert np.allclose(crops[:, :2] + crops[:, 2:] / 2, middles)
    known = np.stack([one.keypoints[:, :2] for one in instances])
    places = to_crops(known, crops)
    assert np.allclose(to_pixels(places, crops), known) and (places > 0).all() and (places < 1).all()
    images = read_crops(instances, 64).numpy()
    assert images.shape == (2, 3, 64, 64)
    for image, row, pair in zip(images, places, known, strict=True):
        for place, (x, y) in zip(row, pair, strict=True):
            column, line = (place * 64).astype(int)
            # The pixel of the image in which x is has its middle at 0.5.
            assert image[:2, line, column] == pytest.approx([5 * (x - 0.5), 5 * (y - 0.5)], abs=4)
    assert images[1, :, -1, -1].tolist() == [124, 116, 104]  # below the image
    with pytest.raises(UsageError, match=r'a\.png is 40x30 px as it is read, and 41x30 px in its annotations'):
        read_crops([instances[0]._replace(size=(41, 30))], 8)
    with pytest.raises(UsageError, match=r'b\.png: there is no such file: copy it again'):
        read_crops([instances[0]._replace(image=tmp_path / 'b.png')], 8)


def test_a_whole_square_is_what_pillow_resizes():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8))
    assert np.array_equal(crop_square(image, (0.0, 0.0, 20.0), 8), np.array(image.resize((8, 8), 3)))
    assert np.array_equal(crop_square(image, (4.0, 2.0, 9.0), 9), np.array(image)[2:11, 4:13])


def test_mean_places_scale_with_the_box():
    train = [
        instance('a', (10, 10, 10, 20), [[15, 20, 2], [0, 0, 0], [0, 0, 0]]),
        instance('a', (0, 0, 20, 20), [[20, 0, 1], [5, 10, 2], [0, 0, 0]]),
    ]
    [found] = mean_places(train, [instance('a', (100, 50, 8, 4), [[0, 0, 0]] * 3)])
    assert found.tolist() == [[100 + 0.75 * 8, 50 + 0.25 * 4], [102, 52], [104, 52]]
