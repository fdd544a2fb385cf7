"""Propagates the labels of a video's first frame to the others by the similarity of patch tokens, without training.

The protocol of DINO (arXiv 2104.14294, section 4.2.2), which is that of Jabri et al. (arXiv 2006.14613): each patch
gets the labels of the most similar patches in its neighborhood, in the first frame and in the last few.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mstkit.utils.checks import check_count, check_number


class Propagation(NamedTuple):
    """The settings of the protocol.

    Attributes:
        frames: number of previous frames whose labels are used, besides the first one.
        radius: in patches; a patch is compared with the square of 2 * radius + 1 patches around its position.
        neighbors: number of most similar patches, over all those frames, whose labels are averaged.
        temperature: of the weights, exp(cosine / temperature).
    """

    frames: int = 7
    radius: int = 12
    neighbors: int = 5
    temperature: float = 0.1

    def check(self) -> None:
        """Refuses settings out of range; raises UsageError."""
        for name, lowest in (('frames', 0), ('radius', 0), ('neighbors', 1)):
            check_count(f'{name} of the propagation', getattr(self, name), lowest)
        check_number('temperature of the propagation', self.temperature, above=0)


DINO = Propagation()


def follow(maps: Iterable[Tensor], first: Tensor, settings: Propagation = DINO) -> Iterator[Tensor]:
    """Propagates labels through a video.

    Args:
        maps: patch tokens of each frame, (h, w, C), beginning with the first; consumed one by one.
        first: labels of the first frame, (h, w, K), one-hot or soft.
        settings: of the protocol.

    Yields:
        Soft labels, (h, w, K), of each frame after the first.
    """
    settings.check()
    frames = (functional.normalize(tokens.float(), dim=-1) for tokens in maps)
    start = next(frames)
    recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=settings.frames)
    for tokens in frames:
        sources, labels = zip((start, first), *recent, strict=True)
        carried = propagate(tokens, sources, labels, settings)
        recent.append((tokens, carried))
        yield carried


def propagate(
    tokens: Tensor, sources: Sequence[Tensor], labels: Sequence[Tensor], settings: Propagation = DINO
) -> Tensor:
    """Gives each patch of a frame the weighted mean of the labels of its nearest patches in other frames.

    Only patches in the neighborhood are compared, one row of patches at a time, to bound memory.

    Args:
        tokens: (h, w, C), L2-normalized.
        sources: of the other frames, (h, w, C) each, L2-normalized.
        labels: of the other frames, (h, w, K) each.
        settings: of the protocol.

    Returns:
        (h, w, K).
    """
    height, width, _ = tokens.shape
    column = torch.arange(width, device=tokens.device)
    far = (column[:, None] - column).abs() > settings.radius  # (w, w): columns of queries, columns of sources
    carried = []
    for row in range(height):
        rows = slice(max(0, row - settings.radius), row + settings.radius + 1)
        near = [source[rows].flatten(0, 1) for source in sources]
        cosine = torch.cat([tokens[row] @ part.T for part in near], dim=1)  # (w, frames * rows * w)
        cosine = cosine.view(width, -1, width).masked_fill_(far[:, None], -torch.inf).flatten(1)
        best = cosine.topk(min(settings.neighbors, cosine.shape[1]), dim=1)
        weights = torch.softmax(best.values / settings.temperature, dim=1)
        candidates = torch.cat([part[rows].flatten(0, 1) for part in labels])
        carried.append((weights[..., None] * candidates[best.indices]).sum(dim=1))
    return torch.stack(carried)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """One-hot encoding (h, w, classes) float32 of a label map (h, w) with values 0 to ``classes`` - 1."""
    return functional.one_hot(labels.long(), classes).float()


def hard_labels(soft: Tensor, size: tuple[int, int]) -> Tensor:
    """The label of every pixel.

    The map of each label is upsampled bilinearly and rescaled to 0..1 on its own, so that small objects can win against
    large ones; each pixel gets the label with the highest value.

    Args:
        soft: (h, w, K).
        size: (H, W) in pixels.

    Returns:
        (H, W) int64, 0 to K - 1.
    """
    maps = soft.permute(2, 0, 1)[None]
    enlarged = functional.interpolate(maps, size, mode='bilinear', align_corners=False)[0]
    low, high = enlarged.amin(dim=(1, 2), keepdim=True), enlarged.amax(dim=(1, 2), keepdim=True)
    # A constant map cannot be rescaled and stays as it is.
    stretched = torch.where(high > low, (enlarged - low) / (high - low).clamp(min=1e-12), enlarged)
    return stretched.argmax(dim=0)
