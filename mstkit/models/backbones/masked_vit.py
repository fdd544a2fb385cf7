"""mmpretrain's vision transformer with masked input."""

from __future__ import annotations

from typing import Any, Literal

import torch
from mmpretrain.models.backbones import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mstkit.models.backbones.attention_scores import SCORES, pooled_attention
from mstkit.models.backbones.backbone_checks import vit_arguments
from mstkit.models.backbones.masked_backbone import (
    MaskedBackbone,
    Read,
    expand_mask,
)
from mstkit.models.backbones.vit_embedding import ViTEmbedding
from mstkit.models.backbones.vit_initialization import INITIALIZATIONS, initialize_vit
from mstkit.models.encoder_attention import QV_BIAS
from mstkit.models.encoder_layer import EncoderLayer
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput, VisibleOutput
from mstkit.utils.checks import check_count, check_number, check_one_of
from mstkit.utils.relative_positions import TokenPairs
from mstkit.utils.rotary_positions import ROTARY_BASE, Rotation


@MODELS.register_module()
class MaskedVisionTransformer(ViTEmbedding, MaskedBackbone, VisionTransformer):
    """mmpretrain's :class:`VisionTransformer` with masked input.

    Arguments, state-dict keys and the output of ``forward`` are mmpretrain's; registers are ``register_tokens``
    (1, R, C), as in DINOv2. Attention is fused; the attention that guides a masker is computed separately and only on
    request, see :func:`pooled_attention`.

    With ``layer_scale_init_value=0.1, relative_positions='shared', positions='none', qkv_bias='qv_bias'`` it is the
    encoder of BEiT and of SimMIM's ViT (mmpretrain's ``BEiTViT``).

    Args:
        *args: as mmpretrain's.
        interpolate_offset: added to the height and width of the grid when positions are interpolated for another image
            size, see :func:`mstkit.utils.position_interpolation.resize_positions`. Use 0.1 for the released weights of
            DINO, iBOT and AttMask, which were trained with it, and 0, the default, for weights trained with mstkit.
        positions: absolute positions: 'learned'; 'sincos', fixed, in MAE's order; or 'none' (None). 'rotary' instead
            turns queries and keys of patches, not those of class token and registers, by angles of their places
            (DINOv3, Siméoni et al., arXiv 2508.10104), see :class:`mstkit.utils.rotary_positions.Rotation`.
        relative_positions: biases of the attention's logits by the offset of query and key, with three entries for the
            class token (Bao et al., ICLR 2022): 'shared', one table for all layers, as BEiT and SimMIM pre-train;
            'per_layer', one for each, as they fine-tune; or None. They start at zero. For another grid than that of
            ``img_size`` the table is interpolated, see :func:`mstkit.utils.relative_positions.resize_bias_table`; a
            loaded shared table is copied to every layer. Registers have no bias.
        qkv_bias: True, False, or BEiT's 'qv_bias': for queries and values only (a bias of the keys cancels in the
            softmax).
        num_registers: R, number of register tokens: learned tokens that are attended to but not part of any output, so
            that patch tokens need not store global information (Darcet et al., arXiv 2309.16588, who use 4). As in
            DINOv2, the order is class token, registers, patches, registers have no position, and they are initialized
            normal with std 1e-6.
        initialization: 'trunc_normal', DINO's: linear layers and class token truncated normal, std 0.02; 'xavier',
            MAE's: linear layers and patch projection Xavier-uniform, class token normal, std 0.02; 'moco_v3', MoCo v3's
            and BootMAE's: likewise, but queries, keys and values each by themselves, and the class token's std 1e-6;
            'beit', BEiT's and SimMIM's: linear layers, patch projection and class token normal, std 0.02, truncated at
            ±0.02, and the last linear layer of both branches of layer i (from 1) divided by sqrt(2i).
        global_pool: as timm's, what k-NN, probes and other measurements take as the feature of an image: 'token', the
            class token; 'avg', the mean of the patch tokens, for methods that do not train the class token. Training
            does not depend on it.
        rotary_base: of the periods of rotary positions, nearly the longest over the shortest one; DINOv3's is 100.
        layer_scale_init_value: mmpretrain's, initial value of LayerScale's factors (Touvron et al., ICCV 2021); 0 or
            None for no LayerScale.
        with_cp: activation checkpointing: keep only the input of each layer and recompute the layer in the backward
            pass; a third more time, a fraction of the memory. Named as in mmpretrain's Swin.
        **kwargs: as mmpretrain's.
    """

    attention_scores = SCORES
    encodes_visible = True
    num_extra_tokens = 1  # mmpretrain sets it to 0 without a class token

    def __init__(
        self,
        *args: Any,
        interpolate_offset: float = 0.0,
        with_cp: bool = False,
        positions: Literal['learned', 'sincos', 'rotary', 'none'] | None = 'learned',
        initialization: Literal['trunc_normal', 'xavier', 'moco_v3', 'beit'] = 'trunc_normal',
        num_registers: int = 0,
        relative_positions: Literal['shared', 'per_layer'] | None = None,
        global_pool: Literal['token', 'avg'] = 'token',
        rotary_base: float = ROTARY_BASE,
        **kwargs: Any,
    ) -> None:
        settings = vit_arguments(type(self).__name__, args, kwargs)
        only_qv = settings['qkv_bias'] == QV_BIAS
        super().__init__(**{**settings, 'qkv_bias': settings['qkv_bias'] and not only_qv})
        self.interpolate_offset = check_number(
            'MaskedVisionTransformer: interpolate_offset', interpolate_offset, 0, below=1
        )
        self.with_cp = with_cp
        self.embedding_dims = self.feature_dims = self.embed_dims
        self.attention_heads = self.layers[-1].attn.num_heads
        self.stride = self.patch_embed.projection.stride[0]
        self.initialization = check_one_of('MaskedVisionTransformer: initialization', initialization, INITIALIZATIONS)
        self.global_pool = check_one_of('MaskedVisionTransformer: global_pool', global_pool, ('token', 'avg'))
        self.num_registers = check_count('MaskedVisionTransformer: num_registers', num_registers, 0, 1024)
        if num_registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, num_registers, self.embed_dims))
            self.register_tokens.requires_grad_(self.frozen_stages <= 0)  # frozen where the class token is
        for i, layer in enumerate(self.layers):  # built by mmpretrain's constructor
            self.layers[i] = EncoderLayer(layer)
            if only_qv:
                self.layers[i].attn.add_qv_bias()
        self._set_positions(positions, relative_positions, rotary_base)
        for layer in self.layers[: max(0, self.frozen_stages)]:
            layer.requires_grad_(False)  # also the parameters added above

    def init_weights(self) -> None:
        """Initializes as ``initialization`` says."""
        super().init_weights()
        if isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained':
            return
        if self.positions == 'sincos':
            self._fix_positions()
        initialize_vit(self.initialization, self.layers, self.patch_embed.projection, self.cls_token)
        if self.num_registers:
            nn.init.normal_(self.register_tokens, std=1e-6)

    @property
    def num_prefix_tokens(self) -> int:
        """Number of tokens before the patches, class token and registers (``num_extra_tokens`` omits registers)."""
        return self.num_extra_tokens + self.num_registers

    def forward_tokens(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        return_attention: bool | str = False,
        mask_token: Tensor | None = None,
        attention_layer: int = -1,
        read: Read = 'all',
        layers: int = 0,
        visibility: Tensor | None = None,
    ) -> TokenOutput:
        """See :meth:`MaskedBackbone.forward_tokens`."""
        tokens, grid = self._embed(images, mask, mask_token, visibility)
        relative, attention, found = self._relative(grid, tokens.device), None, []
        read = 'all' if layers else read
        score = SCORES[return_attention] if isinstance(return_attention, str) else pooled_attention
        for depth, layer in enumerate(self.layers, start=-len(self.layers)):
            if return_attention and depth == attention_layer:
                normed = layer.ln1(tokens)  # first: with FSDP this gathers the layer's sharded weights
                bias = layer.attn.logit_bias(relative)
                attention = score(layer.attn, normed, self.num_extra_tokens, self.num_registers, bias)
            if depth == -1 and read != 'all' and self.num_extra_tokens and isinstance(layer, EncoderLayer):
                return self._read(layer, tokens, grid, attention, mask if read == 'hidden' else None, relative)
            tokens = self._run(layer, tokens, relative=relative)
            if depth >= -layers:
                found.append(tokens)
        tokens = self._normalized(tokens)
        patches = tokens[:, self.num_prefix_tokens :]
        pooled = tokens[:, 0] if self.num_extra_tokens else patches.mean(dim=1)
        return TokenOutput(patches, pooled, grid, attention, None, *self._inner(found))

    def forward_visible(
        self,
        images: Tensor,
        mask: Tensor,
        layers: int = 0,
        visibility: Tensor | None = None,
        mask_token: Tensor | None = None,
    ) -> VisibleOutput:
        """See :meth:`MaskedBackbone.forward_visible`; nothing here has the [MASK] embedding."""
        seen = self._embed_visible(images, mask, visibility)
        tokens, grid, places, present, counts = seen
        real, extra = seen.real(), self.num_prefix_tokens  # with class token and registers
        relative, found = self._relative(grid, places.device, places), []
        for depth, layer in enumerate(self.layers, start=-len(self.layers)):
            tokens = self._run(layer, tokens, present=real, relative=relative)
            if depth >= -layers:
                found.append(tokens)
        tokens = self._normalized(tokens)
        patches = tokens[:, extra:]
        if present is not None:
            patches, places = patches.masked_fill(~present[..., None], 0.0), places.masked_fill(~present, -1)
        pooled = tokens[:, 0] if self.num_extra_tokens else patches.sum(dim=1) / counts.to(patches.dtype)
        inner = self._inner(found, present)
        return VisibleOutput(patches, pooled, places, grid, *inner, padded=present is not None)

    def _inner(
        self, found: list[Tensor], present: Tensor | None = None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Patch tokens and class tokens of inner layers, (B, E + R + V, C) each; patches are zero where padded."""
        patches = [tokens[:, self.num_prefix_tokens :] for tokens in found]
        if present is not None:
            patches = [tokens.masked_fill(~present[..., None], 0.0) for tokens in patches]
        return tuple(patches), tuple(tokens[:, 0] for tokens in found) if self.num_extra_tokens else ()

    def forward_layers(self, images: Tensor, count: int, norm: bool = True) -> list[Tensor]:
        """See :meth:`MaskedBackbone.forward_layers`."""
        before = self._check_layers(count, len(self.layers))
        tokens, grid = self._embed(images)
        found, relative = [], self._relative(grid, tokens.device)
        for depth, layer in enumerate(self.layers):
            tokens = self._run(layer, tokens, relative=relative)
            if depth >= before:
                found.append((self.ln1(tokens) if norm else tokens)[:, self.num_prefix_tokens :])
        return found

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """mmpretrain's: images (B, 3, H, W) to the outputs that ``out_type`` and ``out_indices`` select."""
        if not self.interpolate_offset and not self.num_registers and self._placed_as_mmpretrains():
            return super().forward(x)
        tokens, grid = self._embed(x)
        found, relative = [], self._relative(grid, tokens.device)
        for depth, layer in enumerate(self.layers):
            tokens = layer(tokens) if relative is None else layer(tokens, relative=relative)
            if depth == len(self.layers) - 1:
                tokens = self._normalized(tokens)
            if depth in self.out_indices:
                found.append(self._format_output(tokens, grid))
        return tuple(found)

    def _format_output(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """mmpretrain's, without the registers."""
        if self.num_registers:
            x = torch.cat((x[:, : self.num_extra_tokens], x[:, self.num_prefix_tokens :]), dim=1)
        return super()._format_output(x, hw)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """mmpretrain's, for layer-wise learning rate decay; registers have the depth of the class token."""
        if param_name == f'{prefix}register_tokens':
            return super().get_layer_depth(f'{prefix}cls_token', prefix)
        return super().get_layer_depth(param_name, prefix)

    def _run(self, layer: nn.Module, tokens: Tensor, **settings: Any) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(layer, tokens, use_reentrant=False, **settings)
        return layer(tokens, **settings)

    def _normalized(self, tokens: Tensor) -> Tensor:
        return self.ln1(tokens) if self.final_norm else tokens

    def _read(
        self,
        layer: EncoderLayer,
        tokens: Tensor,
        grid: tuple[int, int],
        attention: Tensor | None,
        mask: Tensor | None,
        relative: Tensor | TokenPairs | Rotation | None,
    ) -> TokenOutput:
        """The last layer, for class token and hidden patches (or without a mask the class token) only; others are 0."""
        (batch, length, channels), extra = tokens.shape, self.num_prefix_tokens
        if mask is None:
            pooled = self._normalized(self._run(layer, tokens, first_only=True, relative=relative))[:, 0]
            return TokenOutput(pooled.new_zeros(1).expand(batch, length - extra, channels), pooled, grid, attention)
        hidden = expand_mask(mask, grid).flatten().nonzero().squeeze(1)  # (M,), indices among B * L
        patches = length - extra
        # Indices among B * (E + R + L): class tokens, then hidden patches.
        of_patches = hidden.div(patches, rounding_mode='floor') * length + extra + hidden % patches
        rows = torch.cat((torch.arange(batch, device=tokens.device) * length, of_patches))
        found = self._normalized(self._run(layer, tokens, rows=rows, relative=relative))
        whole = found.new_zeros(batch * length, channels).index_copy(0, rows, found).view(batch, length, channels)
        return TokenOutput(whole[:, extra:], whole[:, 0], grid, attention, hidden)

    def built_grid(self) -> tuple[int, int]:
        """See :meth:`MaskedBackbone.built_grid`."""
        return int(self.patch_resolution[0]), int(self.patch_resolution[1])

    def layer_count(self) -> int:
        """See :meth:`MaskedBackbone.layer_count`."""
        return len(self.layers)

    def attention_layers(self, size: int) -> int:
        """See :meth:`MaskedBackbone.attention_layers`: any block."""
        return len(self.layers)
