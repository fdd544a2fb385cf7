"""Selection of the tokens that receive most of the attention."""

from __future__ import annotations

from torch import Tensor

from mstkit.errors import UsageError


def kept_tokens(attention: Tensor, share: float = 0.6) -> Tensor:
    """The fewest tokens that together hold a share of the attention.

    As in DINO's figures (visualize_attention.py; Caron et al., arXiv:2104.14294, figures 3 and 4): attention is
    normalized to sum to one over the patches, and the tokens are taken from the greatest down.

    Args:
        attention: (..., L), the attention that each token receives, not negative.
        share: of the sum, above 0 and up to 1.

    Returns:
        (..., L) bool, True where a token is kept; at least one if there is any attention.

    Raises:
        UsageError: a share out of range.
    """
    if not 0 < share <= 1:
        raise UsageError(f'a share of {share} of the attention cannot be kept; it is above 0 and up to 1.')
    ascending, order = attention.double().sort(dim=-1)
    below = ascending.cumsum(dim=-1)
    # Dropped are the smallest tokens, as many as together hold at most (1 - share) of the attention.
    kept = below > (1 - share) * below[..., -1:] * (1 + 1e-12)
    return kept.gather(-1, order.argsort(dim=-1))
