"""The passes of a method's encoders: the student's over masked images, the teacher's over whole ones."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from mstkit.models.backbones import MaskedBackbone
from mstkit.models.backbones.masked_backbone import faded, inner_layers
from mstkit.models.weight_casts import WeightCasts
from mstkit.structures import Read, TokenOutput, VisibleOutput


class EncoderPasses:
    """Mixin of :class:`Pretrainer`.

    Attributes:
        backbone: the student's.
        teacher: the :class:`MomentumTeacher`, or None.
        mask_token: (C,) [MASK] embedding; None where nothing is replaced by it.
    """

    backbone: MaskedBackbone
    teacher: Any
    mask_token: nn.Parameter | None

    @cached_property
    def weight_casts(self) -> WeightCasts:
        """How a step's weights get to the precision in which they are multiplied."""
        return WeightCasts(cast(nn.Module, self))

    @torch.no_grad()
    def teacher_forward(
        self, images: Tensor, attention: bool | str, layer: int = -1, read: Read = 'all', layers: int = 0
    ) -> TokenOutput:
        """The teacher's tokens of images (B, 3, H, W); on request block ``layer``'s attention, and inner ``layers``."""
        return self.teacher.backbone.forward_tokens(images, None, attention, None, layer, read, **inner_layers(layers))

    def student_forward(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        read: Read = 'all',
        layers: int = 0,
        visibility: Tensor | None = None,
    ) -> TokenOutput:
        """Encodes images (B, 3, H, W) with the student, hidden patches (B, h, w) replaced by the [MASK] embedding.

        With ``visibility`` the others are mixed with it, see :meth:`MaskedBackbone.forward_tokens`.
        """
        more = {**inner_layers(layers), **faded(visibility)}
        return self.backbone.forward_tokens(images, mask, mask_token=self.mask_token, read=read, **more)

    def student_forward_visible(
        self, images: Tensor, mask: Tensor | None, layers: int = 0, visibility: Tensor | None = None
    ) -> VisibleOutput:
        """Encodes only the visible patches of images (B, 3, H, W) with the student; all patches without a mask.

        With ``visibility`` their embeddings are multiplied by it, see :meth:`MaskedBackbone.forward_visible`.
        """
        if mask is None:
            mask = torch.zeros((len(images), *self.backbone.grid_of(images)), dtype=torch.bool, device=images.device)
        gaps: dict[str, Any] = {} if self.mask_token is None else dict(mask_token=self.mask_token)
        return self.backbone.forward_visible(images, mask, **inner_layers(layers), **faded(visibility), **gaps)
