"""The names of Hugging Face transformers in files.

Since its version 5 they differ from those in memory, which a plain ``torch.save`` of a model's state dict has: those
are read too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from mstkit.formats.naming import MERGING, Naming, Pair, count_blocks, count_stages
from mstkit.utils.rotary_positions import ROTARY_BASE

# From the names in memory of transformers 5 to those in files.
_IN_MEMORY = (
    (r'^layers\.(?=\d)', 'encoder.layer.'),
    (r'^shared_position_bias\.', 'encoder.relative_position_bias.'),
    (r'^model\.layer\.', 'layer.'),
    (r'^embeddings\.patch_embeddings\.(weight|bias)$', r'embeddings.patch_embeddings.projection.\1'),
)
_TABLE_IN_MEMORY = r'(?<=\d)\.relative_position_bias\.|(?<!\.attention)\.attention\.relative_position_bias\.'
_PROJECTIONS = {'q_proj': 'query', 'k_proj': 'key', 'v_proj': 'value'}


class HuggingFaceViT(Naming):
    """``ViTModel`` and the encoder of ``ViTMAEForPreTraining``."""

    name, words, layout = 'hf-vit', 'Hugging Face’s names for a ViT', 'vit'
    marks = ('encoder.layer.0.layernorm_before.weight', 'embeddings.patch_embeddings.projection.weight')
    inside = r'(encoder|embeddings|layernorm)\.(?!mask_token)'
    also: ClassVar[tuple[str, ...]] = (
        'layers.0.layernorm_before.weight',
        'embeddings.patch_embeddings.projection.weight',
    )
    attention = 'attention.attention'
    inner: ClassVar[tuple[tuple[str, str], ...]] = (
        ('ln1', 'layernorm_before'),
        ('attn.proj', 'attention.output.dense'),
        ('ln2', 'layernorm_after'),
        ('ffn.layers.0.0', 'intermediate.dense'),
        ('ffn.layers.1', 'output.dense'),
    )
    outer: ClassVar[tuple[tuple[str, str], ...]] = ()

    def depths(self, names: Iterable[str]) -> tuple[int, ...]:
        return (count_blocks(names, r'encoder\.layer\.(\d+)\.'),)

    def pairs(self, depths: Sequence[int]) -> Iterator[Pair]:
        yield Pair('cls_token', 'embeddings.cls_token')
        yield Pair('pos_embed', 'embeddings.position_embeddings')
        yield Pair('register_tokens', 'embeddings.register_tokens')
        yield Pair('patch_embed.projection', 'embeddings.patch_embeddings.projection')
        yield Pair('ln1', 'layernorm')
        for ours, theirs in self.outer:
            yield Pair(ours, theirs)
        for i in range(depths[0]):
            layer = f'encoder.layer.{i}'
            parts = tuple(f'{layer}.{self.attention}.{part}' for part in ('query', 'key', 'value'))
            yield Pair(f'layers.{i}.attn.qkv', parts)
            for ours, theirs in self.inner:
                yield Pair(f'layers.{i}.{ours}', f'{layer}.{theirs}')

    def before_reading(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {self.in_file(name): value for name, value in tensors.items()}

    def in_file(self, name: str) -> str:
        """The name in files of a tensor that may have the one in memory."""
        for pattern, replacement in _IN_MEMORY:
            name = re.sub(pattern, replacement, name)
        head, projected, tail = re.sub(r'\.attention\.([qkv]_proj)\.', r'.attention \1 ', name).partition(' ')
        if projected:
            kind, _, ending = tail.partition(' ')
            return f'{head.removesuffix("attention")}{self.attention}.{_PROJECTIONS[kind]}.{ending}'
        name = name.replace('.attention.o_proj.', '.attention.output.dense.')
        name = re.sub(_TABLE_IN_MEMORY, self._table(), name)
        if not self._keeps_fc():
            name = re.sub(r'(?<=\d)\.mlp\.fc1\.', '.intermediate.dense.', name)
            name = re.sub(r'(?<=\d)\.mlp\.fc2\.', '.output.dense.', name)
        return name

    def _keeps_fc(self) -> bool:
        return any(theirs == 'mlp.fc1' for _, theirs in self.inner)

    def _table(self) -> str:
        return f'.{self.attention}.relative_position_bias.'


class HuggingFaceDINOv2(HuggingFaceViT):
    """``Dinov2Model`` and ``Dinov2WithRegistersModel``."""

    name, words = 'hf-dinov2', 'Hugging Face’s names for a DINOv2'
    marks = ('encoder.layer.0.norm1.weight', 'embeddings.patch_embeddings.projection.weight')
    also = ()
    inner = (
        ('ln1', 'norm1'),
        ('attn.proj', 'attention.output.dense'),
        ('attn.gamma1.weight', 'layer_scale1.lambda1'),
        ('ln2', 'norm2'),
        ('ffn.layers.0.0', 'mlp.fc1'),
        ('ffn.layers.1', 'mlp.fc2'),
        ('ffn.gamma2.weight', 'layer_scale2.lambda1'),
        ('ffn.w12', 'mlp.weights_in'),
        ('ffn.w3', 'mlp.weights_out'),
    )


class HuggingFaceBEiT(HuggingFaceViT):
    """``BeitModel``: keys without bias, relative positions shared or per layer."""

    name, words = 'hf-beit', 'Hugging Face’s names for a BEiT'
    marks = ('encoder.layer.0.lambda_1', 'embeddings.patch_embeddings.projection.weight')
    also = ('layers.0.lambda_1', 'embeddings.patch_embeddings.projection.weight')
    inner = (
        *HuggingFaceViT.inner,
        ('attn.gamma1.weight', 'lambda_1'),
        ('ffn.gamma2.weight', 'lambda_2'),
        (
            'attn.relative_position_bias_table',
            'attention.attention.relative_position_bias.relative_position_bias_table',
        ),
    )
    outer = (
        (
            'rel_pos_bias.relative_position_bias_table',
            'encoder.relative_position_bias.relative_position_bias_table',
        ),
        ('ln2', 'pooler.layernorm'),
    )

    def after_writing(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without the bias of keys: it adds the same to all logits of a query, which the softmax takes away again."""
        return {name: value for name, value in tensors.items() if not name.endswith('.key.bias')}


class HuggingFaceSwin(HuggingFaceViT):
    """``SwinModel``."""

    name, words, layout = 'hf-swin', 'Hugging Face’s names for a Swin', 'swin'
    marks = ('encoder.layers.0.blocks.0.layernorm_before.weight', 'embeddings.patch_embeddings.projection.weight')
    also = ()
    attention = 'attention.self'
    inner = (
        ('norm1', 'layernorm_before'),
        ('attn.w_msa.proj', 'attention.output.dense'),
        ('attn.w_msa.relative_position_bias_table', 'attention.self.relative_position_bias_table'),
        ('norm2', 'layernorm_after'),
        ('ffn.layers.0.0', 'intermediate.dense'),
        ('ffn.layers.1', 'output.dense'),
    )

    def depths(self, names: Iterable[str]) -> tuple[int, ...]:
        return count_stages(names, r'encoder\.layers\.(\d+)\.blocks\.(\d+)\.')

    def pairs(self, depths: Sequence[int]) -> Iterator[Pair]:
        yield Pair('absolute_pos_embed', 'embeddings.position_embeddings')
        yield Pair('patch_embed.projection', 'embeddings.patch_embeddings.projection')
        yield Pair('patch_embed.norm', 'embeddings.norm')
        for stage, depth in enumerate(depths):
            for block in range(depth):
                ours, theirs = f'stages.{stage}.blocks.{block}', f'encoder.layers.{stage}.blocks.{block}'
                parts = tuple(f'{theirs}.attention.self.{part}' for part in ('query', 'key', 'value'))
                yield Pair(f'{ours}.attn.w_msa.qkv', parts)
                for own, other in self.inner:
                    yield Pair(f'{ours}.{own}', f'{theirs}.{other}')
            if stage < len(depths) - 1:
                for part in ('norm', 'reduction'):
                    merging = f'encoder.layers.{stage}.downsample.{part}'
                    yield Pair(f'stages.{stage}.downsample.{part}', merging, MERGING)
        yield Pair(f'norm{len(depths) - 1}', 'layernorm')

    def _table(self) -> str:
        return '.attention.self.'


class HuggingFaceDINOv3(HuggingFaceViT):
    """``DINOv3ViTModel``: rotary positions, keys without bias. The gated networks of its ViT-H+ are refused by name."""

    name, words = 'hf-dinov3', 'Hugging Face’s names for a DINOv3'
    marks = ('layer.0.norm1.weight', 'embeddings.patch_embeddings.weight')
    also = ('model.layer.0.norm1.weight', 'embeddings.patch_embeddings.weight')
    inside = r'(layer|embeddings|norm)\.(?!mask_token)'
    rotary, eps = ROTARY_BASE, 1e-5
    inner = (
        ('ln1', 'norm1'),
        ('attn.proj', 'attention.o_proj'),
        ('attn.gamma1.weight', 'layer_scale1.lambda1'),
        ('ln2', 'norm2'),
        ('ffn.layers.0.0', 'mlp.up_proj'),
        ('ffn.layers.1', 'mlp.down_proj'),
        ('ffn.gamma2.weight', 'layer_scale2.lambda1'),
    )

    def depths(self, names: Iterable[str]) -> tuple[int, ...]:
        return (count_blocks(names, r'layer\.(\d+)\.'),)

    def pairs(self, depths: Sequence[int]) -> Iterator[Pair]:
        yield Pair('cls_token', 'embeddings.cls_token')
        yield Pair('register_tokens', 'embeddings.register_tokens')
        yield Pair('patch_embed.projection', 'embeddings.patch_embeddings')
        yield Pair('ln1', 'norm')
        for i in range(depths[0]):
            parts = tuple(f'layer.{i}.attention.{part}' for part in _PROJECTIONS)
            yield Pair(f'layers.{i}.attn.qkv', parts)
            for ours, theirs in self.inner:
                yield Pair(f'layers.{i}.{ours}', f'layer.{i}.{theirs}')

    def in_file(self, name: str) -> str:
        return name.removeprefix('model.') if name.startswith('model.layer.') else name

    def before_reading(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # Without registers there is a tensor of none.
        return {name: value for name, value in super().before_reading(tensors).items() if value.numel()}

    def to_ours(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Keys without bias have none in ours either: with rotary positions one would not cancel in the softmax."""
        found, left = super().to_ours(tensors)
        given = self.before_reading(tensors)
        for i in range(self.depths(given)[0]):
            absent = f'layer.{i}.attention.k_proj.bias' not in given
            if absent and (bias := found.pop(f'layers.{i}.attn.qkv.bias', None)) is not None:
                queries, _, values = bias.chunk(3)
                found |= {f'layers.{i}.attn.q_bias': queries.clone(), f'layers.{i}.attn.v_bias': values.clone()}
        return found, left
