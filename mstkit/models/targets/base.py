"""What a target is: what a masked prediction predicts of each patch."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from mstkit.models.building import build_of_kind
from mstkit.structures import Read, TokenOutput
from mstkit.utils.checks import check_size


class Target(nn.Module):
    """Says of each patch of an image what is to be predicted of it; nothing in it is trained.

    A subclass says how many values that is (:attr:`dims`) and what it needs, and writes :meth:`forward`. It stays in
    evaluation mode whatever the model is in, and its parameters, if it has any, take no gradient.

    Args:
        patch_size: side of a patch in pixels; the stride of the student's backbone, filled in by the objective.

    Attributes:
        dims: D values per patch, or the number of ids where they are ``discrete``.
        shows_images: whether ``to_images`` of a perfect prediction is the image itself; panels show the true target
            beside the prediction where it is not.
        discrete: whether patches have an id each, for a cross-entropy, instead of D values.
        teacher_needs: the tokens of the method's own teacher that it is made of; None where it looks at no teacher.
    """

    dims: int
    shows_images: ClassVar[bool] = False
    discrete: ClassVar[bool] = False
    teacher_needs: ClassVar[Read | None] = None

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = check_size(f'{type(self).__name__}.patch_size', patch_size, high=1024)

    @abstractmethod
    def forward(self, images: Tensor, grid: tuple[int, int], teacher: TokenOutput | None = None) -> Tensor:
        """What is to be predicted; called without gradient.

        Args:
            images: (B, 3, H, W), normalized, whole.
            grid: (h, w) of the patches, h * patch_size = H and w * patch_size = W; L = h * w.
            teacher: what the teacher says of the images, for a target that says ``teacher_needs``.

        Returns:
            (B, L, D) float32, or (B, L) int64 ids below D where they are ``discrete``; patches row-major.
        """

    def set_normalization(self, mean: Tensor, std: Tensor) -> None:
        """Told once how images are normalized, for a target that wants their pixels: ``images * std + mean``, 0 to 255.

        Args:
            mean: (3,) or (1,), of the channels.
            std: likewise.
        """

    def to_images(self, predicted: Tensor, images: Tensor, grid: tuple[int, int]) -> Tensor | None:
        """A prediction as images that a person can look at; None where a target is no part of an image.

        Args:
            predicted: (B, L, D).
            images: (B, 3, H, W), normalized: those whose patches were predicted.
            grid: (h, w).

        Returns:
            (B, 3, H, W), normalized like ``images``, or None.
        """
        return None

    def train(self, mode: bool = True) -> Target:
        """Stays in evaluation mode."""
        return super().train(False)


def build_target(target: dict | Target, **sizes: Any) -> Target:
    """Builds what a config has in the place of a target.

    Args:
        target: a component, or its config.
        sizes: arguments that the config may leave out.

    Raises:
        UsageError: a component that is no target.
    """
    built = build_of_kind(target, Target, 'a target of a masked prediction', **sizes)  # type: ignore[type-abstract]
    return built.requires_grad_(False).eval()
