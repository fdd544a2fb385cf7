"""SimMIM's prediction head: one linear layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.decoders.token_decoder import TokenDecoder
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput, VisibleOutput


@MODELS.register_module()
class LinearDecoder(TokenDecoder):
    """Predicts a patch from its own token by one linear layer (SimMIM, Xie et al., CVPR 2022, section 3.3).

    SimMIM writes it as a 1×1 convolution and a ``PixelShuffle``, which is the same: a token gives the D values of its
    patch. Torch's default initialization, as there.

    Args:
        *args: see :class:`TokenDecoder`.
        **kwargs: likewise.

    Raises:
        UsageError: an encoder that sees visible patches alone.
    """

    per_patch = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.visible_only:
            raise UsageError(
                'LinearDecoder predicts a hidden patch from its own token, and an encoder that sees visible patches '
                "alone (encoder_sees='visible') makes none of it: take ViTDecoder, or encoder_sees='mask_token'"
            )
        self.to_values = nn.Linear(self.in_channels, self.out_channels)

    def forward(self, seen: TokenOutput | VisibleOutput) -> Tensor:
        """See :meth:`TokenDecoder.forward`."""
        return self.to_values(seen.patch_tokens)
