"""torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer

from mstkit.conversion.library import Features, Library, lacks, with_bias
from mstkit.formats import Anatomy, Naming, SwinAnatomy
from mstkit.formats.torchvision_names import TorchvisionSwin, TorchvisionViT


class TorchvisionLibrary(Library):
    """torchvision's ``VisionTransformer`` and ``SwinTransformer``, with nothing in place of their classifiers."""

    name, words = 'torchvision', 'torchvision'

    def naming(self, anatomy: Anatomy) -> Naming:
        if isinstance(anatomy, SwinAnatomy):
            lacks(self.words, anatomy, {'absolute positions': anatomy.positions})
            return TorchvisionSwin()
        absent = {
            'registers': bool(anatomy.registers),
            'LayerScale': anatomy.layer_scale,
            'rotary positions': anatomy.rotary is not None,
            'relative positions': anatomy.relative is not None,
            'no absolute positions': not anatomy.positions,
            'no class token': not anatomy.class_token,
            'a norm before the blocks': anatomy.pre_norm,
            'a norm after pooling': anatomy.pooled_norm,
            'no norm after the last block': not anatomy.final_norm,
            'gated feed-forward networks': anatomy.gated,
            'images that are not square': anatomy.image[0] != anatomy.image[1],
            'patches that are not square': anatomy.patch[0] != anatomy.patch[1],
        }
        lacks(self.words, anatomy, absent)
        return TorchvisionViT()

    def arguments(self, anatomy: Anatomy) -> dict[str, Any]:
        """Of torchvision's class."""
        if isinstance(anatomy, SwinAnatomy):
            return dict(
                patch_size=list(anatomy.patch),
                embed_dim=anatomy.width,
                depths=list(anatomy.depths),
                num_heads=list(anatomy.heads),
                window_size=[anatomy.window, anatomy.window],
            )
        return dict(
            image_size=anatomy.image[0],
            patch_size=anatomy.patch[0],
            num_layers=anatomy.depth,
            num_heads=anatomy.heads,
            hidden_dim=anatomy.width,
            mlp_dim=anatomy.hidden,
        )

    def build(self, anatomy: Anatomy) -> nn.Module:
        self.naming(anatomy)
        arguments = self.arguments(anatomy)
        if isinstance(anatomy, SwinAnatomy):
            swin = SwinTransformer(**arguments, norm_layer=partial(nn.LayerNorm, eps=anatomy.eps))
            swin.head = nn.Identity()
            return swin
        vit = VisionTransformer(**arguments, norm_layer=partial(nn.LayerNorm, eps=anatomy.eps))
        vit.heads = nn.Identity()
        return vit

    def state(self, state: Mapping[str, Tensor], anatomy: Anatomy) -> tuple[dict[str, Tensor], list[str]]:
        adapted, notes = with_bias(state)
        return self.naming(anatomy).to_theirs(adapted, anatomy.depths), notes

    def load(self, theirs: Mapping[str, Tensor], anatomy: Anatomy) -> nn.Module:
        # Of an older version, brought to the names of this one; what is left by our names is left by its network.
        naming: Any = self.naming(anatomy)
        return super().load(naming.before_reading(theirs), anatomy)

    def features(self, network: Any, images: Tensor) -> Features:
        if isinstance(network, SwinTransformer):
            patches = network.norm(network.features(images)).flatten(1, 2)
            return Features(patches.mean(dim=1), patches)
        tokens = network.conv_proj(images).flatten(2).transpose(1, 2)  # by its parts: its forward gives no patch tokens
        tokens = network.encoder(torch.cat((network.class_token.expand(len(tokens), -1, -1), tokens), dim=1))
        return Features(tokens[:, 0], tokens[:, 1:])

    def how_to_load(self, path: Path, anatomy: Anatomy) -> str:
        more = ', '.join(f'{name}={value!r}' for name, value in self.arguments(anatomy).items())
        kind, head = ('SwinTransformer', 'head') if isinstance(anatomy, SwinAnatomy) else ('VisionTransformer', 'heads')
        if not isinstance(anatomy, SwinAnatomy) and anatomy.eps == 1e-6:
            more += ', norm_layer=partial(torch.nn.LayerNorm, eps=1e-6)'
        return (
            f'net = torchvision.models.{kind}({more}); net.{head} = torch.nn.Identity(); '
            f"net.load_state_dict(torch.load('{path}', weights_only=True))"
        )
