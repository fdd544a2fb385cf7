"""mmpretrain's Swin transformer with masked input, and for views whose maps are smaller than a window."""

from __future__ import annotations

from typing import Any, Literal

import torch
from mmengine.model import BaseModule
from mmpretrain.models.backbones import SwinTransformer
from mmpretrain.models.backbones.swin_transformer import SwinBlock
from mmpretrain.models.utils import ShiftWindowMSA
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.backbones.backbone_checks import swin_arguments
from mstkit.models.backbones.layer_initialization import init_transformer_weights
from mstkit.models.backbones.masked_backbone import Read
from mstkit.models.backbones.visible_squares import VisibleSquares
from mstkit.models.memory_lean_linear import lean_ffn
from mstkit.models.weight_casts import CastBlock
from mstkit.registry import MODELS
from mstkit.structures import TokenOutput
from mstkit.utils.checks import check_one_of
from mstkit.utils.position_interpolation import resize_positions

Query = Literal['received', 'pseudo_cls']


class SmallMapWindowMSA(ShiftWindowMSA):
    """Window attention that pads maps smaller than a window and does not shift them.

    The official Swin shrinks the window and drops the shift when a map is not larger than the window; mmpretrain
    either refuses such a map or (``pad_small_map``) shifts it nevertheless, which masks most of the attention between
    tokens of the same window. On larger maps the result is mmpretrain's.

    Args:
        attention: mmpretrain's attention, whose layers and parameters are reused.
    """

    def __init__(self, attention: ShiftWindowMSA) -> None:
        BaseModule.__init__(self, attention.init_cfg)  # not mmpretrain's, which would initialize all weights again
        self.shift_size, self.window_size = attention.shift_size, attention.window_size
        self.pad_small_map = attention.pad_small_map
        self.shifts_any_map = False
        self.w_msa, self.drop = attention.w_msa, attention.drop
        self.training = attention.training

    def decide_shift(self, side: int) -> None:
        """Fixes whether windows are shifted, for maps of any size (``shift_by='img_size'``).

        Args:
            side: shorter side, in tokens, of the stage's map for an image of ``img_size``.
        """
        if side <= self.window_size:
            self.shift_size = 0
        self.shifts_any_map = self.pad_small_map = self.shift_size > 0

    def forward(self, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """Attention within windows: (B, h*w, C) and (h, w) to (B, h*w, C)."""
        if min(hw_shape) > self.window_size or self.shifts(hw_shape):
            return super().forward(query, hw_shape)
        attended = self.w_msa(self._windows(query, hw_shape))
        return self.drop(self._on_map(attended, hw_shape))

    def shifts(self, hw_shape: tuple[int, int]) -> bool:
        """Whether this block shifts its windows on an (h, w) map."""
        return self.shift_size > 0 and (self.shifts_any_map or min(hw_shape) > self.window_size)

    def attention_to(self, tokens: Tensor, hw_shape: tuple[int, int], query: Query) -> Tensor:
        """Attention that each token receives within its window.

        Args:
            tokens: (B, h*w, C), the block's input after its norm.
            hw_shape: (h, w).
            query: 'received', attention averaged over the window's queries, or 'pseudo_cls', attention of the averaged
                query.

        Returns:
            (B, N, h*w) float32, summing to one over each window; padding is neither query nor key.
        """
        msa, window = self.w_msa, self.window_size
        height, width = hw_shape
        windows = self._windows(tokens, hw_shape)
        real = self._windows(tokens.new_ones(1, height * width, 1), hw_shape).squeeze(-1)  # (nW, window²), padding 0
        real = real.repeat(len(tokens), 1)  # (B*nW, window²)
        dims, heads = msa.embed_dims, msa.num_heads
        weight, bias = msa.qkv.weight, msa.qkv.bias
        queries, keys = (  # (B*nW, N, window², d) both
            F.linear(windows, part, None if bias is None else bias[i * dims : (i + 1) * dims])
            .view(*windows.shape[:2], heads, dims // heads)
            .transpose(1, 2)
            .float()
            for i, part in enumerate(weight.split(dims)[:2])
        )
        position = msa.relative_position_bias_table[msa.relative_position_index.view(-1)]
        position = position.view(window**2, window**2, heads).permute(2, 0, 1).float()  # (N, window², window²)
        weights_of_queries = (real / real.sum(-1, keepdim=True))[:, None, :, None].float()  # (B*nW, 1, window², 1)
        if query == 'pseudo_cls':
            queries = (queries * weights_of_queries).sum(2, keepdim=True)
            position = position.mean(1, keepdim=True)
        # In float32: autocast would compute the logits, and so rank the patches, in half precision.
        with torch.autocast(tokens.device.type, enabled=False):
            scores = queries * msa.scale @ keys.transpose(-2, -1) + position
        scores = scores.masked_fill(real[:, None, None, :] == 0, float('-inf'))
        attention = torch.softmax(scores, dim=-1)
        # (B*nW, N, window²)
        received = attention[:, :, 0] if query == 'pseudo_cls' else (attention * weights_of_queries).sum(2)
        return self._on_map(received.transpose(1, 2), hw_shape).transpose(1, 2)

    def _windows(self, tokens: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B, h*w, C) -> (B*nW, window², C), zero-padded at the lower right."""
        height, width = hw_shape
        window = self.window_size
        x = tokens.view(len(tokens), height, width, -1)
        x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        return self.window_partition(x, window).view(-1, window**2, x.shape[-1])

    def _on_map(self, windows: Tensor, hw_shape: tuple[int, int]) -> Tensor:
        """(B*nW, window², C) -> (B, h*w, C), without the padding."""
        height, width = hw_shape
        window = self.window_size
        padded = self.window_reverse(
            windows.reshape(-1, window, window, windows.shape[-1]),
            height + -height % window,
            width + -width % window,
            window,
        )
        return padded[:, :height, :width].reshape(len(padded), height * width, -1)


CastBlock.register(SwinBlock)


@MODELS.register_module()
class MaskedSwinTransformer(VisibleSquares, SwinTransformer):
    """mmpretrain's :class:`SwinTransformer` with masked input and small views.

    Arguments, state-dict keys and the output of ``forward`` are mmpretrain's, bit for bit for inputs that mmpretrain
    accepts. Swin has no class token, and MST's paper does not say which attention guides its mask. Here it is the
    attention that each token of the last stage receives in the last block without shift; the mask is made on the last
    stage's grid (7×7 at 224 px) and repeated onto the patch embedding's (56×56).

    Args:
        attention_query: 'received', attention averaged over queries (default), or 'pseudo_cls', attention of the
            averaged query, which resembles a class token.
        shift_by: when the shifting blocks of a stage shift: 'map', if the stage's map is larger than a window
            (default); 'img_size', if the stage's map of an image of ``img_size`` is larger than a window, whatever the
            input's size. At 224 px the two are the same. iBOT's Swin does the latter: it shifts the 6×6 map of a 96-px
            crop in the third stage, padded to 7×7, because at 224 px that stage's map is 14×14.
    """

    attention_scores = ('class_token', 'received')

    def __init__(
        self,
        *args: Any,
        attention_query: Query = 'received',
        shift_by: Literal['map', 'img_size'] = 'map',
        **kwargs: Any,
    ) -> None:
        super().__init__(**swin_arguments(type(self).__name__, args, kwargs))
        if attention_query not in ('received', 'pseudo_cls'):
            raise UsageError(f"attention_query is 'received' or 'pseudo_cls', not {attention_query!r}")
        self.attention_query = attention_query
        self.shift_by = check_one_of('MaskedSwinTransformer: shift_by', shift_by, ('map', 'img_size'))
        self.embedding_dims = self.embed_dims
        self.feature_dims = self.num_features[-1]
        self.attention_heads = self.num_heads[-1]
        self.patch_size = self.patch_embed.projection.stride[0]
        self.stride = self.patch_size * 2 ** (self.num_layers - 1)
        for stage in self.stages:
            for block in stage.blocks:
                # Replaces the modules that mmpretrain's block has built.
                block.attn, block.ffn = SmallMapWindowMSA(block.attn), lean_ffn(block.ffn)
        if self.shift_by == 'img_size':
            for depth, stage in enumerate(self.stages):
                for block in stage.blocks:
                    block.attn.decide_shift(min(self.patch_resolution) // 2**depth)

    def init_weights(self) -> None:
        """Initializes like the official Swin (linear layers truncated normal, 0.02)."""
        super().init_weights()
        if not (isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained'):
            init_transformer_weights(self.stages.modules())

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
        """See :meth:`MaskedBackbone.forward_tokens`; always computes all tokens, since ``pooled`` is their mean."""
        tokens, grid = self._before_last_stage(images, mask, mask_token, visibility)
        attention, found = None, []
        blocks: Any = self.stages[-1].blocks
        guide = self._guides(grid)[attention_layer] if return_attention else None
        for i, block in enumerate(blocks):
            if i == guide:
                query = 'received' if return_attention == 'received' else self.attention_query
                attention = block.attn.attention_to(block.norm1(tokens), grid, query)
            tokens = block(tokens, grid)
            if i >= len(blocks) - layers:
                found.append(tokens)
        norm = self._final_norm()
        if norm is not None:
            tokens = norm(tokens)
        return TokenOutput(tokens, tokens.mean(dim=1), grid, attention, layers=tuple(found))

    def forward_layers(self, images: Tensor, count: int, norm: bool = True) -> list[Tensor]:
        """See :meth:`MaskedBackbone.forward_layers`."""
        self._check_layers(count, self.layer_count())
        _, found = self._last_stage(*self._before_last_stage(images), count)
        final = self._final_norm()
        return found if final is None or not norm else [final(tokens) for tokens in found]

    def _final_norm(self) -> nn.Module | None:
        # mmpretrain makes it for the stages alone whose output is asked for.
        return getattr(self, f'norm{self.num_layers - 1}', None)

    def patch_embeddings(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """See :meth:`MaskedBackbone.patch_embeddings`."""
        tokens, grid = self.patch_embed(images)
        return self._with_positions(tokens, grid), grid

    def _with_positions(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        if not self.use_abs_pos_embed:
            return tokens
        return tokens + resize_positions(
            self.absolute_pos_embed, self.patch_resolution, grid, self.num_extra_tokens, self.interpolate_mode
        )

    def _before_last_stage(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        mask_token: Tensor | None = None,
        visibility: Tensor | None = None,
    ) -> tuple[Tensor, tuple[int, int]]:
        """The last stage's input, (B, L, C), and its grid (h, w)."""
        tokens, grid = self.patch_embed(images)
        tokens = self._with_positions(self.hide(tokens, grid, mask, mask_token, visibility), grid)
        return self._to_last_stage(tokens, grid)

    def _to_last_stage(self, tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """Embeddings with positions, (B, L', C) on a grid, to the last stage's input, (B, L, C), and its grid."""
        tokens = self.drop_after_pos(tokens)
        for stage in self.stages[:-1]:
            tokens, grid = stage(tokens, grid)
        return tokens, (grid[0], grid[1])

    def built_grid(self) -> tuple[int, int]:
        """See :meth:`MaskedBackbone.built_grid`: of ``img_size``, the last stage's."""
        per_side = self.stride // self.patch_size
        return int(self.patch_resolution[0]) // per_side, int(self.patch_resolution[1]) // per_side

    def _last_stage(self, tokens: Tensor, grid: tuple[int, int], layers: int) -> tuple[Tensor, list[Tensor]]:
        """The last stage's tokens after the final norm, and those after each of its last blocks before it."""
        blocks, found = list(self.stages[-1].blocks), []
        for i, block in enumerate(blocks):
            tokens = block(tokens, grid)
            if i >= len(blocks) - layers:
                found.append(tokens)
        norm = self._final_norm()
        return tokens if norm is None else norm(tokens), found

    def layer_count(self) -> int:
        """See :meth:`MaskedBackbone.layer_count`: the last stage's, since earlier ones have other grids and widths."""
        blocks: Any = self.stages[-1].blocks
        return len(blocks)

    def attention_layers(self, size: int) -> int:
        """See :meth:`MaskedBackbone.attention_layers`: the last stage's blocks that do not shift."""
        side = -(-size // self.stride)
        return len(self._guides((side, side)))

    def _guides(self, grid: tuple[int, int]) -> list[int]:
        blocks: Any = self.stages[-1].blocks
        return [i for i, block in enumerate(blocks) if not block.attn.shifts(grid)]

    def _size_unit(self, masked: bool) -> int:
        return self.stride if masked else self.patch_size
