"""Feature extractors of tokenizers: patch tokens of a frozen network, or whitened raw patches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.registry import MODELS
from mstkit.structures import TokenEncoder
from mstkit.utils.build_errors import build_guard
from mstkit.utils.checks import check_dict, check_list, check_number, check_size
from mstkit.utils.trusted_config import trusted_part
from mstkit.utils.undisturbed import undisturbed_randomness

CHANNELS = 3


class PatchFeatures(nn.Module):
    """Features of the patches of images.

    Attributes:
        dims: D.
        image_size: side in pixels of the square images that it is meant for.
        patch_size: of its own patches at that size, in pixels.
    """

    dims: int
    image_size: int
    patch_size: int

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of its own patches."""
        side = self.image_size // self.patch_size
        return side, side

    @abstractmethod
    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features (B, h * w, D) in float32 of images (B, 3, H, W), RGB, 0 to 255, for an (h, w) grid of patches."""


class RawPatches(PatchFeatures):
    """The whitened pixels of patches: ``(x - mean) @ whitening`` of the values of a patch, 0 to 1.

    The order of the values is row, column, channel. For a grid of patches of another size images are first resized, so
    that a patch has the pixels that the whitening was made for.

    Args:
        patch_size: side of a patch, p; D is 3 * p².
        image_size: what images were brought to when the whitening was made.
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self, patch_size: int, image_size: int) -> None:
        super().__init__()
        self.patch_size = check_size('patch_size of the tokenizer', patch_size, high=64)
        self.image_size = check_size('image_size of the tokenizer', image_size, low=self.patch_size, high=4096)
        self.dims = CHANNELS * self.patch_size**2
        self.register_buffer('mean', torch.zeros(self.dims))
        self.register_buffer('whitening', torch.eye(self.dims))

    def patches(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """The values of patches, 0 to 1: (B, h * w, D)."""
        side = self.patch_size
        images = resized(pixels, (grid[0] * side, grid[1] * side)) / 255
        parts = images.unflatten(2, (-1, side)).unflatten(4, (-1, side))  # (B, 3, h, p, w, p)
        return parts.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """See :meth:`PatchFeatures.forward`."""
        return (self.patches(pixels, grid) - self.mean) @ self.whitening


class NetworkFeatures(PatchFeatures):
    """The patch tokens of a frozen network, after its final norm.

    Images are resized to the square size that the network was trained on. If its grid then differs from the requested
    one, its feature map is resized (bilinear, antialiased).

    Args:
        network: config of the backbone; it comes with the file of a tokenizer, so that it may only name registered
            components and nothing that would be loaded.
        image_size: side in pixels of the network's images.
        mean: of their normalization, a channel each, RGB, on the scale of 0 to 255.
        std: likewise.

    Raises:
        UsageError: a network that cannot be built, or that gives no map of features.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: dict, image_size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        config = trusted_part(check_dict('network of the tokenizer', network), 'network of the tokenizer')
        with undisturbed_randomness(), DefaultScope.overwrite_default_scope('mstkit'), build_guard():
            self.backbone: Any = MODELS.build(config)
        self.image_size = check_size('image_size of the tokenizer', image_size, high=4096)
        for name, values, bounds in (('mean', mean, {}), ('std', std, dict(above=0))):
            numbers = check_list(f'{name} of the tokenizer', values, check_number, **bounds)
            self.register_buffer(name, torch.tensor(numbers).view(1, -1, 1, 1))
        self.eval()
        with torch.no_grad():
            found = self.map(torch.zeros(1, CHANNELS, self.image_size, self.image_size))
        self.dims, self.patch_size = found.shape[1], self.image_size // found.shape[2]

    @property
    def grid(self) -> tuple[int, int]:
        """See :attr:`PatchFeatures.grid`."""
        return self.image_size // self.patch_size, self.image_size // self.patch_size

    def map(self, pixels: Tensor) -> Tensor:
        """Features on the network's own grid, (B, D, h', w')."""
        images = (resized(pixels, (self.image_size, self.image_size)) - self.mean) / self.std
        if isinstance(self.backbone, TokenEncoder):
            seen = self.backbone.forward_tokens(images)
            return seen.patch_tokens.float().transpose(1, 2).unflatten(2, seen.grid)
        output = self.backbone(images)
        while isinstance(output, tuple | list) and output:
            output = output[-1]
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise UsageError(
                f'{type(self.backbone).__name__} gives no map of features (B, D, h, w), which a tokenizer needs'
            )
        return output.float()

    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """See :meth:`PatchFeatures.forward`."""
        return resized(self.map(pixels), grid).flatten(2).transpose(1, 2)


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes images or feature maps (B, C, H, W), bilinear with antialiasing; unchanged if the size fits."""
    if maps.shape[-2:] == torch.Size(size):
        return maps
    return F.interpolate(maps, size, mode='bilinear', antialias=True)
