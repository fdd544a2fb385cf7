"""What tensors say about masks and networks: pure functions, no I/O."""

from mstkit.analysis.mask_draws import draw_until_masked, draw_with, importance_map, measure_masker, progress_at
from mstkit.analysis.mask_table import EXPLANATION, csv_table, markdown_table
from mstkit.analysis.masks import (
    Connectedness,
    MaskSummary,
    attention_mass_hidden,
    connectedness,
    hidden_fraction,
    label_components,
    summarise,
    top_attention_hidden,
)

__all__ = [
    'EXPLANATION',
    'Connectedness',
    'MaskSummary',
    'attention_mass_hidden',
    'connectedness',
    'csv_table',
    'draw_until_masked',
    'draw_with',
    'hidden_fraction',
    'importance_map',
    'label_components',
    'markdown_table',
    'measure_masker',
    'progress_at',
    'summarise',
    'top_attention_hidden',
]
