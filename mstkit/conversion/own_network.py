"""mstkit's network of an anatomy, with weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from mstkit.conversion.library import load_all
from mstkit.formats import Anatomy
from mstkit.networks.random_network import seeded_quietly
from mstkit.registry import MODELS
from mstkit.utils.build_errors import build_guard


def build_ours(anatomy: Anatomy, state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """A :class:`MaskedVisionTransformer` or :class:`MaskedSwinTransformer` in evaluation mode.

    Args:
        anatomy: of the network.
        state: its weights, all of them; None for those that its constructor draws.

    Raises:
        UsageError: mstkit has no such network, or a tensor is missing or too much.
    """
    with build_guard(), seeded_quietly():
        network: nn.Module = MODELS.build(anatomy.config())
    if state is not None:
        load_all(network, state, 'mstkit')
    return network.eval()
