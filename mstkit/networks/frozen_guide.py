"""A trained network that guides a masker and is not trained further."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models.guides import Guide, GuidedParts
from mstkit.models.maskers import Masker
from mstkit.networks.attention_maps import received_attention
from mstkit.networks.frozen_network import FrozenNetwork, resized
from mstkit.networks.network_blocks import AttentionMaps
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput

if TYPE_CHECKING:  # for annotations only
    from mstkit.models import Pretrainer


@MODELS.register_module()
class FrozenGuide(FrozenNetwork, Guide):
    """A checkpoint of mstkit, or a network of timm or mmpretrain, in evaluation mode and without gradient.

    It lives in this room and not beside the other guides, because opening networks is this room's work. Its weights are
    not in the checkpoints of the run, see :class:`FrozenNetwork`.

    Images are normalized and resized as the network wants them (bilinear, antialiased), and its map is resized to the
    student's grid.

    Args:
        source: as :func:`mstkit.networks.open_networks` takes it: ``FILE.pth``, ``timm:NAME@FILE``,
            ``mmpretrain:NAME@FILE`` … Without a file of weights a named network is random.
        branch: 'student' or 'teacher' of a checkpoint of mstkit; None is the teacher where there is one.
        score: see :class:`Guide`; None is 'class_token' where the network has a class token, whatever the method is.

    Raises:
        UsageError: the source cannot be opened; on resuming, its weights are not those of before.
    """

    reads_backbone = False
    purpose = 'that guided the run of this checkpoint'

    def __init__(self, source: str, branch: str | None = None, score: str | None = None) -> None:
        super().__init__(score)
        self.set_source(source, branch)
        self.open()

    def prepare(self, parts: GuidedParts) -> None:
        """See :meth:`Guide.prepare`."""
        super().prepare(parts._replace(score='class_token'))
        self.normalization = parts.normalization
        count = len(self.network.blocks)
        for part in parts.masker.parts():
            if part.needs_scores and not -count <= part.layer <= -1:
                raise UsageError(
                    f'{type(part).__name__}.layer is {part.layer}, and {self.network.name} has {count} blocks: give '
                    f'one of -{count} to -1'
                )

    @torch.no_grad()
    def encode(self, model: Pretrainer, images: Tensor, masker: Masker) -> TokenOutput:
        """See :meth:`Guide.encode`."""
        network, grid = self.network.to(images.device), model.backbone.grid_of(images)
        found: list[AttentionMaps] = []
        watched = network.watch(
            resized(self.renormalized(images), (network.image_size, network.image_size)),
            on_attention=found.append if masker.needs_scores else None,
            blocks=(masker.layer,),
        )
        attention = None
        if masker.needs_scores:
            attention = resized(received_attention(found[0], self.score), grid).flatten(2)
        tokens = watched.patch_tokens.transpose(1, 2).unflatten(2, watched.grid)  # (B, C, h', w')
        return TokenOutput(resized(tokens, grid).flatten(2).transpose(1, 2), watched.pooled, grid, attention)
