"""What a network is seen as: a sequence of blocks, each with tokens and attention."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Block(NamedTuple):
    """One transformer block.

    Attributes:
        index: its place in the network, from 0.
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
        positions: the centers (y, x) in pixels of the tokens that have a place, where they are in the image, also
            in a shifted block: (T - extra, 2) where all windows have the same, else (W, T - extra, 2). Those of
            padding mean nothing.
        extra: how many tokens at the front have no place: class token, distillation token, registers.
        real: (W, T) bool, False where a token is padding, which takes part in the attention all the same; None where
            there is no padding.
        class_token: whether the first token is one, which stands for the image.
    """

    block: int
    stage: int
    weights: Tensor
    positions: Tensor
    extra: int
    real: Tensor | None
    class_token: bool


class PassThrough(nn.Module):
    """Stands where a block was: hands its tokens on. Takes whatever else a block is called with."""

    def forward(self, tokens: Tensor, *args: object, **kwargs: object) -> Tensor:
        return tokens
