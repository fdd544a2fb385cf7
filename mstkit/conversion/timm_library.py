"""timm."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from mstkit.conversion.library import Features, Library, lacks, load_all, save, with_whole_bias
from mstkit.errors import UsageError
from mstkit.formats import Anatomy, Hints, Naming, SwinAnatomy, ViTAnatomy
from mstkit.formats.dinov3_names import TimmDINOv3
from mstkit.formats.timm_names import MicrosoftSwin, TimmBEiT, TimmSwin, TimmViT
from mstkit.interop import read_data

WEIGHTS = 'model.safetensors'


class TimmLibrary(Library):
    """timm's ``VisionTransformer``, ``Beit`` and ``SwinTransformer``.

    A folder is what ``timm.create_model('local-dir:FOLDER')`` loads; a file holds the weights alone.
    """

    name, words = 'timm', 'timm'
    folder = True

    def naming(self, anatomy: Anatomy) -> Naming:
        if isinstance(anatomy, SwinAnatomy):
            lacks(self.words, anatomy, {'absolute positions': anatomy.positions})
            return TimmSwin()
        if anatomy.rotary is not None:
            absent = {
                'rotary positions and a norm before the blocks': anatomy.pre_norm,
                'rotary positions and gated feed-forward networks': anatomy.gated,
                'rotary positions and no class token': not anatomy.class_token,
                'rotary positions and a norm after pooling': anatomy.pooled_norm or not anatomy.final_norm,
            }
            lacks(self.words, anatomy, absent)
            return TimmDINOv3()
        if anatomy.relative:
            absent = {
                'relative positions and registers': bool(anatomy.registers),
                'relative positions without a class token': not anatomy.class_token,
                'relative positions and a norm before the blocks': anatomy.pre_norm,
                'relative positions and gated feed-forward networks': anatomy.gated,
            }
            lacks(self.words, anatomy, absent | _norms(anatomy))
            return TimmBEiT()
        lacks(self.words, anatomy, _norms(anatomy))
        return TimmViT()

    def arguments(self, anatomy: Anatomy) -> tuple[str, dict[str, Any]]:
        """The architecture of timm's that is nearest, and the arguments of ``create_model`` that differ from it."""
        self.naming(anatomy)
        if isinstance(anatomy, SwinAnatomy):
            found: dict[str, Any] = dict(
                img_size=list(anatomy.image),
                patch_size=anatomy.patch[0],
                embed_dim=anatomy.width,
                depths=list(anatomy.depths),
                num_heads=list(anatomy.heads),
                window_size=anatomy.window,
            )
            return 'swin_tiny_patch4_window7_224', found
        found = dict(
            img_size=list(anatomy.image),
            patch_size=_one(anatomy.patch, 'patches'),
            embed_dim=anatomy.width,
            depth=anatomy.depth,
            num_heads=anatomy.heads,
            mlp_ratio=anatomy.hidden * (2 if anatomy.gated else 1) / anatomy.width,
            qkv_bias=anatomy.qkv_bias is not False,
            init_values=0.1 if anatomy.layer_scale else None,
            global_pool='avg' if anatomy.pooled_norm or anatomy.pool == 'avg' or not anatomy.class_token else 'token',
        )
        if anatomy.rotary is not None:
            found |= dict(
                num_reg_tokens=anatomy.registers,
                global_pool='avg' if anatomy.pool == 'avg' else 'token',
                rope_temperature=anatomy.rotary,
            )
            return 'vit_small_patch16_dinov3', found
        if anatomy.relative:
            found |= dict(
                global_pool='avg' if anatomy.pooled_norm else 'token',
                use_abs_pos_emb=anatomy.positions,
                use_rel_pos_bias=anatomy.relative == 'per_layer',
                use_shared_rel_pos_bias=anatomy.relative == 'shared',
            )
            return 'beit_base_patch16_224', found
        found |= dict(
            class_token=anatomy.class_token,
            reg_tokens=anatomy.registers,
            no_embed_class=bool(anatomy.registers),
            pos_embed='learn' if anatomy.positions else 'none',
            pre_norm=anatomy.pre_norm,
            final_norm=anatomy.final_norm or anatomy.pooled_norm,
            fc_norm=anatomy.pooled_norm,
        )
        return 'vit_giant_patch14_dinov2' if anatomy.gated else 'vit_small_patch16_224', found

    def build(self, anatomy: Anatomy) -> nn.Module:
        architecture, arguments = self.arguments(anatomy)
        network: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)
        return network

    def state(self, state: Mapping[str, Tensor], anatomy: Anatomy) -> tuple[dict[str, Tensor], list[str]]:
        keys_without = isinstance(anatomy, ViTAnatomy) and anatomy.relative is not None
        if isinstance(anatomy, ViTAnatomy) and anatomy.rotary is not None:
            # With rotary positions a bias of keys does not cancel: theirs have none either.
            lacks(self.words, anatomy, {'rotary positions and a bias of keys': anatomy.qkv_bias is True})
            return self.naming(anatomy).to_theirs(state, anatomy.depths), []
        adapted, notes = without_bias_of_keys(state) if keys_without else with_whole_bias(state)
        return self.naming(anatomy).to_theirs(adapted, anatomy.depths), notes

    def load(self, theirs: Mapping[str, Tensor], anatomy: Anatomy) -> nn.Module:
        architecture, arguments = self.arguments(anatomy)
        if isinstance(anatomy, ViTAnatomy) and anatomy.registers and 'pos_embed' in theirs:
            # Its registers may have positions, which ours, written with no_embed_class, do not.
            before = theirs['pos_embed'].shape[1] - anatomy.grid[0] * anatomy.grid[1]
            arguments['no_embed_class'] = before == 0
        network: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)
        family: Any = importlib.import_module(type(network).__module__)
        # It knows the layouts of DINOv2 and of the official Swin.
        load_all(network, family.checkpoint_filter_fn(dict(theirs), network), self.words)
        return network.eval()

    def features(self, network: Any, images: Tensor) -> Features:
        tokens = network.forward_features(images)
        if tokens.ndim == 4:  # a Swin's map
            patches = tokens.flatten(1, 2)
            return Features(patches.mean(dim=1), patches)
        extra = getattr(network, 'num_prefix_tokens', 1)  # a Beit has one, and does not say so in all versions
        if isinstance(network.fc_norm, nn.LayerNorm):
            return Features(network.fc_norm(tokens[:, extra:].mean(dim=1)), tokens[:, extra:])
        return Features(tokens[:, 0] if network.cls_token is not None else tokens.mean(dim=1), tokens[:, extra:])

    def write(self, path: Path, theirs: dict[str, Tensor], anatomy: Anatomy, hints: Hints, meta: Any) -> None:
        if path.suffix in self.endings:
            save(path, theirs)
            return
        path.mkdir()
        save(path / WEIGHTS, theirs)
        architecture, arguments = self.arguments(anatomy)
        side = min(anatomy.image)
        described: dict[str, Any] = dict(
            num_classes=0,
            input_size=[3, *anatomy.image],
            mean=[value / 255 for value in hints.mean or ()],
            std=[value / 255 for value in hints.std or ()],
            crop_pct=side / hints.resize if hints.resize else 0.875,
            interpolation='bicubic',
        )
        written = dict(
            architecture=architecture,
            num_classes=0,
            num_features=anatomy.width * 2 ** (len(anatomy.depths) - 1),
            global_pool=arguments.get('global_pool', 'avg'),
            model_args=arguments,
            pretrained_cfg={name: value for name, value in described.items() if value != []},
            mstkit=meta,
        )
        (path / 'config.json').write_text(json.dumps(written, indent=2) + '\n', encoding='utf-8')

    def reopen(self, path: Path, anatomy: Anatomy) -> nn.Module:
        if path.is_file():
            return self.load(read_data(path), anatomy)
        self.load(read_data(path / WEIGHTS), anatomy)  # strictly, which create_model is not for all tensors
        network: nn.Module = timm.create_model(f'local-dir:{path}', pretrained=True)
        return network.eval()

    def how_to_load(self, path: Path, anatomy: Anatomy) -> str:
        if path.suffix not in self.endings:
            return f"timm.create_model('local-dir:{path}', pretrained=True)"
        architecture, arguments = self.arguments(anatomy)
        more = ', '.join(f'{name}={value!r}' for name, value in arguments.items())
        return f"timm.create_model('{architecture}', num_classes=0, {more}, checkpoint_path='{path}')"


class DINOLibrary(TimmLibrary):
    """The layout in which DINO, iBOT and AttMask release backbones; their Swin is the official code's.

    Their code cannot be installed: the network that is compared is timm's, which reads these files.
    """

    name, words = 'dino', 'DINO’s code'
    folder = False

    def naming(self, anatomy: Anatomy) -> Naming:
        if isinstance(anatomy, SwinAnatomy):
            lacks(self.words, anatomy, {'absolute positions': anatomy.positions})
            return MicrosoftSwin()
        absent = {
            'registers': bool(anatomy.registers),
            'LayerScale': anatomy.layer_scale,
            'rotary positions': anatomy.rotary is not None,
            'relative positions': anatomy.relative is not None,
            'a norm before the blocks': anatomy.pre_norm,
            'gated feed-forward networks': anatomy.gated,
            'pooling of patches by a norm of its own': anatomy.pooled_norm or not anatomy.final_norm,
        }
        absent |= {'no class token': not anatomy.class_token, 'no absolute positions': not anatomy.positions}
        lacks(self.words, anatomy, absent)
        return TimmViT()

    def write(self, path: Path, theirs: dict[str, Tensor], anatomy: Anatomy, hints: Hints, meta: Any) -> None:
        save(path, theirs)

    def reopen(self, path: Path, anatomy: Anatomy) -> nn.Module:
        return self.load(read_data(path), anatomy)

    def how_to_load(self, path: Path, anatomy: Anatomy) -> str:
        return f"model.load_state_dict(torch.load('{path}', weights_only=True))"


def without_bias_of_keys(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Biases of queries and values alone: one of keys adds the same to all logits of a query, so it does not matter."""
    found: dict[str, Tensor] = {}
    count = 0
    for name, value in state.items():
        if name.endswith('.attn.qkv.bias'):
            queries, keys, values = value.chunk(3)
            count += bool(keys.any())
            found[name.replace('qkv.bias', 'q_bias')] = queries.clone()
            found[name.replace('qkv.bias', 'v_bias')] = values.clone()
        else:
            found[name] = value
    return found, [f'{count} biases of keys, which cancel in the softmax, are left out'] if count else []


def _norms(anatomy: ViTAnatomy) -> dict[str, bool]:
    both = anatomy.final_norm and anatomy.pooled_norm
    return {'a norm after the last block and one after pooling': both}


def _one(sides: tuple[int, int], words: str) -> int:
    if sides[0] != sides[1]:
        raise UsageError(f'timm takes square {words}, not {sides[0]}x{sides[1]}')
    return sides[0]
