"""The names of DINOv3 in its own code and in timm: rotary positions, of which no tensor tells, keys without bias."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from mstkit.errors import UsageError
from mstkit.formats.timm_names import TimmBEiT, TimmViT
from mstkit.utils.rotary_positions import ROTARY_BASE

PERIODS, BIAS_MASK = 'rope_embed.periods', '.attn.qkv.bias_mask'


class TimmDINOv3(TimmBEiT):
    """timm's DINOv3, an ``Eva`` without absolute positions."""

    name, words = 'timm-dinov3', 'timm’s names for a DINOv3'
    marks = ('blocks.0.gamma_1', 'reg_token', 'cls_token', 'patch_embed.proj.weight')
    rotary, eps = ROTARY_BASE, 1e-5

    def prefixes(self, names: Iterable[str]) -> list[str]:
        """See :meth:`Naming.prefixes`; an EVA with absolute positions is another network."""
        known = set(names)
        return [prefix for prefix in super().prefixes(known) if f'{prefix}pos_embed' not in known]


class DINOv3Code(TimmViT):
    """The code of DINOv3: a mask takes the bias of keys away, and the periods of the rotation are saved."""

    name, words = 'dinov3', 'the names of DINOv3’s code'
    marks = ('blocks.0.ls1.gamma', 'storage_tokens', 'patch_embed.proj.weight')
    inside = TimmViT.inside + r'|storage_tokens$'
    registers = 'storage_tokens'
    rotary, eps = ROTARY_BASE, 1e-5

    def before_reading(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        given = {name: value for name, value in tensors.items() if not name.endswith(BIAS_MASK)}
        periods = given.pop(PERIODS, None)
        # base ** (i / count): the ratio of the last to the first tells the base
        if periods is not None and len(periods) > 1:
            ratio = float(periods[-1].double() / periods[0].double())
            base = ratio ** (len(periods) / (len(periods) - 1))
            if abs(base / ROTARY_BASE - 1) > 0.05:  # they are saved in half precision
                raise UsageError(f'its rotary positions have the base {base:.0f}, not {ROTARY_BASE:g}')
        return given

    def after_writing(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return tensors

    def to_ours(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        found, left = super().to_ours(tensors)
        for name in [name for name in found if name.endswith('.attn.qkv.bias')]:
            queries, _, values = found.pop(name).chunk(3)
            found[name.replace('qkv.bias', 'q_bias')] = queries.clone()
            found[name.replace('qkv.bias', 'v_bias')] = values.clone()
        return found, left
