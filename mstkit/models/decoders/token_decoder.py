"""What a decoder of tokens is: from what the encoder made of a masked image to a prediction for every patch."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from mmengine.model import BaseModule
from torch import Tensor

from mstkit.models.building import build_of_kind
from mstkit.structures import TokenOutput, VisibleOutput
from mstkit.utils.checks import check_size


class TokenDecoder(BaseModule):
    """Predicts D values of every patch.

    All arguments but those of a subclass follow from the parts around it; the objective fills them in.

    Args:
        in_channels: C of the tokens.
        out_channels: D of the target.
        class_token: whether the encoder has a class token, which is then ``pooled`` of its output.
        visible_only: whether the encoder sees visible patches alone, so that no token comes of hidden ones.

    Attributes:
        per_patch: whether a patch is predicted from its own token and no other, so that the others need not be made.
    """

    per_patch: ClassVar[bool] = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        class_token: bool = False,
        visible_only: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = check_size(f'{type(self).__name__}.in_channels', in_channels)
        self.out_channels = check_size(f'{type(self).__name__}.out_channels', out_channels)
        self.class_token, self.visible_only = class_token, visible_only

    @abstractmethod
    def forward(self, seen: TokenOutput | VisibleOutput) -> Tensor:
        """Predicts every patch.

        Args:
            seen: a :class:`VisibleOutput` where ``visible_only``, else a :class:`TokenOutput`.

        Returns:
            (B, L, D), patches row-major.
        """


def build_decoder(decoder: dict, **sizes: Any) -> TokenDecoder:
    """Builds a decoder of tokens from its config.

    Args:
        decoder: the config.
        sizes: arguments that the config may leave out.

    Raises:
        UsageError: a component that is no decoder of tokens.
    """
    return build_of_kind(decoder, TokenDecoder, 'a decoder of tokens', **sizes)  # type: ignore[type-abstract]
