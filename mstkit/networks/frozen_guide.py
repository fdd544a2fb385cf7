"""A trained network that guides a masker and is not trained further."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models.guides import Guide, GuidedParts
from mstkit.models.maskers import Masker
from mstkit.networks.attention_maps import received_attention
from mstkit.networks.frozen_inputs import fingerprint_of, renormalized, resized
from mstkit.networks.network import Network
from mstkit.networks.network_blocks import AttentionMaps
from mstkit.networks.open_network import open_networks
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput
from mstkit.utils.checks import check_one_of, check_text

if TYPE_CHECKING:  # for annotations only
    from mstkit.models import Pretrainer


@MODELS.register_module()
class FrozenGuide(Guide):
    """A checkpoint of mstkit, or a network of timm or mmpretrain, in evaluation mode and without gradient.

    It lives in this room and not beside the other guides, because opening networks is this room's work. Its weights are
    not in the checkpoints of the run, which would repeat a file that is there: a resumed run opens ``source`` again,
    and the checkpoint's fingerprint of the weights has to be the same.

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
    fingerprint: Tensor

    def __init__(self, source: str, branch: str | None = None, score: str | None = None) -> None:
        super().__init__(score)
        self.source = check_text('FrozenGuide.source', source)
        if branch is not None:
            check_one_of('FrozenGuide.branch', branch, ('student', 'teacher'))
        # In a list, so that its weights are no part of the model: neither saved nor sent to other processes.
        try:
            self._networks = open_networks(source, branch)[-1:]
        except UsageError as error:
            raise UsageError(f'FrozenGuide.source: {error}') from error
        self.register_buffer('fingerprint', fingerprint_of(self.network))
        self._normalization: tuple[Tensor, Tensor] | None = None

    @property
    def network(self) -> Network:
        """The network."""
        return self._networks[0]

    def prepare(self, parts: GuidedParts) -> None:
        """See :meth:`Guide.prepare`."""
        super().prepare(parts._replace(score='class_token'))
        self._normalization = parts.normalization
        count = len(self.network.blocks)
        for part in parts.masker.parts():
            if part.needs_scores and not -count <= part.layer <= -1:
                raise UsageError(
                    f'{type(part).__name__}.layer is {part.layer}, and {self.network.name} has {count} blocks: give '
                    f'one of -{count} to -1'
                )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        found = state_dict.get(f'{prefix}fingerprint')
        if found is not None and not torch.equal(found.cpu(), self.fingerprint.cpu()):
            raise UsageError(
                f'FrozenGuide.source is {self.source!r}, whose weights are not those that guided the run of this '
                'checkpoint: give the source of that run'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    @torch.no_grad()
    def encode(self, model: Pretrainer, images: Tensor, masker: Masker) -> TokenOutput:
        """See :meth:`Guide.encode`."""
        network, grid = self.network.to(images.device), model.backbone.grid_of(images)
        found: list[AttentionMaps] = []
        watched = network.watch(
            resized(renormalized(images, network, self._normalization), (network.image_size, network.image_size)),
            on_attention=found.append if masker.needs_scores else None,
            blocks=(masker.layer,),
        )
        attention = None
        if masker.needs_scores:
            attention = resized(received_attention(found[0], self.score), grid).flatten(2)
        tokens = watched.patch_tokens.transpose(1, 2).unflatten(2, watched.grid)  # (B, C, h', w')
        return TokenOutput(resized(tokens, grid).flatten(2).transpose(1, 2), watched.pooled, grid, attention)
