"""How well a linear layer finds keypoints in the frozen patch tokens of a network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mstkit.datasets.keypoint_annotations import (
    SPLITS,
    KeypointAnnotations,
    KeypointInstance,
    keypoint_paths,
    read_keypoints,
)
from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.keypoint_crops import PADDED, read_crops, squares, to_crops, to_pixels
from mstkit.evaluation.benchmarks.layer_tokens import check_probe, drawn_rows, layer_tokens
from mstkit.evaluation.evaluated_network import FrozenNetwork
from mstkit.evaluation.protocols.keypoint_probe import KeypointTokens, choose_rate, train_head
from mstkit.evaluation.protocols.keypoint_scores import oks_average_precision, pck
from mstkit.utils.few_of_many import first_few

RATES = (1e-3, 1e-2)
ALPHAS = (0.2, 0.1)  # of PCK, the first one for choosing the learning rate
_CHUNK = 512  # crops whose tokens are held at the same time while judging


class KeypointProtocol(NamedTuple):
    """The settings of the probe.

    Attributes:
        layers: how many blocks give tokens, equally spaced, the last one among them.
        size: side of the crops in pixels; None for the network's.
        rates: learning rates, of which held-out train instances choose one.
        epochs: over the train instances.
        batch_size: instances in a step of the probe.
        held_out: share of the train instances that choose the learning rate; then the head learns from all of them.
        most: train instances that are used at most, drawn by the seed.
    """

    layers: int = 1
    size: int | None = None
    rates: Sequence[float] = RATES
    epochs: int = 20
    batch_size: int = 16
    held_out: float = 0.2
    most: int = 2000

    def check(self, where: str) -> None:
        """Raises UsageError for a setting out of range; ``where`` is the beginning of their names."""
        check_probe(where, self.layers, self.size, self.rates, self.epochs, self.batch_size, self.held_out, self.most)


class KeypointResult(NamedTuple):
    """What was measured of a network.

    Attributes:
        scores: ``pck20`` and ``pck10``, percent of the keypoints within 0.2 and 0.1 of the longer side of the box;
            ``ap``, ``ap50`` and ``ap75``, COCO's average precision over OKS in percent.
        of_place: the same for the mean place of the train instances in their boxes, which looks at no image.
        of_each: ``pck20`` of each keypoint by its name, NaN where it is never labeled.
        rate: the learning rate.
        predicted: (M, K, 2) float64 in pixels of the images, of the val instances.
        left_out: train instances beyond ``most``.
    """

    scores: dict[str, float]
    of_place: dict[str, float]
    of_each: dict[str, float]
    rate: float
    predicted: np.ndarray
    left_out: int


class KeypointData:
    """A folder of images with keypoints, opened once for several networks.

    Args:
        root: in COCO's layout, see :mod:`mstkit.datasets.keypoint_annotations`.

    Raises:
        UsageError: the folder has another layout or a mistake in its annotations, the keypoints of train and val
            differ, or there are fewer than two instances to learn from.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = root
        self.train, self.val = (read_keypoints(*keypoint_paths(root, split)) for split in SPLITS)
        names = [part.kind.names for part in (self.train, self.val)]
        if names[0] != names[1]:
            raise UsageError(
                f'the keypoints of {self.train.path} are {first_few(names[0], 5)} and those of {self.val.path} '
                f'{first_few(names[1], 5)}: give both the same, in the same order.'
            )
        if len(self.train.instances) < 2:
            raise UsageError(f'{self.train.path} has a single instance to learn keypoints from: give two or more.')
        self._read: dict[tuple[str, int, int, int], Tensor] = {}

    def chosen(self, most: int, seed: int) -> list[KeypointInstance]:
        """The train instances, of more than ``most`` so many, drawn by the seed."""
        every = self.train.instances
        return [every[row] for row in drawn_rows(len(every), most, seed)]

    def crops(self, split: str, size: int, most: int = 0, seed: int = 0) -> Tensor:
        """Crops (M, 3, size, size) uint8 of all val instances, or of the chosen train instances."""
        instances = self.chosen(most, seed) if split == 'train' else self.val.instances
        key = (split, size, most, seed)
        if key not in self._read:
            self._read[key] = read_crops(instances, size, f'{split} crops')
        return self._read[key]


def measure_keypoints(
    network: FrozenNetwork,
    data: KeypointData,
    protocol: KeypointProtocol,
    device: torch.device | str = 'cpu',
    seed: int = 0,
    batch_size: int = 64,
) -> KeypointResult:
    """Trains a linear layer on the train crops' tokens, and judges it on the val crops.

    Args:
        network: on ``device``.
        data: the images and keypoints.
        protocol: see :class:`KeypointProtocol`.
        device: to compute on.
        seed: of the weights, the order, and the instances that are drawn or held out.
        batch_size: crops in a forward pass of the network.

    Raises:
        UsageError: a file that cannot be read, or more layers than the network has.
    """
    size = network.image_size if protocol.size is None else protocol.size
    instances, val = data.chosen(protocol.most, seed), data.val.instances

    def tokens_of(crops: Tensor) -> Tensor:
        # The pooled token would move all places of a map alike, which their softmax does not see.
        return layer_tokens(network, crops, protocol.layers, 'keypoints.', device, batch_size, pooled=False)

    points = np.stack([one.keypoints for one in instances])
    places = torch.from_numpy(to_crops(points[..., :2], squares(instances))).float()
    train = KeypointTokens(
        tokens_of(data.crops('train', size, protocol.most, seed)),
        places.to(device),
        torch.from_numpy(points[..., 2] > 0).to(device),
    )
    fixed = (protocol.epochs, protocol.batch_size, seed)
    rate = protocol.rates[0]
    if len(protocol.rates) > 1:
        rate, _ = choose_rate(train, protocol.rates, *fixed, protocol.held_out, ALPHAS[0] / PADDED)
    head = train_head(train, rate, *fixed, what='keypoint head')
    seen = [head.predict(tokens_of(part)) for part in data.crops('val', size).split(_CHUNK)]
    found, confidences = (torch.cat(part).double().cpu().numpy() for part in zip(*seen, strict=True))
    predicted = to_pixels(found, squares(val))
    scores, each = score(data.val, predicted, confidences.mean(axis=1))
    of_place, _ = score(data.val, mean_places(instances, val), np.ones(len(val)))
    of_each = dict(zip(data.val.kind.names, each.tolist(), strict=True))
    left_out = len(data.train.instances) - len(instances)
    return KeypointResult(scores, of_place, of_each, rate, predicted, left_out)


def score(
    known: KeypointAnnotations, predicted: np.ndarray, confidences: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """The scores of predictions for all instances, see :class:`KeypointResult`, and PCK of each keypoint.

    Args:
        known: the annotations.
        predicted: (M, K, 2) in pixels.
        confidences: (M,) of the instances.
    """
    points = np.stack([one.keypoints for one in known.instances])
    boxes = np.array([one.box for one in known.instances])
    shares = [pck(predicted, points, boxes, alpha) for alpha in ALPHAS]
    ids = [one.id for one in known.instances]
    precision = oks_average_precision(known.content, ids, predicted, confidences.tolist(), known.kind.sigmas)
    scores = {f'pck{round(100 * alpha)}': share for alpha, (share, _) in zip(ALPHAS, shares, strict=True)}
    return scores | {name.lower(): precision[name] for name in ('AP', 'AP50', 'AP75')}, shares[0][1]


def mean_places(train: Sequence[KeypointInstance], val: Sequence[KeypointInstance]) -> np.ndarray:
    """(M, K, 2) in pixels of val: the mean places in the boxes of train; the middle for one that is never labeled."""
    points, boxes = np.stack([one.keypoints for one in train]), np.array([one.box for one in train])
    labeled = points[..., 2:] > 0
    places = (points[..., :2] - boxes[:, None, :2]) / boxes[:, None, 2:]
    count = labeled.sum(axis=0)
    mean = np.where(count > 0, np.where(labeled, places, 0.0).sum(axis=0) / np.maximum(count, 1), 0.5)
    other = np.array([one.box for one in val])
    return other[:, None, :2] + mean * other[:, None, 2:]
