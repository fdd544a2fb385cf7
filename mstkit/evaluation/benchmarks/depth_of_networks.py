"""How well a linear layer reads depth out of the frozen patch tokens of a network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mstkit.datasets.depth_pairs import find_pairs
from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.depth_images import DepthImages, read_pairs
from mstkit.evaluation.benchmarks.layer_tokens import check_probe, drawn_rows, layer_tokens
from mstkit.evaluation.evaluated_network import FrozenNetwork
from mstkit.evaluation.protocols.depth_probe import DepthTokens, choose_rate, scores, train_head
from mstkit.utils.checks import check_number

RATES = (1e-3, 1e-2)


class DepthProtocol(NamedTuple):
    """The settings of the probe.

    Attributes:
        layers: how many blocks give tokens, equally spaced, the last one among them: 1 or 4 in DINOv2.
        size: side in pixels of the middle square that is seen; None for the network's.
        units: of the depth files, in a meter; None for 256 in KITTI's layout, else 1000 of whole numbers, and 1 of
            floats.
        farthest: the largest depth; farther pixels are unknown. None for the largest of the train images.
        rates: learning rates, of which held-out train images choose one.
        epochs: over the train images.
        batch_size: images in a step of the probe.
        held_out: share of the train images that choose the learning rate; then the head learns from all of them.
        most: train images that are used at most, drawn by the seed.
    """

    layers: int = 1
    size: int | None = None
    units: float | None = None
    farthest: float | None = None
    rates: Sequence[float] = RATES
    epochs: int = 10
    batch_size: int = 16
    held_out: float = 0.2
    most: int = 2000

    def check(self, where: str) -> None:
        """Raises UsageError for a setting out of range; ``where`` is the beginning of their names."""
        check_probe(where, self.layers, self.size, self.rates, self.epochs, self.batch_size, self.held_out, self.most)
        for name in ('units', 'farthest'):
            if (value := getattr(self, name)) is not None:
                check_number(f'{where}{name}', value, 1e-6, 1e9)


class DepthResult(NamedTuple):
    """What was measured of a network.

    Attributes:
        scores: of :func:`~mstkit.evaluation.protocols.depth_probe.scores`, on the val images.
        of_place: the same for the mean depth of the train images at each place, which looks at no image.
        rate: the learning rate.
        predicted: (M, S, S), depth of the val images.
        val: the val images.
        left_out: train images beyond ``most``.
    """

    scores: dict[str, float]
    of_place: dict[str, float]
    rate: float
    predicted: Tensor
    val: DepthImages
    left_out: int


class DepthData:
    """A folder of images with depth, opened once for several networks.

    Args:
        root: see :mod:`mstkit.datasets.depth_pairs`.
        splits: to learn from, and to judge.

    Raises:
        UsageError: the folder has another layout, or fewer than two images to learn from.
    """

    def __init__(self, root: str | os.PathLike[str], splits: tuple[str, str] = ('train', 'val')) -> None:
        self.root, self.splits = root, splits
        train, val = (find_pairs(root, split) for split in splits)
        self.train, self.val, self.units = train.pairs, val.pairs, train.units
        if len(self.train) < 2:
            raise UsageError(f'{root} has a single image to learn depth from: give two or more in images/{splits[0]}.')
        self._read: dict[tuple[str, int, float | None, int, int], DepthImages] = {}

    def images(self, split: str, size: int, units: float | None, most: int = 0, seed: int = 0) -> DepthImages:
        """The images of a split at a size; of more than ``most`` so many, drawn by the seed (0 for all)."""
        pairs = self.train if split == self.splits[0] else self.val
        units = self.units if units is None else units
        if most:
            pairs = [pairs[row] for row in drawn_rows(len(pairs), most, seed)]
        key = (split, size, units, most, seed)
        if key not in self._read:
            self._read[key] = read_pairs(pairs, size, units, f'{split} images with depth')
        return self._read[key]


def measure_depth(
    network: FrozenNetwork,
    data: DepthData,
    protocol: DepthProtocol,
    device: torch.device | str = 'cpu',
    seed: int = 0,
    batch_size: int = 64,
) -> DepthResult:
    """Trains a linear layer on the train images' tokens, and judges it on the val images.

    Args:
        network: on ``device``.
        data: the images.
        protocol: see :class:`DepthProtocol`.
        device: to compute on.
        seed: of the weights, the order and the held-out images.
        batch_size: images in a forward pass of the network.

    Raises:
        UsageError: a file that cannot be read, or more layers than the network has.
    """
    size = network.image_size if protocol.size is None else protocol.size
    train = data.images(data.splits[0], size, protocol.units, protocol.most, seed)
    val = data.images(data.splits[1], size, protocol.units)
    farthest = float(train.depth.max()) if protocol.farthest is None else protocol.farthest
    known, truth = (torch.where(part.depth <= farthest, part.depth, 0.0) for part in (train, val))
    if not bool((truth > 0).any()):
        raise UsageError(f'no depth of {data.root}/annotations/{data.splits[1]} is known up to {farthest:g} m.')

    def tokens_of(images: Tensor) -> Tensor:
        return layer_tokens(network, images, protocol.layers, 'depth.', device, batch_size)

    tokens = DepthTokens(tokens_of(train.images), known.to(device))
    fixed = (protocol.epochs, protocol.batch_size, farthest, seed)
    rate = protocol.rates[0]
    if len(protocol.rates) > 1:
        rate, _ = choose_rate(tokens, protocol.rates, *fixed, protocol.held_out)
    head = train_head(tokens, rate, *fixed, what='depth head')
    predicted = head.predict(tokens_of(val.images), (size, size), protocol.batch_size)
    predicted = predicted.clamp(farthest / 1000, farthest).cpu()
    of_place = scores(_mean_at_each_place(known).expand_as(truth), truth)
    left_out = max(0, len(data.train) - protocol.most)
    return DepthResult(scores(predicted, truth), of_place, rate, predicted, val, left_out)


def _mean_at_each_place(known: Tensor) -> Tensor:
    """(S, S): the mean of the known depths there; where none is, that of all."""
    count = (known > 0).sum(dim=0)
    return torch.where(count > 0, known.sum(dim=0) / count.clamp_min(1), known.sum() / (known > 0).sum())
