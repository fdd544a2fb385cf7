"""One training step of MAE with ViT-S/16 in other packages: mmpretrain's algorithm, and lightly's parts.

Both hide three quarters of the patches at random, decode by 8 layers of 512 channels and 16 heads, predict pixels
normalized per patch, and are trained by AdamW without clipping, as configs/mae have it.
"""

from __future__ import annotations

import timm
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from contest.peer_step import PeerStep

SIZE, PATCH, RATIO = 224, 16, 0.75
DECODER = dict(decoder_embed_dim=512, decoder_depth=8, decoder_num_heads=16)


class MAEStep(PeerStep):
    """What both have.

    Args:
        sizes: the side of the view, which is 224.
        batch: see :class:`PeerStep`; so are ``device`` and ``dtype``.
        out_dim: not used: there are no prototypes.
    """

    def __init__(self, sizes: list[int], batch: int, device: str, dtype: str, out_dim: int) -> None:
        del out_dim
        super().__init__(sizes, batch, device, dtype)
        self.model = self.build().to(self.device).train()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
        (self.images,) = self.views

    def build(self) -> nn.Module:
        """The network."""
        raise NotImplementedError


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
        """See :func:`contest.lightly_parts.mae_forward`; of pixels normalized per patch."""
        from contest.lightly_parts import mae_forward

        predicted, target = mae_forward(self.model['encoder'], self.model['decoder'], self.images, RATIO, PATCH)
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
        return nn.functional.mse_loss(predicted, (target - mean) / (variance + 1e-6).sqrt())
