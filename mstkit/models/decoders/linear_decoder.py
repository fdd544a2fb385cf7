"""SimMIM's prediction head: one linear layer per patch token."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.decoders.token_decoder import TokenDecoder
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput, VisibleOutput
from mstkit.utils.checks import check_number


@MODELS.register_module()
class LinearDecoder(TokenDecoder):
    """Predicts a patch from its own token by one linear layer (SimMIM, Xie et al., CVPR 2022, section 3.3).

    Equivalent to the 1×1 convolution and ``PixelShuffle`` of SimMIM's code.

    Args:
        *args: see :class:`TokenDecoder`.
        init_std: initialize the weights from a truncated normal of this standard deviation and the biases with 0 (0.02
            in MaskFeat and BEiT); None for torch's default initialization (SimMIM).
        **kwargs: see :class:`TokenDecoder`.

    Raises:
        UsageError: ``visible_only``, since hidden patches then have no token.
    """

    per_patch = True

    def __init__(self, *args: Any, init_std: float | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.visible_only:
            raise UsageError(
                'LinearDecoder predicts a hidden patch from its own token, but an encoder of the visible patches alone '
                "(encoder_sees='visible') makes no such token: take ViTDecoder, or encoder_sees='mask_token'"
            )
        self.to_values = nn.Linear(self.in_channels, self.out_channels)
        if init_std is not None:
            check_number('LinearDecoder.init_std', init_std, above=0, high=1e3)
        self.init_std = init_std
        self._init_own_weights()  # no init_weights of a model reaches the parts of its objectives

    def init_weights(self) -> None:
        """Initializes the linear layer as ``init_std`` says."""
        super().init_weights()
        self._init_own_weights()

    def _init_own_weights(self) -> None:
        if self.init_std is not None:
            nn.init.trunc_normal_(self.to_values.weight, std=self.init_std)
            nn.init.zeros_(self.to_values.bias)

    def forward(self, seen: TokenOutput | VisibleOutput) -> Tensor:
        """See :meth:`TokenDecoder.forward`."""
        return self.to_values(seen.patch_tokens)
