"""timm's names, which the code of DINO, iBOT, MAE, BEiT, SimMIM, MoBY and DINOv2 has too, with small differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from mstkit.formats.naming import MERGING, Naming, Pair, count_blocks, count_stages

BLOCK = (
    ('ln1', 'norm1'),
    ('attn.qkv', 'attn.qkv'),
    ('attn.q_bias', 'attn.q_bias'),
    ('attn.v_bias', 'attn.v_bias'),
    ('attn.relative_position_bias_table', 'attn.relative_position_bias_table'),
    ('attn.proj', 'attn.proj'),
    ('ln2', 'norm2'),
    ('ffn.layers.0.0', 'mlp.fc1'),
    ('ffn.layers.1', 'mlp.fc2'),
)
SCALES = (('attn.gamma1', 'ls1.gamma'), ('ffn.gamma2', 'ls2.gamma'))
GATED = (('layers.0.0', 'w12'), ('layers.1', 'w3'))  # of a feed-forward network, and of a gated one
SWIN_BLOCK = (
    ('norm1', 'norm1'),
    ('attn.w_msa.qkv', 'attn.qkv'),
    ('attn.w_msa.proj', 'attn.proj'),
    ('attn.w_msa.relative_position_bias_table', 'attn.relative_position_bias_table'),
    ('norm2', 'norm2'),
    ('ffn.layers.0.0', 'mlp.fc1'),
    ('ffn.layers.1', 'mlp.fc2'),
)


class TimmViT(Naming):
    """timm's ``VisionTransformer``: DeiT, DINO, iBOT, AttMask, MAE, MoCo v3."""

    name, words, layout = 'timm', 'timm’s names for a ViT', 'vit'
    marks: ClassVar[tuple[str, ...]] = ('blocks.0.norm1.weight', 'patch_embed.proj.weight')
    inside = (
        r'(blocks|patch_embed|norm|fc_norm|norm_pre|rel_pos_bias)\.|'
        r'(cls_token|pos_embed|reg_token|register_tokens|dist_token)$'
    )
    registers = 'reg_token'
    scales = SCALES

    def depths(self, names: Iterable[str]) -> tuple[int, ...]:
        return (count_blocks(names, r'blocks\.(\d+)\.'),)

    def pairs(self, depths: Sequence[int]) -> Iterator[Pair]:
        yield Pair('cls_token', 'cls_token')
        yield Pair('pos_embed', 'pos_embed')
        yield Pair('register_tokens', self.registers)
        yield Pair('patch_embed.projection', 'patch_embed.proj')
        yield Pair('pre_norm', 'norm_pre')
        yield Pair('rel_pos_bias.relative_position_bias_table', 'rel_pos_bias.relative_position_bias_table')
        for i in range(depths[0]):
            for ours, theirs in BLOCK:
                yield Pair(f'layers.{i}.{ours}', f'blocks.{i}.{theirs}')
            for ours, theirs in self.scales:
                yield Pair(f'layers.{i}.{ours}.weight', f'blocks.{i}.{theirs}')
        yield Pair('ln1', 'norm')
        yield Pair('ln2', 'fc_norm')

    def before_reading(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return with_positions_of_patches(dict(tensors), self.registers)

    def after_writing(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """timm's way for registers (``no_embed_class``): positions of patches alone, the class token's added to it."""
        if self.registers in tensors and 'cls_token' in tensors and 'pos_embed' in tensors:
            positions = tensors['pos_embed']
            tensors['cls_token'] = tensors['cls_token'] + positions[:, :1]
            tensors['pos_embed'] = positions[:, 1:].contiguous()
        return tensors

    def to_theirs(self, state: Mapping[str, Tensor], depths: Sequence[int]) -> dict[str, Tensor]:
        plain = {}
        for name, value in state.items():
            for ours, gated in GATED:
                name = name.replace(f'.ffn.{gated}.', f'.ffn.{ours}.')
            plain[name] = value
        return super().to_theirs(plain, depths)

    def to_ours(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        found, left = super().to_ours(tensors)
        for name in [name for name in found if name.endswith('ffn.layers.0.0.weight')]:
            layer = name.removesuffix('layers.0.0.weight')
            # A gated feed-forward network (SwiGLU) has one layer that is twice as wide as the other one's input.
            if found[name].shape[0] == 2 * found[f'{layer}layers.1.weight'].shape[1]:
                for ending in ('weight', 'bias'):
                    for ours, gated in GATED:
                        if f'{layer}{ours}.{ending}' in found:
                            found[f'{layer}{gated}.{ending}'] = found.pop(f'{layer}{ours}.{ending}')
        return found, left


class TimmBEiT(TimmViT):
    """The code of BEiT, and timm's ``Beit``: biases of queries and values outside, factors called gamma."""

    name, words = 'beit', 'the names of BEiT’s code and of timm’s BEiT'
    marks: ClassVar[tuple[str, ...]] = ('blocks.0.attn.q_bias', 'blocks.0.norm1.weight', 'patch_embed.proj.weight')
    scales = (('attn.gamma1', 'gamma_1'), ('ffn.gamma2', 'gamma_2'))


class DINOv2Code(TimmViT):
    """The code of DINOv2: registers under another name, with positions of the class token beside those of patches."""

    name, words = 'dinov2', 'the names of DINOv2’s code'
    marks = ('blocks.0.ls1.gamma', 'mask_token', 'patch_embed.proj.weight')
    registers = 'register_tokens'

    def before_reading(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        given = dict(tensors)
        for i in range(self.depths(given)[0]):
            for theirs, timms in (('mlp.w12', 'mlp.fc1'), ('mlp.w3', 'mlp.fc2')):
                for ending in ('weight', 'bias'):
                    value = given.pop(f'blocks.{i}.{theirs}.{ending}', None)
                    if value is not None:
                        given[f'blocks.{i}.{timms}.{ending}'] = value
        return super().before_reading(given)

    def after_writing(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return tensors


class MicrosoftSwin(Naming):
    """The official Swin, with SimMIM and MoBY: a stage ends with its patch merging."""

    name, words, layout = 'swin', 'the names of the official Swin’s code', 'swin'
    marks = ('layers.0.blocks.0.attn.qkv.weight', 'layers.0.downsample.reduction.weight', 'patch_embed.proj.weight')
    inside = r'(layers|patch_embed|norm)\.|absolute_pos_embed$'
    merged_at = 0  # the stage that has the merging after stage 0

    def depths(self, names: Iterable[str]) -> tuple[int, ...]:
        return count_stages(names, r'layers\.(\d+)\.blocks\.(\d+)\.')

    def pairs(self, depths: Sequence[int]) -> Iterator[Pair]:
        yield Pair('absolute_pos_embed', 'absolute_pos_embed')
        yield Pair('patch_embed.projection', 'patch_embed.proj')
        yield Pair('patch_embed.norm', 'patch_embed.norm')
        for stage, depth in enumerate(depths):
            for block in range(depth):
                for ours, theirs in SWIN_BLOCK:
                    yield Pair(f'stages.{stage}.blocks.{block}.{ours}', f'layers.{stage}.blocks.{block}.{theirs}')
            if stage < len(depths) - 1:
                merging = f'layers.{stage + self.merged_at}.downsample'
                for part in ('norm', 'reduction'):
                    yield Pair(f'stages.{stage}.downsample.{part}', f'{merging}.{part}', MERGING)
        yield Pair(f'norm{len(depths) - 1}', 'norm')


class TimmSwin(MicrosoftSwin):
    """timm's ``SwinTransformer``: a stage begins with the patch merging."""

    name, words = 'timm', 'timm’s names for a Swin'
    marks = ('layers.0.blocks.0.attn.qkv.weight', 'layers.1.downsample.reduction.weight', 'patch_embed.proj.weight')
    merged_at = 1


def with_positions_of_patches(given: dict[str, Tensor], registers: str) -> dict[str, Tensor]:
    """Brings positions to those of class token and patches, ours: registers have none, the class token always has one.

    timm's registers may have positions, which are added to them; with ``no_embed_class`` the class token has none, or
    its own has been added to it.
    """
    positions = given.get('pos_embed')
    if positions is None or registers not in given or {positions.ndim, given[registers].ndim} != {3}:
        return given
    first = int('cls_token' in given)
    tokens = given[registers]
    # The grid is square, so at most one of these counts of tokens before the patches is possible.
    for extra in (first, first + tokens.shape[1], 0):
        cells = positions.shape[1] - extra
        if cells > 0 and math.isqrt(cells) ** 2 == cells:
            break
    else:
        return given
    patches = positions[:, extra:]
    before = positions[:, :first] if extra else positions.new_zeros(1, first, positions.shape[2])
    if extra > first:
        given[registers] = tokens + positions[:, first:extra]
    given['pos_embed'] = torch.cat((before, patches), dim=1)
    return given
