"""Base class of targets: the values or ids of each patch that masked prediction predicts."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from mstkit.models.backbones import MaskedBackbone
from mstkit.models.building import build_of_kind
from mstkit.structures import Read, TokenOutput
from mstkit.utils.checks import check_size


class Target(nn.Module):
    """Computes, from the unmasked images, what is to be predicted for each patch.

    A subclass sets :attr:`dims` and implements :meth:`forward`. A target is not trained: it always stays in evaluation
    mode, and its parameters, if any, have no gradient.

    Args:
        patch_size: side of a patch in pixels; defaults to the stride of the student's backbone.

    Attributes:
        dims: D, the number of values per patch, or of different ids if ``discrete``.
        shows_images: whether ``to_images`` of a perfect prediction is the image itself; if not, panels show the target
            beside the prediction.
        shown_with: what ``to_images`` takes from the true patches instead of the prediction, in two or three words for
            the title of a panel; empty for nothing.
        discrete: whether the target of a patch is an id, for a cross-entropy, instead of D values.
        teacher_needs: the tokens of the method's teacher that the target is computed from; None for no teacher.
        teacher_layers: how many of the outputs of the teacher's last blocks it is computed from, as ``layers`` of the
            teacher's tokens; with ``teacher_needs``, of which 'pooled' is the least.
    """

    dims: int
    shows_images: ClassVar[bool] = False
    shown_with: str = ''
    discrete: ClassVar[bool] = False
    teacher_needs: ClassVar[Read | None] = None
    teacher_layers: int = 0

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = check_size(f'{type(self).__name__}.patch_size', patch_size, high=1024)

    @abstractmethod
    def forward(self, images: Tensor, grid: tuple[int, int], teacher: TokenOutput | None = None) -> Tensor:
        """Computes the targets; called without gradient.

        Args:
            images: (B, 3, H, W), normalized, unmasked.
            grid: (h, w) of the patches, h * patch_size = H and w * patch_size = W; L = h * w.
            teacher: the teacher's tokens of the images, for a target with ``teacher_needs``.

        Returns:
            (B, L, D) float32, or (B, L) int64 ids in 0..D-1 if ``discrete``; patches row-major.
        """

    def prepare(self, backbone: MaskedBackbone) -> None:
        """Receives the student's backbone, once, before :attr:`dims` is read; raises UsageError if it does not fit."""

    def check_grid(self, grid: tuple[int, int]) -> None:
        """Refuses a grid of the student's patches that the target cannot be computed on. Raises UsageError."""

    def set_normalization(self, mean: Tensor, std: Tensor) -> None:
        """Receives the normalization of the images, so that a target can compute pixels: ``images * std + mean``.

        Args:
            mean: (3,) or (1,), of the channels, on the scale 0..255.
            std: likewise.
        """

    def to_images(self, predicted: Tensor, images: Tensor, grid: tuple[int, int]) -> Tensor | None:
        """Visualizes a prediction as images; None for a target that cannot be shown.

        Args:
            predicted: (B, L, D).
            images: (B, 3, H, W), normalized, the images whose patches were predicted.
            grid: (h, w).

        Returns:
            (B, 3, H, W), normalized like ``images``, or None.
        """
        return None

    def train(self, mode: bool = True) -> Target:
        """Stays in evaluation mode."""
        return super().train(False)


def build_target(target: dict | Target, **sizes: Any) -> Target:
    """Builds a target from its config, freezes it and puts it into evaluation mode.

    Args:
        target: a component, or its config.
        sizes: defaults for arguments that the config leaves out.

    Raises:
        UsageError: a component that is no target.
    """
    built = build_of_kind(target, Target, 'a target of a masked prediction', **sizes)  # type: ignore[type-abstract]
    return built.requires_grad_(False).eval()
