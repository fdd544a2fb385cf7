"""One training step of MAE with ViT-S/16 in other packages: mmpretrain's algorithm, and lightly's parts.

Both hide three quarters of the patches at random, decode by 8 layers of 512 channels and 16 heads, predict pixels
normalized per patch, and are trained by AdamW without clipping, as configs/mae have it.
"""

from __future__ import annotations

import contextlib
from typing import Any

import timm
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from contest.clock import Clock
from contest.our_step import made_views

DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE, PATCH, RATIO = 224, 16, 0.75
DECODER = dict(decoder_embed_dim=512, decoder_depth=8, decoder_num_heads=16)


class MAEStep:
    """What both have.

    Args:
        sizes: the side of the view, which is 224.
        batch: images.
        device: where.
        dtype: float32, bfloat16 or float16 (without a loss scaler, whose time is next to nothing).
        out_dim: not used: there are no prototypes.
    """

    def __init__(self, sizes: list[int], batch: int, device: str, dtype: str, out_dim: int) -> None:
        del out_dim
        torch.manual_seed(0)
        self.device, self.dtype, self.clock = torch.device(device), DTYPES[dtype], None
        self.model = self.build().to(self.device).train()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
        # Their loaders hand over float images; ours uint8, whose conversion is part of our step.
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        self.images = ((made_views(sizes, batch)[0] / 255 - mean) / std).to(self.device)

    def build(self) -> nn.Module:
        """The network."""
        raise NotImplementedError

    def forward(self) -> Tensor:
        """The loss of the images."""
        raise NotImplementedError

    def watch(self, clock: Clock) -> None:
        """Lets a clock book the phases of the coming steps."""
        self.clock = clock

    def phase(self, name: str) -> Any:
        """A phase of the clock, where one watches."""
        return contextlib.nullcontext() if self.clock is None else self.clock.phase(name)

    def __call__(self) -> None:
        half = self.dtype is not torch.float32
        with self.phase('losses'), torch.autocast(self.device.type, self.dtype, enabled=half):
            loss = self.forward()
        with self.phase('backward'):
            loss.backward()
        with self.phase('optimizer'):
            self.optimizer.step()
            self.optimizer.zero_grad()


class MMPretrainMAE(MAEStep):
    """``mmpretrain.MAE``, with its own encoder, decoder and head."""

    def build(self) -> nn.Module:
        """From a config, as its own are."""
        config = dict(
            type='MAE',
            backbone=dict(type='MAEViT', arch='deit-small', img_size=SIZE, patch_size=PATCH, mask_ratio=RATIO),
            neck=dict(
                type='MAEPretrainDecoder', num_patches=(SIZE // PATCH) ** 2, patch_size=PATCH, embed_dim=384, **DECODER
            ),
            head=dict(
                type='MAEPretrainHead',
                norm_pix=True,
                patch_size=PATCH,
                loss=dict(type='PixelReconstructionLoss', criterion='L2'),
            ),
        )
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(config)
            model.init_weights()
        return model

    def forward(self) -> Tensor:
        """Its own."""
        return self.model.loss(self.images, [])['loss']


class LightlyMAE(MAEStep):
    """lightly's encoder and decoder around timm's ViT, put together as its documentation does."""

    def build(self) -> nn.Module:
        """Encoder and decoder."""
        from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM

        vit = timm.create_model('vit_small_patch16_224', num_classes=0)
        encoder = MaskedVisionTransformerTIMM(vit=vit)
        encoder.mask_token.requires_grad_(False)  # of other methods
        decoder = MAEDecoderTIMM(
            num_patches=vit.patch_embed.num_patches, patch_size=PATCH, embed_dim=384, mlp_ratio=4.0, **DECODER
        )
        return nn.ModuleDict(dict(encoder=encoder, decoder=decoder))

    def forward(self) -> Tensor:
        """Only hidden patches go through its last layer."""
        from lightly.models import utils

        encoder, decoder = self.model['encoder'], self.model['decoder']
        size = (len(self.images), encoder.sequence_length)
        kept, hidden = utils.random_token_mask(size=size, mask_ratio=RATIO, device=self.device)
        seen = decoder.embed(encoder.encode(images=self.images, idx_keep=kept))
        whole = utils.set_at_index(utils.repeat_token(decoder.mask_token, size), kept, seen.type_as(decoder.mask_token))
        predicted = decoder.predict(utils.get_at_index(decoder.decode(whole), hidden))
        target = utils.get_at_index(utils.patchify(self.images, PATCH), hidden - 1)  # without the class token
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        return nn.functional.mse_loss(predicted.float(), (target - mean) / (variance + 1e-6).sqrt())
