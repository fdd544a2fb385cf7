"""Linear probe of depth on frozen patch tokens, after DINOv2 (Oquab et al., arXiv 2304.07193, section 7.4).

A linear layer gives each patch a weight for each of 256 depths; their weighted mean is its depth. Unlike DINOv2's the
layer learns from stored tokens of images that are not augmented, by the scale-invariant loss alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mstkit.evaluation.protocols.token_probe import UPSAMPLED, TokenHead, best_rate, hold_out, train_on_tokens

BINS = 256
THRESHOLD = 1.25  # of the ratio of two depths
_VARIANCE = 0.85  # share of the mean's square that the loss forgives


class DepthTokens(NamedTuple):
    """Tokens and depth of images.

    Attributes:
        tokens: (M, C, h, w), any float type.
        depth: (M, H, W) float32, 0 where it is unknown.
    """

    tokens: Tensor
    depth: Tensor

    def at(self, rows: Tensor) -> DepthTokens:
        """Some of the images."""
        return DepthTokens(self.tokens[rows], self.depth[rows])


class DepthHead(TokenHead):
    """Depth of every patch: a linear layer with an output for each of the depths.

    Args:
        tokens: (M, C, h, w) of the train images, for mean and standard deviation of the channels.
        farthest: the largest depth; the smallest is a thousandth of it.
        seed: of the first weights.
    """

    depths: Tensor

    def __init__(self, tokens: Tensor, farthest: float, seed: int = 0) -> None:
        super().__init__(tokens, BINS, seed)
        self.register_buffer('depths', torch.linspace(farthest / 1000, farthest, BINS))

    def forward(self, tokens: Tensor) -> Tensor:
        """Depth on a grid that is ``UPSAMPLED`` times as fine.

        Args:
            tokens: (B, C, h, w).

        Returns:
            (B, 4h, 4w) float32.
        """
        weights = self.maps(tokens).relu() + 0.1
        return (weights * self.depths[:, None, None]).sum(dim=1) / weights.sum(dim=1)

    def predict(self, tokens: Tensor, size: tuple[int, int], batch: int = 16) -> Tensor:
        """Depth of all pixels, (M, H, W) float32."""
        with torch.no_grad():
            coarse = torch.cat([self(part) for part in tokens.split(batch)])
        return functional.interpolate(coarse[:, None], size, mode='bilinear', align_corners=False)[:, 0]


def scale_invariant(depth: Tensor, known: Tensor) -> Tensor:
    """The scale-invariant loss of Eigen et al. (arXiv 1406.2283): sqrt(mean(d²) − 0.85 · mean(d)²), d = ln p − ln t.

    Args:
        depth: predicted, any shape, above 0.
        known: of the same shape, 0 where it is unknown.
    """
    seen = known > 0
    apart = torch.where(seen, depth.log() - known.clamp_min(1e-6).log(), 0.0)
    count = seen.sum().clamp_min(1)
    mean = apart.sum() / count
    return ((apart * apart).sum() / count - _VARIANCE * mean * mean + 1e-6).sqrt()


def train_head(
    train: DepthTokens, rate: float, epochs: int, batch: int, farthest: float, seed: int = 0, what: str = ''
) -> DepthHead:
    """Trains a head with AdamW, the learning rate falling to 0 along a cosine.

    Args:
        train: tokens and depth.
        rate: the learning rate.
        epochs: over the images.
        batch: images.
        farthest: see :class:`DepthHead`.
        seed: of the weights and the order.
        what: for the progress bar; none if empty.
    """
    head = DepthHead(train.tokens, farthest, seed).to(train.tokens.device)
    grid = tuple(side * UPSAMPLED for side in train.tokens.shape[-2:])
    # Of the cells of the finer grid, the depth of the pixel in the middle.
    known = functional.interpolate(train.depth[:, None], grid, mode='nearest-exact')[:, 0]

    def loss(head: DepthHead, rows: Tensor) -> Tensor:
        return scale_invariant(head(train.tokens[rows]), known[rows])

    return train_on_tokens(head, len(known), loss, rate, epochs, batch, seed, what)


def choose_rate(
    train: DepthTokens, rates: Sequence[float], epochs: int, batch: int, farthest: float, seed: int, held_out: float
) -> tuple[float, dict[float, float]]:
    """The learning rate whose head has the smallest error (rmse) on held-out train images, and the errors of all."""
    rows = hold_out(len(train.depth), held_out, seed)
    held, kept = (train.at(part.to(train.depth.device)) for part in rows)

    def error_of(rate: float) -> float:
        head = train_head(kept, rate, epochs, batch, farthest, seed)
        found = head.predict(held.tokens, tuple(held.depth.shape[-2:]), batch)  # type: ignore[arg-type]
        return scores(found, held.depth)['rmse']

    return best_rate(rates, error_of, 'depth heads')


def scores(depth: Tensor, known: Tensor) -> dict[str, float]:
    """The usual measures of depth, each the mean over images of that over an image's known pixels.

    Args:
        depth: (M, H, W), predicted.
        known: (M, H, W), 0 where it is unknown; images without any known pixel do not count.

    Returns:
        ``rmse`` in meters; ``abs_rel``, mean of ``abs(p − t) / t``; ``d1``, ``d2``, ``d3``, percent of the pixels whose
        ratio of the larger to the smaller of p and t is below 1.25, 1.25² and 1.25³.
    """
    seen = known > 0
    has = seen.flatten(1).any(dim=1)
    depth, known, seen = depth[has].double(), known[has].double(), seen[has]
    truth = torch.where(seen, known, 1.0)
    ratio = torch.maximum(depth / truth, truth / depth)

    def mean(values: Tensor) -> Tensor:
        return torch.where(seen, values, 0.0).flatten(1).sum(dim=1) / seen.flatten(1).sum(dim=1)

    found: Mapping[str, Tensor] = {
        'rmse': mean((depth - truth) ** 2).sqrt(),
        'abs_rel': mean((depth - truth).abs() / truth),
        **{f'd{power}': 100.0 * mean((ratio < THRESHOLD**power).double()) for power in (1, 2, 3)},
    }
    return {name: float(values.mean()) for name, values in found.items()}
