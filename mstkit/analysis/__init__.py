"""Analysis of masks, attention and representations: pure functions of tensors, without I/O."""

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)
from mstkit.analysis.attention_distance import AttentionDistance, attention_distance, uniform_distance
from mstkit.analysis.attention_entropy import AttentionEntropy, attention_entropy, uniform_entropy
from mstkit.analysis.attention_measures import AttentionMeasures, BlockMeasures
from mstkit.analysis.cka import LinearCKA, centered_gram, linear_cka
from mstkit.analysis.head_divergence import Divergence, HeadDivergence, head_divergence, per_head
from mstkit.analysis.mask_draws import draw_until_masked, draw_with, importance_map, measure_masker, progress_at
from mstkit.analysis.mask_statistics import (
    Connectedness,
    MaskSummary,
    attention_mass_hidden,
    border,
    connectedness,
    hidden_fraction,
    label_components,
    summarize,
    top_attention_hidden,
)
from mstkit.analysis.mask_table import EXPLANATION, csv_table, markdown_table
from mstkit.analysis.patch_attention import Maps, PatchAttention, pairwise_distances, patch_attention, reach
from mstkit.analysis.rollout import AttentionRollout
from mstkit.analysis.truncation_loss import Truncation, truncations

__all__ = [
    'EXPLANATION',
    'AttentionDistance',
    'AttentionEntropy',
    'AttentionMeasures',
    'AttentionRollout',
    'BlockMeasures',
    'Connectedness',
    'Divergence',
    'HeadDivergence',
    'LinearCKA',
    'Maps',
    'MaskSummary',
    'PatchAttention',
    'Truncation',
    'attention_distance',
    'attention_entropy',
    'attention_mass_hidden',
    'border',
    'centered_gram',
    'connectedness',
    'csv_table',
    'draw_until_masked',
    'draw_with',
    'head_divergence',
    'hidden_fraction',
    'importance_map',
    'label_components',
    'linear_cka',
    'markdown_table',
    'measure_masker',
    'pairwise_distances',
    'patch_attention',
    'per_head',
    'progress_at',
    'reach',
    'summarize',
    'top_attention_hidden',
    'truncations',
    'uniform_distance',
    'uniform_entropy',
]
