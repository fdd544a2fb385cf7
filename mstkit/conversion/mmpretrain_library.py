"""mmpretrain, whose names are also mstkit's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmpretrain.models import BEiTViT, SwinTransformer, VisionTransformer
from torch import Tensor, nn

from mstkit.conversion.library import Features, Library, lacks, save
from mstkit.conversion.own_network import build_ours
from mstkit.formats import Anatomy, Hints, Naming, SwinAnatomy
from mstkit.formats.mmpretrain_names import MmpretrainSwin, MmpretrainViT
from mstkit.formats.weight_file import META
from mstkit.interop import mmpretrain_state, read_data
from mstkit.models.backbones import MaskedVisionTransformer
from mstkit.networks import Network

PREFIX = 'backbone.'
# Arguments of mstkit's ViT that mmpretrain's does not have.
OURS_ALONE = ('positions', 'rotary_base', 'relative_positions', 'num_registers', 'global_pool', 'interpolate_offset')


class MmpretrainLibrary(Library):
    """mmpretrain's ``VisionTransformer``, ``BEiTViT`` and ``SwinTransformer``.

    The file is a checkpoint of OpenMMLab's layout, for ``init_cfg=dict(type='Pretrained', prefix='backbone.')``.
    """

    name, words = 'mmpretrain', 'mmpretrain'
    endings = ('.pth', '.pt')

    def naming(self, anatomy: Anatomy) -> Naming:
        if isinstance(anatomy, SwinAnatomy):
            return MmpretrainSwin()
        of_beit = self._is_beit(anatomy)
        absent = {
            'registers': bool(anatomy.registers),
            'rotary positions': anatomy.rotary is not None,
            'relative positions and no class token': of_beit and not anatomy.class_token,
            'relative positions and a norm before the blocks': of_beit and anatomy.pre_norm,
            'relative positions and gated feed-forward networks': of_beit and anatomy.gated,
            'no positions at all': not anatomy.positions and anatomy.relative is None and not of_beit,
        }
        lacks(self.words, anatomy, absent)
        return MmpretrainViT()

    def _is_beit(self, anatomy: Any) -> bool:
        return anatomy.relative is not None or not anatomy.positions or anatomy.qkv_bias == 'qv_bias'

    def arguments(self, anatomy: Anatomy) -> tuple[type, dict[str, Any]]:
        """mmpretrain's class and its arguments."""
        settings = {name: value for name, value in anatomy.config().items() if name not in (*OURS_ALONE, 'type')}
        if isinstance(anatomy, SwinAnatomy):
            return SwinTransformer, settings
        if not self._is_beit(anatomy):
            return VisionTransformer, settings
        settings.pop('qkv_bias', None)
        settings |= dict(
            use_abs_pos_emb=anatomy.positions,
            use_rel_pos_bias=anatomy.relative == 'per_layer',
            use_shared_rel_pos_bias=anatomy.relative == 'shared',
            bias='qv_bias' if anatomy.qkv_bias == 'qv_bias' else anatomy.qkv_bias,
            final_norm=anatomy.final_norm,
            out_type='avg_featmap' if anatomy.pooled_norm else 'cls_token',
            layer_scale_init_value=0.1 if anatomy.layer_scale else 0.0,
        )
        return BEiTViT, settings

    def build(self, anatomy: Anatomy) -> nn.Module:
        self.naming(anatomy)
        kind, settings = self.arguments(anatomy)
        network: nn.Module = kind(**settings)
        return network

    def state(self, state: Mapping[str, Tensor], anatomy: Anatomy) -> tuple[dict[str, Tensor], list[str]]:
        self.naming(anatomy)
        return mmpretrain_state(build_ours(anatomy, state)), []

    def features(self, network: Any, images: Tensor) -> Features:
        # The adapter that evaluations use, which hooks into mmpretrain's own forward pass.
        tokens = Network(network, 'mmpretrain', images.shape[-1], (0.0,) * 3, (1.0,) * 3)(images)
        return Features(tokens.pooled, tokens.patch_tokens)

    def write(self, path: Path, theirs: dict[str, Tensor], anatomy: Anatomy, hints: Hints, meta: Any) -> None:
        state = {f'{PREFIX}{name}': value for name, value in theirs.items()}
        torch.save(dict(state_dict=state, meta=dict(mstkit=meta)), path)

    def reopen(self, path: Path, anatomy: Anatomy) -> nn.Module:
        return self.load(_without_prefix(read_data(path)['state_dict']), anatomy)

    def how_to_load(self, path: Path, anatomy: Anatomy) -> str:
        kind, settings = self.arguments(anatomy)
        settings = dict(type=kind.__name__, **settings)
        settings |= dict(init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix=PREFIX))
        return ', '.join(f'{name}={value!r}' for name, value in settings.items()).join(('backbone=dict(', ')'))


class OwnLibrary(Library):
    """mstkit's own networks in one file of safetensors, with their config inside: smaller and never a pickle."""

    name, words = 'safetensors', 'mstkit'
    endings = ('.safetensors',)

    def naming(self, anatomy: Anatomy) -> Naming:
        return MmpretrainSwin() if isinstance(anatomy, SwinAnatomy) else MmpretrainViT()

    def build(self, anatomy: Anatomy) -> nn.Module:
        return build_ours(anatomy)

    def state(self, state: Mapping[str, Tensor], anatomy: Anatomy) -> tuple[dict[str, Tensor], list[str]]:
        return {name: value.contiguous().clone() for name, value in state.items()}, []

    def features(self, network: Any, images: Tensor) -> Features:
        if isinstance(network, MaskedVisionTransformer) and network.out_type == 'avg_featmap':  # a norm after pooling
            tokens = Network(network, 'mstkit', images.shape[-1], (0.0,) * 3, (1.0,) * 3)(images)
        else:
            tokens = network.forward_tokens(images)
        return Features(tokens.pooled, tokens.patch_tokens)

    def write(self, path: Path, theirs: dict[str, Tensor], anatomy: Anatomy, hints: Hints, meta: Any) -> None:
        state = {f'{PREFIX}{name}': value for name, value in theirs.items()}
        save(path, state, {META: json.dumps(meta)})

    def reopen(self, path: Path, anatomy: Anatomy) -> nn.Module:
        return self.load(_without_prefix(read_data(path)), anatomy)

    def how_to_load(self, path: Path, anatomy: Anatomy) -> str:
        return f"mstkit.load('{path}')"


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(PREFIX): value for name, value in state.items()}
