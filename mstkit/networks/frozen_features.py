"""Features of a network that is not trained, as what a masked prediction predicts."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedBackbone
from mstkit.models.targets import Target
from mstkit.networks.frozen_network import FrozenNetwork, resized
from mstkit.networks.network import Network
from mstkit.networks.network_blocks import Block
from mstkit.networks.random_network import random_copy
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput
from mstkit.utils.checks import check_count, check_one_of

RANDOM = 'random'


@MODELS.register_module()
class FrozenFeatures(FrozenNetwork, Target):
    """What a frozen network makes of each patch of the whole image (dBOT, arXiv 2209.03917).

    Like :class:`FrozenGuide` it lives in the room that opens networks, and its weights are not in the checkpoints of
    the run, see :class:`FrozenNetwork`.

    The network's grid of patches is always the student's, and no feature is interpolated: images are resized (bilinear,
    antialiased) to the student's grid times the network's stride. A student of 14×14 patches of 16 px shows a teacher
    with patches of 14 px images of 196 px. A network that takes images of one size alone needs a student of its grid.

    Args:
        patch_size: see :class:`Target`.
        source: 'random', the student's own architecture with random weights of seed 0; or what
            :func:`mstkit.networks.open_networks` takes: ``FILE.pth``, ``timm:NAME@FILE``, ``mmpretrain:NAME@FILE``,
            ``random:CONFIG.py`` … Without a file of weights a named network is random.
        branch: 'student' or 'teacher' of a checkpoint of mstkit; None is the teacher where there is one.
        top: K, of how many blocks, counted from the last, the mean of the outputs is predicted; of a Swin, at most
            those of its last stage.
        norm: 'layer', the D values of each patch of each block to mean 0 and variance 1, without learned parameters
            (dBOT); 'final', through the network's own final norm; 'none', the outputs of the blocks as they are.

    Raises:
        UsageError: the source cannot be opened; more blocks than it has; images of a size that it cannot take; on
            resuming, weights that are not those of before.
    """

    purpose = 'whose features the run of this checkpoint predicted'

    def __init__(
        self,
        patch_size: int,
        source: str = RANDOM,
        branch: str | None = None,
        top: int = 1,
        norm: Literal['layer', 'final', 'none'] = 'layer',
    ) -> None:
        super().__init__(patch_size)
        self.set_source(source, branch)
        self.top = check_count('FrozenFeatures.top', top, 1, 1000)
        self.norm = check_one_of('FrozenFeatures.norm', norm, ('layer', 'final', 'none'))
        if source != RANDOM:
            self.open()
            with torch.no_grad():
                shown = self.network(torch.zeros(1, 3, self.network.image_size, self.network.image_size))
            self._accept(self.network.image_size // shown.grid[0], shown.patch_tokens.shape[-1])

    def prepare(self, backbone: MaskedBackbone) -> None:
        """See :meth:`Target.prepare`; with 'random' makes the network."""
        if self.source == RANDOM:
            # Shown the student's own images: no size or normalization of another network plays a part.
            size = backbone.stride
            self.take(Network(random_copy(backbone), RANDOM, size, (0.0,) * 3, (1.0,) * 3))
            self._accept(backbone.stride, backbone.feature_dims)

    def _accept(self, stride: int, dims: int) -> None:
        """Notes the sizes of the network, C of ``dims`` values per patch of ``stride`` pixels."""
        self.stride, self.dims = stride, dims
        blocks = self.network.blocks
        count = sum(block.stage == blocks[-1].stage for block in blocks)
        if self.top > count:
            raise UsageError(
                f'FrozenFeatures.top is {self.top}, and {self.network.name} has {count} blocks whose output is on its '
                f'last grid: give 1 to {count}'
            )

    def set_normalization(self, mean: Tensor, std: Tensor) -> None:
        """See :meth:`Target.set_normalization`."""
        self.normalization = mean.clone(), std.clone()

    def check_grid(self, grid: tuple[int, int]) -> None:
        """See :meth:`Target.check_grid`: refuses images of a size that the network cannot take."""
        self(torch.zeros(1, 3, grid[0] * self.patch_size, grid[1] * self.patch_size), grid)

    @torch.no_grad()
    def forward(self, images: Tensor, grid: tuple[int, int], teacher: TokenOutput | None = None) -> Tensor:
        """See :meth:`Target.forward`."""
        network, count = self.network.to(images.device), len(self.network.blocks)
        if self.source != RANDOM:
            images = self.renormalized(images)
        shown = resized(images, (grid[0] * self.stride, grid[1] * self.stride))
        made: list[Tensor] = []

        def keep(block: Block, tokens: Tensor) -> None:
            tokens = network.normalized(tokens) if self.norm == 'final' else tokens
            patches = tokens[:, network.extra_tokens :].float()
            made.append(F.layer_norm(patches, patches.shape[-1:]) if self.norm == 'layer' else patches)

        try:
            seen = network.watch(shown, on_tokens=keep, blocks=range(count - self.top, count))
        except (AssertionError, RuntimeError, ValueError) as error:
            if tuple(shown.shape[-2:]) == (network.image_size, network.image_size):
                raise
            raise self._wrong_size(shown, grid) from error
        if seen.grid != grid:
            raise self._wrong_size(shown, grid)
        return sum(made[1:], made[0]) / self.top

    def _wrong_size(self, shown: Tensor, grid: tuple[int, int]) -> UsageError:
        side = self.network.image_size // self.stride
        return UsageError(
            f'FrozenFeatures.source: the {grid[0]}x{grid[1]} patches of the student are images of '
            f'{shown.shape[-2]}x{shown.shape[-1]} px for {self.network.name}, which cannot take them: give the student '
            f'{side}x{side} patches, or take a network that interpolates its positions, such as a checkpoint of mstkit'
        )

    def extra_repr(self) -> str:
        return f'source={self.source!r}, top={self.top}, norm={self.norm}'
