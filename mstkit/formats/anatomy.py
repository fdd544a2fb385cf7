"""What distinguishes one ViT or Swin from another: sizes and switches, apart from weights and any library's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mstkit.utils.rotary_positions import ROTARY_BASE

Size = tuple[int, int]
QKVBias = bool | Literal['qv_bias']


@dataclass(frozen=True)
class ViTAnatomy:
    """A vision transformer.

    Attributes:
        width: channels of a token.
        depth: blocks.
        heads: of each block.
        hidden: channels inside of the feed-forward networks.
        image: height and width in pixels that positions are made for.
        patch: likewise of a patch.
        class_token: whether there is one.
        registers: their number.
        positions: whether there are absolute positions.
        relative: tables of relative positions: 'shared', 'per_layer' or None.
        rotary: base of rotary positions; None where there are none.
        qkv_bias: of queries, keys and values: True, False or 'qv_bias', not of the keys.
        layer_scale: whether both branches of a block have factors (LayerScale).
        pre_norm: whether there is a norm before the first block.
        final_norm: whether there is one after the last.
        pooled_norm: whether there is one on the mean of the patch tokens, after pooling.
        gated: whether feed-forward networks are gated (SwiGLU, DINOv2's ViT-g).
        pool: the feature of an image, as timm's: 'token', the class token; 'avg', the mean of the patch tokens.
        eps: of the norms.
        offset: of DINO's interpolation of positions, see
            :func:`mstkit.utils.position_interpolation.resize_positions`.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    image: Size
    patch: Size
    class_token: bool = True
    registers: int = 0
    positions: bool = True
    relative: Literal['shared', 'per_layer'] | None = None
    rotary: float | None = None
    qkv_bias: QKVBias = True
    layer_scale: bool = False
    pre_norm: bool = False
    final_norm: bool = True
    pooled_norm: bool = False
    gated: bool = False
    pool: Literal['token', 'avg'] = 'token'
    eps: float = 1e-6
    offset: float = 0.0

    @property
    def depths(self) -> tuple[int, ...]:
        """The number of blocks of each stage."""
        return (self.depth,)

    @property
    def grid(self) -> Size:
        """(h, w), patches of an image."""
        return self.image[0] // self.patch[0], self.image[1] // self.patch[1]

    def config(self) -> dict[str, Any]:
        """For :data:`mstkit.registry.MODELS`, with the defaults left out."""
        feed = self.hidden * 3 // 2 if self.gated else self.hidden  # mmpretrain takes two thirds of it
        arch = dict(embed_dims=self.width, num_layers=self.depth, num_heads=self.heads, feedforward_channels=feed)
        found: dict[str, Any] = dict(
            type='MaskedVisionTransformer', arch=arch, img_size=one_if_equal(self.image),
            patch_size=one_if_equal(self.patch),
        )  # fmt: skip
        if not self.class_token:
            found |= dict(with_cls_token=False, out_type='featmap')
        if self.pooled_norm:
            found |= dict(out_type='avg_featmap')
        given: dict[str, tuple[Any, Any]] = dict(
            num_registers=(self.registers, 0),
            positions=('learned' if self.positions else 'none' if self.rotary is None else 'rotary', 'learned'),
            rotary_base=(self.rotary or ROTARY_BASE, ROTARY_BASE),
            relative_positions=(self.relative, None),
            qkv_bias=(self.qkv_bias, True),
            layer_scale_init_value=(0.1 if self.layer_scale else 0.0, 0.0),  # of no matter: they are loaded
            pre_norm=(self.pre_norm, False),
            final_norm=(self.final_norm, True),
            global_pool=(self.pool, 'token'),
            interpolate_offset=(self.offset, 0.0),
            norm_cfg=(dict(type='LN', eps=self.eps), dict(type='LN', eps=1e-6)),
            layer_cfgs=(dict(ffn_type='swiglu_fused') if self.gated else {}, {}),
        )
        return found | {name: value for name, (value, default) in given.items() if value != default}

    def words(self) -> str:
        """In a few words, for messages."""
        parts = [f'ViT of width {self.width}, {self.depth} blocks, {self.heads} heads']
        parts += [f'patches of {_sides(self.patch)} in {_sides(self.image)} px']
        parts += [f'{self.registers} registers'] if self.registers else []
        parts += ['LayerScale'] if self.layer_scale else []
        parts += ['rotary positions'] if self.rotary is not None else []
        parts += [f'relative positions ({self.relative.replace("_", " ")})'] if self.relative else []
        return ', '.join(parts)


@dataclass(frozen=True)
class SwinAnatomy:
    """A Swin transformer (version 1).

    Attributes:
        width: channels of a token of the first stage.
        depths: blocks of each stage.
        heads: of the blocks of each stage.
        window: side of a window in tokens.
        image: height and width in pixels that it is made for.
        patch: likewise of a patch.
        positions: whether there are absolute positions.
        eps: of the norms.
    """

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    image: Size
    patch: Size
    positions: bool = False
    eps: float = 1e-5

    def config(self) -> dict[str, Any]:
        """For :data:`mstkit.registry.MODELS`, with the defaults left out."""
        arch = dict(embed_dims=self.width, depths=list(self.depths), num_heads=list(self.heads))
        found: dict[str, Any] = dict(
            type='MaskedSwinTransformer', arch=arch, img_size=one_if_equal(self.image),
            patch_size=one_if_equal(self.patch), window_size=self.window,
        )  # fmt: skip
        found |= dict(use_abs_pos_embed=True) if self.positions else {}
        last = len(self.depths) - 1
        found |= dict(out_indices=(last,)) if last != 3 else {}
        return found | (dict(norm_cfg=dict(type='LN', eps=self.eps)) if self.eps != 1e-5 else {})

    def words(self) -> str:
        """In a few words, for messages."""
        blocks = '-'.join(map(str, self.depths))
        return f'Swin of width {self.width}, {blocks} blocks, windows of {self.window} in {_sides(self.image)} px'


Anatomy = ViTAnatomy | SwinAnatomy


def one_if_equal(size: Size) -> int | Size:
    """A pair of sides, or one number for both."""
    return size[0] if size[0] == size[1] else size


def _sides(size: Size) -> str:
    return 'x'.join(map(str, size))
