from mstkit.models.maskers.attention_guided_masker import AttentionGuidedMasker
from mstkit.models.maskers.base import Masker
from mstkit.models.maskers.random_masker import RandomMasker

__all__ = ['AttentionGuidedMasker', 'Masker', 'RandomMasker']
