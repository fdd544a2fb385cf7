"""Trained networks of mstkit, mmpretrain and timm behind one interface: tokens, features, attention of every block."""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.networks.attention_maps import (
    attention_weights,
    patch_centers,
    received_attention,
    window_places,
    windows_on_map,
)
from mstkit.networks.from_config import for_evaluation
from mstkit.networks.frozen_features import FrozenFeatures
from mstkit.networks.frozen_guide import FrozenGuide
from mstkit.networks.image_transform import ImageTransform
from mstkit.networks.load_network import load
from mstkit.networks.network import Network
from mstkit.networks.network_blocks import AttentionMaps, Block
from mstkit.networks.open_network import KINDS_IN_WORDS, open_networks, open_several

__all__ = [
    'KINDS_IN_WORDS',
    'AttentionMaps',
    'Block',
    'FrozenFeatures',
    'FrozenGuide',
    'ImageTransform',
    'Network',
    'attention_weights',
    'for_evaluation',
    'load',
    'open_networks',
    'open_several',
    'patch_centers',
    'received_attention',
    'window_places',
    'windows_on_map',
]
