"""AutoMAE's mask generator, which turns a network's attention into masks, and the discriminator that it plays with."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm

from mstkit.errors import UsageError
from mstkit.utils.checks import check_count

NARROWEST = 8  # channels between the generator's convolutions


class MaskGenerator(BaseModule):
    """Attention maps (B, N, h, w) of N heads to one logit per patch (AutoMAE, Chen et al., arXiv 2303.06583).

    Two convolutions of 3×3 with a ReLU between them, N to N / 2 to 1 channels, as in AutoMAE's code; at least 8 in
    between, since of one or two a ReLU may stay at zero for good. The code gives it the attention as it is, which is
    about 1 / L; here each map is divided by its mean first, so that what is learned does not depend on the number of
    patches.

    Args:
        heads: N.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = check_count('MaskGenerator.heads', heads, 1, 4096)
        inner = max(NARROWEST, heads // 2)
        self.layers = nn.Sequential(
            nn.Conv2d(heads, inner, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, 1, 3, padding=1, bias=False),  # which cancels in a softmax
        )

    def forward(self, attention: Tensor, grid: tuple[int, int]) -> Tensor:
        """Logits (B, L) of attention (B, N, L) on an (h, w) grid. Raises UsageError for another number of heads."""
        if attention.shape[1] != self.heads:
            raise UsageError(
                f'the mask generator was built for {self.heads} heads, but the attention of its source has '
                f'{attention.shape[1]}: set heads={attention.shape[1]} of MaskGeneration'
            )
        scale = attention.mean(dim=2, keepdim=True).clamp_min(torch.finfo(attention.dtype).tiny)
        return self.layers((attention / scale).unflatten(2, grid)).flatten(1)


class MaskDiscriminator(BaseModule):
    """Maps (B, 1, h, w) to one number for each neighborhood, 1 for masks that look like objects and 0 for others.

    As in AutoMAE's code: convolutions of 3×3 to 16, to 32 with stride 2, and to 1 channel, spectral norms, and leaky
    ReLUs of slope 0.2 between them. There the last one has no padding; here it has, so that small grids will do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            spectral_norm(nn.Conv2d(1, 16, 3, padding=1, bias=False)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(32, 1, 3, padding=1, bias=False)),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, M) of maps (B, 1, h, w), one for each of M neighborhoods."""
        return self.layers(maps).flatten(1)

    def judge(self, maps: Tensor) -> Tensor:
        """The same, with a gradient for the maps but none for the discriminator itself."""
        fixed = {name: parameter.detach() for name, parameter in self.named_parameters()}
        return functional_call(self, fixed, (maps,))
