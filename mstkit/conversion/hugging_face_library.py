"""Hugging Face transformers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mstkit.conversion.library import (
    Features,
    Library,
    lacks,
    save,
    with_bias,
    with_layer_scale,
    with_whole_bias,
)
from mstkit.errors import UsageError
from mstkit.formats import Anatomy, Hints, Naming, SwinAnatomy, ViTAnatomy
from mstkit.formats.hugging_face_names import (
    HuggingFaceBEiT,
    HuggingFaceDINOv2,
    HuggingFaceDINOv3,
    HuggingFaceSwin,
    HuggingFaceViT,
)
from mstkit.formats.naming import COMPUTED
from mstkit.utils.optional_packages import needed

WEIGHTS = 'model.safetensors'
MASK_TOKEN = 'embeddings.mask_token'  # of hidden patches, which no forward pass without a mask reads
REGISTERS = 'embeddings.register_tokens'
BICUBIC = 3  # Pillow's number for it


class HuggingFaceLibrary(Library):
    """``ViTModel``, ``Dinov2Model``, ``Dinov2WithRegistersModel``, ``DINOv3ViTModel``, ``BeitModel``, ``SwinModel``.

    Weights are written under the names that files have, which all versions of transformers read, and checked by
    ``AutoModel.from_pretrained``, which reports what is missing.
    """

    name, words = 'hf', 'Hugging Face transformers'
    folder = True

    def naming(self, anatomy: Anatomy) -> Naming:
        if isinstance(anatomy, SwinAnatomy):
            return HuggingFaceSwin()
        absent = {
            'no class token': not anatomy.class_token,
            'a norm before the blocks': anatomy.pre_norm,
            'a norm after the last block and one after pooling': anatomy.final_norm and anatomy.pooled_norm,
            'no norm after the last block': not anatomy.final_norm and not anatomy.pooled_norm,
            'no absolute positions': not anatomy.positions and anatomy.relative is None and anatomy.rotary is None,
        }
        if anatomy.rotary is not None:
            absent |= {'rotary positions and a norm after pooling': anatomy.pooled_norm}
            # Those of its ViT-H+ keep gate and value in two layers, and are refused when they are read, too.
            absent |= {'rotary positions and gated feed-forward networks': anatomy.gated}
            lacks(self.words, anatomy, absent)
            return HuggingFaceDINOv3()
        if anatomy.relative is not None:
            absent |= {'relative positions and registers': bool(anatomy.registers)}
            absent |= {'relative positions and gated feed-forward networks': anatomy.gated}
            lacks(self.words, anatomy, absent)
            return HuggingFaceBEiT()
        lacks(self.words, anatomy, absent | {'a norm after pooling': anatomy.pooled_norm})
        if anatomy.registers or anatomy.layer_scale or anatomy.gated:
            return HuggingFaceDINOv2()
        return HuggingFaceViT()

    def config(self, anatomy: Anatomy) -> Any:
        """The config of transformers' class."""
        transformers = needed('transformers', 'convert')
        naming = self.naming(anatomy)
        common: dict[str, Any] = dict(
            image_size=_sides(anatomy.image), layer_norm_eps=anatomy.eps, hidden_act='gelu', qkv_bias=True
        )
        if isinstance(anatomy, SwinAnatomy):
            return transformers.SwinConfig(
                **common,
                patch_size=_sides(anatomy.patch),
                embed_dim=anatomy.width,
                depths=list(anatomy.depths),
                num_heads=list(anatomy.heads),
                window_size=anatomy.window,
                use_absolute_embeddings=anatomy.positions,
                drop_path_rate=0.0,
            )
        common |= dict(
            patch_size=_sides(anatomy.patch),
            hidden_size=anatomy.width,
            num_hidden_layers=anatomy.depth,
            num_attention_heads=anatomy.heads,
        )
        if isinstance(naming, HuggingFaceDINOv2):
            if anatomy.hidden % anatomy.width and not anatomy.gated:
                raise UsageError(
                    f'{self.words} has ViTs with registers or LayerScale whose feed-forward networks are a whole '
                    f'number of times as wide as their tokens, not {anatomy.hidden} to {anatomy.width}'
                )
            ratio = anatomy.hidden // anatomy.width
            more: dict[str, Any] = dict(mlp_ratio=ratio, use_swiglu_ffn=anatomy.gated, use_mask_token=False)
            if anatomy.gated:
                more |= dict(mlp_ratio=_ratio_of_gated(anatomy))
            if anatomy.registers:
                more |= dict(num_register_tokens=anatomy.registers)
                return transformers.Dinov2WithRegistersConfig(**common, **more)
            return transformers.Dinov2Config(**common, **more)
        common |= dict(intermediate_size=anatomy.hidden)
        if isinstance(naming, HuggingFaceDINOv3):
            if not hasattr(transformers, 'DINOv3ViTConfig'):  # by version
                raise UsageError(f'transformers {transformers.__version__} has no DINOv3: 4.56 and later have')
            common.pop('qkv_bias')
            return transformers.DINOv3ViTConfig(
                **common,
                rope_theta=anatomy.rotary,
                num_register_tokens=anatomy.registers,
                query_bias=anatomy.qkv_bias is not False,
                key_bias=anatomy.qkv_bias is True,
                value_bias=anatomy.qkv_bias is not False,
            )
        if isinstance(naming, HuggingFaceBEiT):
            common.pop('qkv_bias')
            return transformers.BeitConfig(
                **common,
                use_mask_token=False,
                use_absolute_position_embeddings=anatomy.positions,
                use_relative_position_bias=anatomy.relative == 'per_layer',
                use_shared_relative_position_bias=anatomy.relative == 'shared',
                layer_scale_init_value=0.1 if anatomy.layer_scale else 0.0,
                use_mean_pooling=anatomy.pooled_norm,
                drop_path_rate=0.0,
            )
        return transformers.ViTConfig(**{**common, 'qkv_bias': anatomy.qkv_bias is not False})

    def build(self, anatomy: Anatomy) -> nn.Module:
        config = self.config(anatomy)
        transformers = needed('transformers', 'convert')
        kind = getattr(transformers, CLASSES[type(config).__name__])  # by its name, since the package imports on demand
        network: nn.Module = kind(config, **self._without_pooling(anatomy))
        return network

    def _without_pooling(self, anatomy: Anatomy) -> dict[str, bool]:
        kind = type(self.naming(anatomy))
        if kind in (HuggingFaceDINOv2, HuggingFaceDINOv3):
            return {}
        return dict(add_pooling_layer=isinstance(anatomy, ViTAnatomy) and anatomy.pooled_norm)

    def state(self, state: Mapping[str, Tensor], anatomy: Anatomy) -> tuple[dict[str, Tensor], list[str]]:
        naming = self.naming(anatomy)
        if isinstance(naming, HuggingFaceDINOv3) and isinstance(anatomy, ViTAnatomy):
            return _of_dinov3(naming, state, anatomy)
        adapted, notes = with_whole_bias(state) if isinstance(naming, HuggingFaceViT) else with_bias(state)
        if isinstance(naming, HuggingFaceDINOv2 | HuggingFaceBEiT):
            adapted, notes = with_bias(state)
        if isinstance(naming, HuggingFaceDINOv2) and isinstance(anatomy, ViTAnatomy):
            adapted, more = with_layer_scale(adapted, anatomy)
            notes = notes + more + (['a [MASK] embedding of zeros is added'] if self._has_mask_token(anatomy) else [])
        return naming.to_theirs(adapted, anatomy.depths), notes

    def _has_mask_token(self, anatomy: Anatomy) -> bool:
        """Whether the network has one that cannot be left out; DINOv2 by version and by whether it has registers."""
        if not isinstance(self.naming(anatomy), HuggingFaceDINOv2):
            return False
        with torch.device('meta'):
            return MASK_TOKEN in self.build(anatomy).state_dict()

    def load(self, theirs: Mapping[str, Tensor], anatomy: Anatomy) -> nn.Module:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'encoder'
            self.write(path, dict(theirs), anatomy, Hints(), None)
            return self.reopen(path, anatomy)

    def write(self, path: Path, theirs: dict[str, Tensor], anatomy: Anatomy, hints: Hints, meta: Any) -> None:
        path.mkdir()
        config = self.config(anatomy)
        if self._has_mask_token(anatomy):
            theirs = {MASK_TOKEN: torch.zeros(1, config.hidden_size), **theirs}
        if isinstance(self.naming(anatomy), HuggingFaceDINOv3):
            none = {} if config.num_register_tokens else {REGISTERS: torch.zeros(1, 0, config.hidden_size)}
            theirs = {MASK_TOKEN: torch.zeros(1, 1, config.hidden_size), **none, **theirs}
        save(path / WEIGHTS, theirs)
        written = {**config.to_dict(), 'architectures': [CLASSES[type(config).__name__]]}
        written |= dict(mstkit=meta) if meta else {}
        (path / 'config.json').write_text(json.dumps(written, indent=2, sort_keys=True) + '\n', encoding='utf-8')
        if hints.mean and hints.std:
            side = dict(height=anatomy.image[0], width=anatomy.image[1])
            prepared = dict(
                image_processor_type='BitImageProcessor',
                do_resize=True,
                size=dict(shortest_edge=hints.resize or min(anatomy.image)),
                resample=BICUBIC,
                do_center_crop=True,
                crop_size=side,
                do_rescale=True,
                rescale_factor=1 / 255,
                do_normalize=True,
                do_convert_rgb=True,
                image_mean=[value / 255 for value in hints.mean],
                image_std=[value / 255 for value in hints.std],
            )
            text = json.dumps(prepared, indent=2) + '\n'
            (path / 'preprocessor_config.json').write_text(text, encoding='utf-8')

    def reopen(self, path: Path, anatomy: Anatomy) -> nn.Module:
        transformers = needed('transformers', 'convert')
        config = self.config(anatomy)
        kind = getattr(transformers, CLASSES[type(config).__name__])  # see above
        with quiet(transformers):
            try:
                network, told = kind.from_pretrained(path, output_loading_info=True, **self._without_pooling(anatomy))
            except RuntimeError as error:  # of tensors with other shapes
                raise UsageError(f'the network of {self.words} does not load them: {error}') from error
        for what, key in (('misses', 'missing_keys'), ('does not know', 'unexpected_keys')):
            names = sorted(name for name in told[key] if not COMPUTED.fullmatch(name))
            if names:
                raise UsageError(f'the network of {self.words} {what} {names[0]} ({len(names)} in all)')
        if told['mismatched_keys']:
            raise UsageError(f'the network of {self.words} has another shape for {sorted(told["mismatched_keys"])[0]}')
        return network.eval()

    def features(self, network: Any, images: Tensor) -> Features:
        output = network(pixel_values=images)
        tokens = output.last_hidden_state
        if type(network).__name__ == 'SwinModel':
            return Features(tokens.mean(dim=1), tokens)
        extra = 1 + getattr(network.config, 'num_register_tokens', 0)  # of two classes
        pooled = network.pooler is not None if hasattr(network, 'pooler') else False  # DINOv2's have none
        return Features(output.pooler_output if pooled else tokens[:, 0], tokens[:, extra:])

    def how_to_load(self, path: Path, anatomy: Anatomy) -> str:
        more = ', add_pooling_layer=False' if self._without_pooling(anatomy) == dict(add_pooling_layer=False) else ''
        return f"transformers.AutoModel.from_pretrained('{path}'{more})"


CLASSES = {
    'ViTConfig': 'ViTModel',
    'Dinov2Config': 'Dinov2Model',
    'Dinov2WithRegistersConfig': 'Dinov2WithRegistersModel',
    'BeitConfig': 'BeitModel',
    'DINOv3ViTConfig': 'DINOv3ViTModel',
    'SwinConfig': 'SwinModel',
}


class quiet:
    """Within it transformers prints neither progress nor advice; what is wrong is said by us."""

    def __init__(self, transformers: Any) -> None:
        self.logging = transformers.utils.logging

    def __enter__(self) -> None:
        self.level = self.logging.get_verbosity()
        self.logging.set_verbosity_error()
        self.logging.disable_progress_bar()

    def __exit__(self, *error: object) -> None:
        self.logging.set_verbosity(self.level)
        self.logging.enable_progress_bar()


def _of_dinov3(naming: Naming, state: Mapping[str, Tensor], anatomy: ViTAnatomy) -> tuple[dict[str, Tensor], list[str]]:
    adapted, notes = with_layer_scale(with_whole_bias(state)[0], anatomy)
    found = naming.to_theirs(adapted, anatomy.depths)
    if anatomy.qkv_bias is not True:  # its keys may have a bias, and have none where ours have none
        found = {name: value for name, value in found.items() if not name.endswith('.k_proj.bias')}
    return found, [*notes, 'a [MASK] embedding of zeros is added']


def _ratio_of_gated(anatomy: ViTAnatomy) -> int:
    """By which transformers computes the width of DINOv2's gated networks: two thirds of it, to a multiple of eight."""
    for ratio in range(1, 17):
        if (int(int(anatomy.width * ratio) * 2 / 3) + 7) // 8 * 8 == anatomy.hidden:
            return ratio
    raise UsageError(
        f'Hugging Face transformers has no gated networks of {anatomy.hidden} channels for tokens of {anatomy.width}'
    )


def _sides(size: tuple[int, int]) -> int | list[int]:
    return size[0] if size[0] == size[1] else list(size)
