"""Distance, entropy and divergence of all blocks of a network, in one pass over the images."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mstkit.analysis.attention_distance import AttentionDistance, uniform_distance
from mstkit.analysis.attention_entropy import AttentionEntropy, log_attention, uniform_entropy
from mstkit.analysis.head_divergence import Divergence, HeadDivergence
from mstkit.analysis.patch_attention import Maps, PatchAttention, patch_attention


class BlockMeasures(NamedTuple):
    """Measures of the attention of one block with N heads.

    Attributes:
        block: index of the block, from 0 over the network.
        stage: index of its stage; 0 for ViT.
        distance: (N,) float64, px.
        entropy: (N,) float64, nats.
        divergence: between the heads, nats.
        uniform_distance: the distance of uniform attention over the patches in reach, px.
        uniform_entropy: likewise, nats.
    """

    block: int
    stage: int
    distance: Tensor
    entropy: Tensor
    divergence: Divergence
    uniform_distance: float
    uniform_entropy: float


class AttentionMeasures:
    """Accumulates measures of all blocks; pass :meth:`update` to ``Network.watch`` as ``on_attention``.

    Only a few numbers per head are kept, not the attention maps.
    """

    def __init__(self) -> None:
        self.blocks: dict[int, _Block] = {}

    def update(self, maps: Maps) -> None:
        """Adds the maps of one block for one batch."""
        patches = patch_attention(maps)
        if maps.block not in self.blocks:
            self.blocks[maps.block] = _Block(maps.stage, patches)
        self.blocks[maps.block].update(patches)

    def result(self) -> list[BlockMeasures]:
        """The measures of all blocks, in the order of the network."""
        return [self.blocks[index].result(index) for index in sorted(self.blocks)]


class _Block:
    def __init__(self, stage: int, patches: PatchAttention) -> None:
        self.stage = stage
        # All batches have the same windows, so the values of uniform attention are computed from the first one.
        self.uniform = uniform_distance(patches), uniform_entropy(patches)
        self.distance, self.entropy, self.divergence = AttentionDistance(), AttentionEntropy(), HeadDivergence()

    def update(self, patches: PatchAttention) -> None:
        logarithm = log_attention(patches.weights)
        self.distance.update(patches)
        self.entropy.update(patches, logarithm)
        self.divergence.update(patches, logarithm)

    def result(self, index: int) -> BlockMeasures:
        found = self.distance.result(), self.entropy.result(), self.divergence.result()
        return BlockMeasures(index, self.stage, *found, *self.uniform)
