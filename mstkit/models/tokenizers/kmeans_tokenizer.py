"""Tokens by spherical k-means: on the features of a network, and on raw patches as the cheap control."""

from __future__ import annotations

from mstkit.models.tokenizers.codebook import CodebookTokenizer
from mstkit.models.tokenizers.patch_features import NetworkFeatures, RawPatches
from mstkit.registry import MODELS


@MODELS.register_module()
class KMeansTokenizer(CodebookTokenizer):
    """Tokens by spherical k-means (cosine similarity) on the patch features of a frozen network; needs no download.

    The file contains the network, see :class:`NetworkFeatures`. The quality of the tokens is that of the network:
    features of random weights are hardly better than the raw patches of :class:`PatchTokenizer`.

    Args:
        file: see :class:`CodebookTokenizer`.
    """

    label = 'k-means'
    source_type = NetworkFeatures


@MODELS.register_module()
class PatchTokenizer(CodebookTokenizer):
    """Tokens by spherical k-means on whitened raw patches: a cheap control for tokens of features.

    Whitened as in Coates and Ng (Learning feature representations with k-means, 2012, section 3), see
    :class:`RawPatches`.

    Args:
        file: see :class:`CodebookTokenizer`.
    """

    label = 'raw-patch k-means'
    source_type = RawPatches
