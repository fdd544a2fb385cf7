"""Blocks of a network and their attention, the data types that :class:`Network` passes to callbacks."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Block(NamedTuple):
    """One transformer block.

    Attributes:
        index: its index in the network, from 0.
        stage: the stage of a Swin, from 0; always 0 in a ViT.
        module: the block itself.
    """

    index: int  # type: ignore[assignment]
    stage: int
    module: nn.Module


class AttentionMaps(NamedTuple):
    """The attention of one block for one batch of B images. T tokens attend to each other in each of W windows.

    Attributes:
        block: index of the block in the network.
        stage: its stage.
        weights: (W, N, T, T) float32, [window, head, query, key], softmaxed over the keys. W is B for a ViT and
            B * windows for a Swin, all windows of the first image first.
        positions: centers (y, x) in pixels, in the (unshifted) image, of the patch tokens: (T - extra, 2) for a ViT,
            (W, T - extra, 2) for a Swin. Positions of padding are meaningless.
        extra: number of tokens at the front without a position: class token, distillation token, registers.
        real: (W, T) bool, False for padding tokens, which take part in the attention nevertheless; None without
            padding.
        class_token: whether the first token is a class token.
        grid: (h, w) of the patches of an image; None where only their positions are known.
    """

    block: int
    stage: int
    weights: Tensor
    positions: Tensor
    extra: int
    real: Tensor | None
    class_token: bool
    grid: tuple[int, int] | None = None


class PassThrough(nn.Module):
    """Replaces a dropped block: returns its input tokens and ignores all other arguments."""

    def forward(self, tokens: Tensor, *args: object, **kwargs: object) -> Tensor:
        return tokens
