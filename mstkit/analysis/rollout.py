"""Attention rollout: the flow of information from input tokens through all blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from mstkit.analysis.patch_attention import Maps
from mstkit.errors import UsageError


class AttentionRollout:
    """The product of the attention of all blocks (Abnar & Zuidema, arXiv 2005.00928, section 3).

    Each block multiplies by R = (residual · I + (1 - residual) · A) R, where A is the attention, mean over heads, and
    the identity stands for the skip connection. Pass :meth:`update` to ``Network.watch`` as ``on_attention``; only
    (B, T, T) is kept.

    Args:
        residual: share of the skip connection, 0 to 1; 0.5 in the paper.
    """

    def __init__(self, residual: float = 0.5) -> None:
        if not 0 <= residual <= 1:
            raise UsageError(f'rollout with residual {residual!r}: it is a share, from 0 to 1.')
        self.residual = residual
        self.rolled: Tensor | None = None

    def update(self, maps: Maps) -> None:
        """Multiplies by the attention of the next block.

        Raises:
            UsageError: the block has windows (Swin).
        """
        if maps.positions.ndim != 2 or maps.real is not None:
            raise UsageError(
                'attention rollout needs blocks in which every token sees every other, as in ViT; '
                f'block {maps.block + 1} of this network has windows.'
            )
        attention = maps.weights.float().mean(dim=1)
        eye = torch.eye(attention.shape[-1], device=attention.device)
        step = self.residual * eye + (1 - self.residual) * attention
        self.rolled = step.expand_as(attention) if self.rolled is None else step @ self.rolled

    def result(self) -> Tensor:
        """(B, T, T) float32: the share of each input token (column) in each output token (row); rows sum to one."""
        if self.rolled is None:
            raise ValueError('no attention was added')
        return self.rolled
