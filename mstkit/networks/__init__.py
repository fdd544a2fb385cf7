"""A trained network from any source, seen in one way: tokens, features, and the exact attention of every block."""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.networks.attention_maps import (
    attention_weights,
    patch_centres,
    received_attention,
    window_places,
    windows_on_map,
)
from mstkit.networks.network import Network
from mstkit.networks.open import KINDS_IN_WORDS, open_networks, open_several
from mstkit.networks.parts import AttentionMaps, Block

__all__ = [
    'KINDS_IN_WORDS',
    'AttentionMaps',
    'Block',
    'Network',
    'attention_weights',
    'open_networks',
    'open_several',
    'patch_centres',
    'received_attention',
    'window_places',
    'windows_on_map',
]
