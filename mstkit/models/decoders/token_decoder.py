"""Base class of decoders that predict every patch from the encoder's tokens of a masked image."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from mmengine.model import BaseModule
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models.building import build_of_kind
from mstkit.structures import TokenOutput, VisibleOutput
from mstkit.utils.checks import check_size


class TokenDecoder(BaseModule):
    """Predicts D values for every patch.

    The objective fills in the following arguments from the backbone and the target.

    Args:
        in_channels: C of the tokens.
        out_channels: D of the target.
        class_token: whether the encoder has a class token (``pooled`` of its output).
        visible_only: whether the encoder encodes the visible patches alone, so that hidden ones have no token.
        scale: cells along a side of the predicted grid per patch: L becomes L * scale².

    Raises:
        UsageError: a scale other than 1 of a decoder that predicts one cell per patch.

    Attributes:
        per_patch: whether a patch is predicted from its own token alone; the encoder can then skip the tokens of
            patches that are not predicted, and the decoder gets the M tokens of hidden patches alone, as (1, M, C).
        scales: whether it can predict on another grid than that of the tokens.
        attends_to: the block of the encoder whose output it reads beside the tokens that it predicts from, 1 for the
            first or -1 for the last; None for none.
        student_layers: that block counted from the end, so how many of the outputs of the last blocks it needs
            (``layers`` and ``class_tokens`` of the encoder's output); 0 for none. The objective, which knows the
            encoder, fills it in.
    """

    per_patch: ClassVar[bool] = False
    scales: ClassVar[bool] = False
    attends_to: int | None = None
    student_layers: int = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        class_token: bool = False,
        visible_only: bool = False,
        init_cfg: dict | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__(init_cfg)
        if scale != 1 and not self.scales:
            raise UsageError(
                f'{type(self).__name__} predicts one cell per patch, but scale is {scale:g}: take ViTDecoder, or leave '
                'scale out'
            )
        self.scale = scale
        self.in_channels = check_size(f'{type(self).__name__}.in_channels', in_channels)
        self.out_channels = check_size(f'{type(self).__name__}.out_channels', out_channels)
        self.class_token, self.visible_only = class_token, visible_only

    @abstractmethod
    def forward(self, seen: TokenOutput | VisibleOutput) -> Tensor:
        """Predicts every patch that was not thrown.

        Args:
            seen: the encoder's output, a :class:`VisibleOutput` if ``visible_only``, else a :class:`TokenOutput`.

        Returns:
            (B, L * scale², D), cells row-major; without meaning for thrown patches (``seen.thrown``).
        """

    def _spread(self, tokens: Tensor, seen: VisibleOutput, hidden: Tensor) -> Tensor:
        """Scatters visible tokens (B, V, C) to their patches: (B, L, C).

        Args:
            tokens: of the visible patches.
            seen: says where they are.
            hidden: tokens of the other patches, (1, 1, C), (1, L + 1, C) or (B, L + 1, C): the last row is that of
                padding.
        """
        batch, length = len(tokens), seen.grid[0] * seen.grid[1]
        whole = hidden.expand(batch, length + 1, -1)  # one extra row, to which padding is scattered
        index = seen.places.where(seen.places >= 0, length)[..., None].expand_as(tokens)
        return whole.scatter(1, index, tokens.to(whole.dtype))[:, :length]


def build_decoder(decoder: dict, **sizes: Any) -> TokenDecoder:
    """Builds a decoder of tokens from its config.

    Args:
        decoder: the config.
        sizes: defaults for arguments that the config leaves out.

    Raises:
        UsageError: a component that is no :class:`TokenDecoder`.
    """
    return build_of_kind(decoder, TokenDecoder, 'a decoder of tokens', **sizes)  # type: ignore[type-abstract]
