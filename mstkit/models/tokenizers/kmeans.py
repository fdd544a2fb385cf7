"""Tokens by spherical k-means: on the features of a network, and on raw patches as the cheap control."""

from __future__ import annotations

from mstkit.models.tokenizers.codebook import CodebookTokenizer
from mstkit.models.tokenizers.patch_features import NetworkFeatures, RawPatches
from mstkit.registry import MODELS


@MODELS.register_module()
class KMeansTokenizer(CodebookTokenizer):
    """k-means by cosine on the patch features of a frozen network: tokens that need no download.

    The network is in the file, see :class:`NetworkFeatures` for what it sees. Tokens are as good as it is: those of a
    random network say little more than those of :class:`PatchTokenizer`.

    Args:
        file: see :class:`CodebookTokenizer`.
    """

    label = 'k-means'
    source_type = NetworkFeatures


@MODELS.register_module()
class PatchTokenizer(CodebookTokenizer):
    """k-means by cosine on whitened raw patches: the control for tokens of features.

    Whitened as by Coates and Ng (Learning feature representations with k-means, 2012, section 3), see
    :class:`RawPatches`.

    Args:
        file: see :class:`CodebookTokenizer`.
    """

    label = 'raw-patch k-means'
    source_type = RawPatches
