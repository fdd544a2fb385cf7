"""What linear probes of stored patch tokens have in common: a layer, its training, the choice of a learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mstkit.errors import UsageError
from mstkit.utils.progress_bar import track

UPSAMPLED = 4  # cells per patch along a side, on which maps are learned
_BETAS = (0.9, 0.999)


class TokenHead(nn.Module):
    """Maps of patch tokens: channels standardized, then a linear layer, then bilinear interpolation.

    Args:
        tokens: (M, C, h, w) of the train images, for mean and standard deviation of the channels.
        outputs: number of maps.
        seed: of the first weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, tokens: Tensor, outputs: int, seed: int = 0) -> None:
        super().__init__()
        rows = tokens.float().movedim(1, -1).flatten(0, 2)
        self.register_buffer('mean', rows.mean(dim=0))
        self.register_buffer('std', rows.std(dim=0).clamp_min(1e-6))
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.linear = nn.Linear(len(self.mean), outputs)
            nn.init.normal_(self.linear.weight, std=0.01)
            nn.init.zeros_(self.linear.bias)

    def maps(self, tokens: Tensor) -> Tensor:
        """The outputs on a grid that is ``UPSAMPLED`` times as fine: (B, C, h, w) to (B, outputs, 4h, 4w) float32."""
        rows = (tokens.float().movedim(1, -1) - self.mean) / self.std
        # Bilinear maps of the outputs are those of the tokens: both are linear, and there are fewer outputs.
        return functional.interpolate(
            self.linear(rows).movedim(-1, 1), scale_factor=UPSAMPLED, mode='bilinear', align_corners=False
        )


Head = TypeVar('Head', bound=TokenHead)


def train_on_tokens(
    head: Head,
    count: int,
    loss: Callable[[Head, Tensor], Tensor],
    rate: float,
    epochs: int,
    batch: int,
    seed: int = 0,
    what: str = '',
) -> Head:
    """Trains a head with AdamW, the learning rate falling to 0 along a cosine, and freezes it.

    Args:
        head: on the device of the tokens.
        count: of train images.
        loss: of the head on some rows of the train images.
        rate: the learning rate.
        epochs: over the images.
        batch: images.
        seed: of the order.
        what: for the progress bar; none if empty.
    """
    order = torch.Generator().manual_seed(seed)
    steps = epochs * math.ceil(count / batch)
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, betas=_BETAS, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in track(range(epochs), epochs, what) if what else range(epochs):
        for rows in torch.randperm(count, generator=order).to(head.mean.device).split(batch):
            value = loss(head, rows)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
    return head.requires_grad_(False)


def hold_out(count: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of ``count`` that are held out, about ``share`` of them, and the other ones; both have one at least."""
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held = min(max(1, round(share * count)), count - 1)
    return shuffled[:held].sort().values, shuffled[held:].sort().values


def best_rate(
    rates: Sequence[float], error_of: Callable[[float], float], what: str
) -> tuple[float, dict[float, float]]:
    """The learning rate with the smallest error, the smaller one of two that are equal, and the errors of all.

    Args:
        rates: the learning rates.
        error_of: trains a head at a rate, and gives its error.
        what: a head, for the message.

    Raises:
        UsageError: no error is finite.
    """
    errors = {rate: error_of(rate) for rate in track(list(rates), len(rates), 'learning rates')}
    best = min(errors, key=lambda rate: (math.inf if math.isnan(errors[rate]) else errors[rate], rate))
    if not math.isfinite(errors[best]):
        raise UsageError(f'the {what} of all learning rates ({", ".join(map(str, rates))}) are not finite.')
    return best, errors
