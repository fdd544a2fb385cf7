"""CL-MAE's masking network: a small transformer that says of every patch of an image how visible it is to be."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.encoder_layer import EncoderLayer, TransformerEncoderLayer
from mstkit.registry import MODELS
from mstkit.utils.checks import check_count, check_number, check_size


@MODELS.register_module()
class MaskingTransformer(BaseModule):
    """Patch embeddings (B, L, C) to visibilities (B, L) in (0, 1) (CL-MAE, Madan et al., WACV 2024, 2308.16572).

    As in CL-MAE's code: a class token before the patches, transformer layers as wide as the patches, and of the class
    token a LayerNorm, a linear layer with one output for each patch, and a sigmoid. Weights of linear layers are
    Xavier-uniform, their biases zero, the class token is normal, std 0.02.

    Args:
        channels: C, a multiple of ``num_heads``; filled in from the backbone.
        patches: L, likewise. The last layer has an output for each, so images of another size cannot be taken.
        num_layers: number of transformer layers.
        num_heads: attention heads per layer.
        mlp_ratio: hidden width of the MLPs, as a multiple of C.
        lr_mult: the learning rate of this network, as a multiple of the model's.

    Raises:
        UsageError: a number of heads that does not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        patches: int,
        num_layers: int = 5,
        num_heads: int = 4,
        mlp_ratio: float = 4.0,
        lr_mult: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        width = check_size('MaskingTransformer.channels', channels)
        self.patches = check_size('MaskingTransformer.patches', patches)
        check_count('MaskingTransformer.num_layers', num_layers, 1, 1000)
        if width % check_count('MaskingTransformer.num_heads', num_heads, 1, 4096):
            raise UsageError(
                f'MaskingTransformer.num_heads is {num_heads}, which does not divide the {width} channels of the patch '
                'embeddings: give one that does'
            )
        hidden = int(check_number('MaskingTransformer.mlp_ratio', mlp_ratio, 1 / width, 64) * width)
        self.lr_mult = check_number('MaskingTransformer.lr_mult', lr_mult, 0, 1e6)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        norm = dict(type='LN', eps=1e-5)
        self.layers = nn.ModuleList(
            EncoderLayer(TransformerEncoderLayer(width, num_heads, hidden, norm_cfg=norm)) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.visibility = nn.Linear(width, self.patches)
        self._init_own_weights()

    def init_weights(self) -> None:
        """See the class."""
        super().init_weights()
        self._init_own_weights()

    def _init_own_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.cls_token, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Visibilities (B, L), float32 under autocast too, of patch embeddings with positions (B, L, C)."""
        tokens = torch.cat((self.cls_token.expand(len(tokens), -1, -1).to(tokens.dtype), tokens), dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        logits = self.visibility(self.norm(tokens[:, 0]))
        # In half precision a sigmoid is exactly 0 or 1 from logits of 17 or 9 on, and has no gradient then.
        return torch.sigmoid(logits if logits.dtype == torch.float64 else logits.float())
