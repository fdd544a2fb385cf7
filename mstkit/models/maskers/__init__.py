from mstkit.models.maskers.attention_guided_masker import AttentionGuidedMasker
from mstkit.models.maskers.attmask import AttMask, AttMaskHigh, AttMaskHint, AttMaskLow
from mstkit.models.maskers.block_masker import BlockMasker
from mstkit.models.maskers.color_noise_masker import ColorNoiseMasker
from mstkit.models.maskers.inverse_block_masker import InverseBlockMasker
from mstkit.models.maskers.inverse_multi_block_masker import InverseMultiBlockMasker
from mstkit.models.maskers.masker import Masker
from mstkit.models.maskers.multi_block_masker import MultiBlockMasker
from mstkit.models.maskers.multinomial_masker import MultinomialMasker
from mstkit.models.maskers.object_masker import ObjectMasker
from mstkit.models.maskers.part_masker import PartMasker
from mstkit.models.maskers.preference_masker import PreferenceMasker
from mstkit.models.maskers.random_masker import RandomMasker
from mstkit.models.maskers.ratio_masker import RankedMasker, RatioMasker
from mstkit.models.maskers.scheduled_maskers import MaskerSchedule, RatioSchedule, build_masker
from mstkit.models.maskers.shuffled_masker import ShuffledMasker
from mstkit.models.maskers.throwing_masker import ThrowingMasker
from mstkit.models.maskers.top_share_masker import TopShareMasker
from mstkit.models.maskers.uniform_masker import UniformMasker

__all__ = [
    'AttMask',
    'AttMaskHigh',
    'AttMaskHint',
    'AttMaskLow',
    'AttentionGuidedMasker',
    'BlockMasker',
    'ColorNoiseMasker',
    'InverseBlockMasker',
    'InverseMultiBlockMasker',
    'Masker',
    'MaskerSchedule',
    'MultiBlockMasker',
    'MultinomialMasker',
    'ObjectMasker',
    'PartMasker',
    'PreferenceMasker',
    'RandomMasker',
    'RankedMasker',
    'RatioMasker',
    'RatioSchedule',
    'ShuffledMasker',
    'ThrowingMasker',
    'TopShareMasker',
    'UniformMasker',
    'build_masker',
]
