"""The names of torchvision."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import Tensor

from mstkit.formats.naming import MERGING, Naming, Pair, count_blocks, count_stages


class TorchvisionViT(Naming):
    """``torchvision.models.VisionTransformer``."""

    name, words, layout = 'torchvision', 'torchvision’s names for a ViT', 'vit'
    marks = ('encoder.layers.encoder_layer_0.ln_1.weight', 'conv_proj.weight')
    inside = r'(encoder|conv_proj)\.|class_token$'
    inner = (
        ('ln1', 'ln_1'),
        ('attn.qkv.weight', 'self_attention.in_proj_weight'),
        ('attn.qkv.bias', 'self_attention.in_proj_bias'),
        ('attn.proj', 'self_attention.out_proj'),
        ('ln2', 'ln_2'),
        ('ffn.layers.0.0', 'mlp.0'),
        ('ffn.layers.1', 'mlp.3'),
    )

    def depths(self, names: Iterable[str]) -> tuple[int, ...]:
        return (count_blocks(names, r'encoder\.layers\.encoder_layer_(\d+)\.'),)

    def pairs(self, depths: Sequence[int]) -> Iterator[Pair]:
        yield Pair('cls_token', 'class_token')
        yield Pair('pos_embed', 'encoder.pos_embedding')
        yield Pair('patch_embed.projection', 'conv_proj')
        for i in range(depths[0]):
            for ours, theirs in self.inner:
                yield Pair(f'layers.{i}.{ours}', f'encoder.layers.encoder_layer_{i}.{theirs}')
        yield Pair('ln1', 'encoder.ln')

    def before_reading(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # Files of before torchvision 0.13.
        changed = ((r'\.mlp\.linear_1\.', '.mlp.0.'), (r'\.mlp\.linear_2\.', '.mlp.3.'))
        found = {}
        for name, value in tensors.items():
            for pattern, replacement in changed:
                name = re.sub(pattern, replacement, name)
            found[name] = value
        return found


class TorchvisionSwin(Naming):
    """``torchvision.models.SwinTransformer``: patch embedding, stages and mergings in one list."""

    name, words, layout = 'torchvision', 'torchvision’s names for a Swin', 'swin'
    marks = ('features.1.0.attn.qkv.weight', 'features.0.0.weight')
    inside = r'(features|norm)\.'
    inner = (
        ('norm1', 'norm1'),
        ('attn.w_msa.qkv', 'attn.qkv'),
        ('attn.w_msa.proj', 'attn.proj'),
        ('attn.w_msa.relative_position_bias_table', 'attn.relative_position_bias_table'),
        ('norm2', 'norm2'),
        ('ffn.layers.0.0', 'mlp.0'),
        ('ffn.layers.1', 'mlp.3'),
    )

    def depths(self, names: Iterable[str]) -> tuple[int, ...]:
        return count_stages(names, r'features\.(\d+)\.(\d+)\.norm1\.')

    def pairs(self, depths: Sequence[int]) -> Iterator[Pair]:
        yield Pair('patch_embed.projection', 'features.0.0')
        yield Pair('patch_embed.norm', 'features.0.2')
        for stage, depth in enumerate(depths):
            for block in range(depth):
                for ours, theirs in self.inner:
                    yield Pair(f'stages.{stage}.blocks.{block}.{ours}', f'features.{2 * stage + 1}.{block}.{theirs}')
            if stage < len(depths) - 1:
                for part in ('norm', 'reduction'):
                    merging = f'features.{2 * stage + 2}.{part}'
                    yield Pair(f'stages.{stage}.downsample.{part}', merging, MERGING)
        yield Pair(f'norm{len(depths) - 1}', 'norm')
