"""mmpretrain's names, which are also mstkit's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import Tensor

from mstkit.formats.naming import Naming, Pair, count_blocks, count_stages
from mstkit.formats.timm_names import BLOCK, GATED, SWIN_BLOCK


class MmpretrainViT(Naming):
    """mmpretrain's ``VisionTransformer`` and ``BEiTViT``, and mstkit's ``MaskedVisionTransformer``."""

    name, words, layout = 'mmpretrain', 'mmpretrain’s names for a ViT', 'vit'
    marks = ('layers.0.ln1.weight', 'patch_embed.projection.weight')
    inside = r'(layers|patch_embed|ln1|ln2|pre_norm|rel_pos_bias)\.|(cls_token|pos_embed|register_tokens)$'

    def depths(self, names: Iterable[str]) -> tuple[int, ...]:
        return (count_blocks(names, r'layers\.(\d+)\.'),)

    def pairs(self, depths: Sequence[int]) -> Iterator[Pair]:
        alone = ('cls_token', 'pos_embed', 'register_tokens', 'patch_embed.projection', 'pre_norm', 'ln1', 'ln2')
        for name in (*alone, 'rel_pos_bias.relative_position_bias_table'):
            yield Pair(name, name)
        for i in range(depths[0]):
            gated = [(f'ffn.{name}', '') for _, name in GATED]
            for ours, _ in (*BLOCK, *gated, ('attn.gamma1', ''), ('ffn.gamma2', '')):
                yield Pair(f'layers.{i}.{ours}', f'layers.{i}.{ours}')

    def before_reading(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # Those of its BEiT; the scale that Pair finds as .weight.
        renamed = (('.gamma_1', '.attn.gamma1.weight'), ('.gamma_2', '.ffn.gamma2.weight'))
        found = {}
        for name, value in tensors.items():
            for theirs, ours in renamed:
                name = name.removesuffix(theirs) + ours if name.endswith(theirs) else name
            found[name] = value
        return found


class MmpretrainSwin(Naming):
    """mmpretrain's ``SwinTransformer``, and mstkit's ``MaskedSwinTransformer``."""

    name, words, layout = 'mmpretrain', 'mmpretrain’s names for a Swin', 'swin'
    marks = ('stages.0.blocks.0.attn.w_msa.qkv.weight', 'patch_embed.projection.weight')
    inside = r'(stages|patch_embed|norm\d)\.|absolute_pos_embed$'

    def depths(self, names: Iterable[str]) -> tuple[int, ...]:
        return count_stages(names, r'stages\.(\d+)\.blocks\.(\d+)\.')

    def pairs(self, depths: Sequence[int]) -> Iterator[Pair]:
        for name in ('absolute_pos_embed', 'patch_embed.projection', 'patch_embed.norm'):
            yield Pair(name, name)
        for stage, depth in enumerate(depths):
            for block in range(depth):
                for ours, _ in SWIN_BLOCK:
                    yield Pair(*(f'stages.{stage}.blocks.{block}.{ours}',) * 2)
            for part in ('norm', 'reduction'):
                yield Pair(*(f'stages.{stage}.downsample.{part}',) * 2)
            yield Pair(f'norm{stage}', f'norm{stage}')
