"""Forward passes of lightly's methods, put together as its examples do it; for its steps and for its trainings."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightly.models import utils
from torch import Tensor, nn


class IBOTOutputs(NamedTuple):
    """What iBOT's losses are of.

    Attributes:
        targets: (2B, K) logits of the teacher's class tokens, view by view.
        logits: (V*B, K) of the student's, the global views first.
        hidden: (H, K) logits of the teacher's tokens in hidden places.
        predicted: (H, K) of the student's.
        blocks: (2B, h, w) bool, the hidden patches.
    """

    targets: Tensor
    logits: Tensor
    hidden: Tensor
    predicted: Tensor
    blocks: Tensor


def ibot_forward(
    student: nn.Module,
    teacher: nn.Module,
    heads: tuple[nn.Module, nn.Module],
    views: list[Tensor],
    patch: int,
    phase: Callable[[str], Any] = contextlib.nullcontext,
) -> IBOTOutputs:
    """Global views together, local views together; of patches, only hidden ones reach the head.

    Args:
        student: lightly's around timm's ViT.
        teacher: likewise.
        heads: the student's and the teacher's, for class tokens and patches.
        views: normalized, two global ones first.
        patch: side of a patch in px.
        phase: makes a context of ``masker``, ``teacher`` and ``student``, whose time is measured.
    """
    head, teacher_head = heads
    images, crops = torch.cat(views[:2]), torch.cat(views[2:])
    with phase('masker'):
        grid = images.shape[-1] // patch
        blocks = utils.random_block_mask(size=(len(images), grid, grid), device=images.device)
        mask = torch.cat([blocks.new_zeros(len(images), 1), blocks.flatten(1)], dim=1)
    with phase('teacher'), torch.no_grad():
        seen = teacher.encode(images)  # type: ignore[operator]
        targets, hidden = teacher_head(seen[:, 0]), teacher_head(seen[mask])
    with phase('student'):
        tokens = student.encode(images, mask=mask)  # type: ignore[operator]
        logits = torch.cat([head(tokens[:, 0]), head(student.encode(crops)[:, 0])])  # type: ignore[operator]
        predicted = head(tokens[mask])
    return IBOTOutputs(targets, logits, hidden, predicted, blocks)


def mae_forward(encoder: Any, decoder: Any, images: Tensor, ratio: float, patch: int) -> tuple[Tensor, Tensor]:
    """Only hidden patches go through the decoder's last layer.

    Args:
        encoder: lightly's around timm's ViT.
        decoder: lightly's.
        images: normalized, (B, 3, S, S).
        ratio: share of the patches to hide.
        patch: side of a patch in px.

    Returns:
        Predicted values and pixels of the hidden patches, (B, H, 3 * patch^2) each.
    """
    size = (len(images), encoder.sequence_length)
    kept, hidden = utils.random_token_mask(size=size, mask_ratio=ratio, device=images.device)
    seen = decoder.embed(encoder.encode(images=images, idx_keep=kept))
    whole = utils.set_at_index(utils.repeat_token(decoder.mask_token, size), kept, seen.type_as(decoder.mask_token))
    predicted = decoder.predict(utils.get_at_index(decoder.decode(whole), hidden))
    return predicted.float(), utils.get_at_index(utils.patchify(images, patch), hidden - 1)  # without the class token


class MeanOfPatches(nn.Module):
    """The mean of the patches after the final norm, (B, C)."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Of normalized images (B, 3, S, S)."""
        return self.backbone.encode(images)[:, 1:].mean(dim=1)
