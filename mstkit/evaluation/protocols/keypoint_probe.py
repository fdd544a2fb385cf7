"""Linear probe of keypoints on frozen patch tokens: a linear layer gives a map for each keypoint, of where it is.

The maps are interpolated to four times the resolution of the patches, and the softmax over all places of a map is the
probability that the keypoint is there; the loss is the cross-entropy with a Gaussian around the true place. A keypoint
is in one place, which a softmax knows and a squared error of heatmaps (Xiao et al., arXiv 1804.06208) does not: of a
map that is 0 nearly everywhere it rewards a layer for predicting 0. The layer learns from stored tokens of crops that
are not augmented.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mstkit.evaluation.protocols.token_probe import TokenHead, best_rate, hold_out, train_on_tokens

SPREAD = 0.04  # standard deviation of the Gaussian, in sides of the crop
_NEAR = 2.0 * SPREAD  # along each axis from the maximum, where places count for the one that is read


class KeypointTokens(NamedTuple):
    """Tokens and keypoints of crops.

    Attributes:
        tokens: (M, C, h, w), any float type.
        places: (M, K, 2) float32, x and y in sides of the crop, from its left upper corner.
        labeled: (M, K) bool, whether a place is known.
    """

    tokens: Tensor
    places: Tensor
    labeled: Tensor

    def at(self, rows: Tensor) -> KeypointTokens:
        """Some of the crops."""
        return KeypointTokens(*(part[rows] for part in self))


class KeypointHead(TokenHead):
    """A map of each keypoint, of which the softmax over all places is the probability that it is there.

    Args:
        tokens: (M, C, h, w) of the train crops, for mean and standard deviation of the channels.
        keypoints: how many there are.
        seed: of the first weights.
    """

    def predict(self, tokens: Tensor, batch: int = 64) -> tuple[Tensor, Tensor]:
        """Places (M, K, 2) in sides of the crop, and confidences (M, K), see :func:`decode`."""
        with torch.no_grad():
            found = [decode(self.maps(part)) for part in tokens.split(batch)]
        places, confidences = zip(*found, strict=True)
        return torch.cat(places), torch.cat(confidences)


def centers(count: int, device: torch.device) -> Tensor:
    """(count,) centers of equal cells from 0 to 1."""
    return (torch.arange(count, device=device) + 0.5) / count


def place_loss(maps: Tensor, places: Tensor, labeled: Tensor) -> Tensor:
    """Mean cross-entropy between the softmax over places and a Gaussian, over keypoints that are in the crop.

    Args:
        maps: (B, K, H, W) logits.
        places: (B, K, 2), x and y in sides of the crop.
        labeled: (B, K) bool.
    """
    inside = labeled & (places >= 0).all(dim=-1) & (places <= 1).all(dim=-1)
    height, width = maps.shape[-2:]
    across, down = (
        (-((centers(count, maps.device) - places[..., axis, None]) ** 2) / (2 * SPREAD**2)).softmax(dim=-1)
        for axis, count in ((0, width), (1, height))
    )
    # The Gaussian is a product, and its places sum up to 1.
    expected = ((maps * across[:, :, None, :]).sum(dim=-1) * down).sum(dim=-1)
    losses = maps.flatten(2).logsumexp(dim=-1) - expected
    return torch.where(inside, losses, 0.0).sum() / inside.sum().clamp_min(1)


def decode(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Where keypoints are: the mean of the places near the most probable one, weighted by their probability.

    Args:
        maps: (B, K, H, W) logits.

    Returns:
        (B, K, 2) x and y in sides of the crop, and (B, K) the probability that the keypoint is near there.
    """
    height, width = maps.shape[-2:]
    chances = maps.flatten(2).softmax(dim=-1)
    top = chances.argmax(dim=-1)
    x, y = centers(width, maps.device), centers(height, maps.device)
    near_x = (x - x[top % width][..., None]).abs() <= _NEAR
    near_y = (y - y[top // width][..., None]).abs() <= _NEAR
    near = chances.unflatten(2, (height, width)) * near_y[..., :, None] * near_x[..., None, :]
    total = near.sum(dim=(-2, -1))
    places = torch.stack([(near.sum(dim=-2) * x).sum(dim=-1), (near.sum(dim=-1) * y).sum(dim=-1)], dim=-1)
    return places / total[..., None], total


def train_head(
    train: KeypointTokens, rate: float, epochs: int, batch: int, seed: int = 0, what: str = ''
) -> KeypointHead:
    """Trains a head, see :func:`mstkit.evaluation.protocols.token_probe.train_on_tokens`."""
    head = KeypointHead(train.tokens, train.places.shape[1], seed).to(train.tokens.device)

    def loss(head: KeypointHead, rows: Tensor) -> Tensor:
        part = train.at(rows)
        return place_loss(head.maps(part.tokens), part.places, part.labeled)

    return train_on_tokens(head, len(train.tokens), loss, rate, epochs, batch, seed, what)


def choose_rate(
    train: KeypointTokens, rates: Sequence[float], epochs: int, batch: int, seed: int, held_out: float, limit: float
) -> tuple[float, dict[float, float]]:
    """The learning rate whose head finds most keypoints of held-out train crops, and the percent missed at each.

    Args:
        train: tokens and keypoints.
        rates: the learning rates.
        epochs: over the crops.
        batch: crops.
        seed: of weights, order and held-out crops.
        held_out: share of the crops.
        limit: how far from its place a keypoint is found, in sides of the crop.
    """
    rows = hold_out(len(train.tokens), held_out, seed)
    held, kept = (train.at(part.to(train.tokens.device)) for part in rows)

    def error_of(rate: float) -> float:
        found, _ = train_head(kept, rate, epochs, batch, seed).predict(held.tokens)
        if not bool(found.isfinite().all()):
            return math.nan
        missed = (found - held.places).norm(dim=-1) > limit
        return 100.0 * float((missed & held.labeled).sum()) / max(float(held.labeled.sum()), 1.0)

    return best_rate(rates, error_of, 'keypoint heads')
