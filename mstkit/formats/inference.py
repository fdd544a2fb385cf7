"""Reads the anatomy of an encoder off its tensors; what these do not tell comes from hints, or is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from mstkit.errors import UsageError
from mstkit.formats.anatomy import Anatomy, QKVBias, Size, SwinAnatomy, ViTAnatomy
from mstkit.formats.naming import count_blocks, count_stages
from mstkit.interop.resizing import square_side
from mstkit.utils.relative_positions import CLASS_TOKEN_ENTRIES, square_window

TABLE = 'relative_position_bias_table'
# Released ViTs have 64 channels for each head, but for the wider ones: ViT-H (MAE), ViT-g (DINOv2), ViT-G.
CHANNELS_OF_A_HEAD = 64
HEADS = {1280: 16, 1408: 16, 1664: 16}


class Hints(NamedTuple):
    """What a file or a user says beside the tensors; None where nothing is said.

    Attributes:
        heads: of each block of a ViT.
        image: height and width in pixels.
        eps: of the norms.
        pool: see :class:`ViTAnatomy`.
        offset: likewise.
        rotary: likewise.
        mean: of the channels, on the scale 0..255.
        std: likewise.
        resize: the shorter side of images before their center is cropped, in pixels.
    """

    heads: int | None = None
    image: Size | None = None
    eps: float | None = None
    pool: str | None = None
    offset: float | None = None
    rotary: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None

    def or_else(self, other: Hints) -> Hints:
        """These, and where they say nothing the other ones."""
        return other._replace(**{name: value for name, value in self._asdict().items() if value is not None})


def infer(state: Mapping[str, Tensor], hints: Hints) -> tuple[Anatomy, dict[str, str]]:
    """The anatomy of an encoder.

    Args:
        state: its tensors, under our names.
        hints: beside them.

    Returns:
        It, and what was assumed: sentences for the user by the name of what it is.

    Raises:
        UsageError: a tensor is missing, tensors contradict each other, or the number of heads cannot be known.
    """
    projection = state.get('patch_embed.projection.weight')
    if projection is None or projection.ndim != 4:
        raise UsageError('it has no convolution that embeds patches')
    if projection.shape[1] != 3:
        raise UsageError(f'its patch embedding takes {projection.shape[1]} channels; mstkit reads images in RGB')
    if any(name.startswith('stages.') for name in state):
        return _swin(state, hints, projection)
    return _vit(state, hints, projection)


def _vit(state: Mapping[str, Tensor], hints: Hints, projection: Tensor) -> tuple[ViTAnatomy, dict[str, str]]:
    width, _, *patch = projection.shape
    depth = count_blocks(state, r'layers\.(\d+)\.')
    absent = [i for i in range(depth) if f'layers.{i}.ln1.weight' not in state]
    if absent or not depth:
        raise UsageError(f'of its {depth} blocks, block {absent[0] if absent else 0} is missing')
    gated = 'layers.0.ffn.w3.weight' in state
    feed = state.get('layers.0.ffn.w3.weight' if gated else 'layers.0.ffn.layers.1.weight')
    if feed is None:
        raise UsageError('its blocks have no feed-forward network that mstkit knows')
    first = 'layers.0.'
    flat = [name for name in ('cls_token', 'pos_embed', 'register_tokens') if name in state and state[name].ndim != 3]
    if flat:
        raise UsageError(f'its {flat[0]} is {tuple(state[flat[0]].shape)}, not (1, tokens, channels)')
    class_token = 'cls_token' in state
    notes: dict[str, str] = {}
    tables = [name for name in state if name.endswith(TABLE)]
    heads = int(state[tables[0]].shape[1]) if tables else hints.heads
    if heads is None:
        heads = HEADS.get(width) or (width // CHANNELS_OF_A_HEAD if width % CHANNELS_OF_A_HEAD == 0 else None)
        if heads is None:
            raise UsageError(
                f'nothing in it says how many attention heads its blocks of width {width} have: give --num-heads'
            )
        notes['heads'] = (
            f'{heads} attention heads are assumed ({width // heads} channels each, as released networks of that width '
            'have): no tensor tells; --num-heads says it'
        )
    if width % heads:
        raise UsageError(f'{heads} attention heads do not divide its width of {width}')
    anatomy = ViTAnatomy(
        width=width,
        depth=depth,
        heads=heads,
        hidden=feed.shape[1],
        image=_image_of_vit(state, hints, (patch[0], patch[1]), tables, class_token),
        patch=(patch[0], patch[1]),
        class_token=class_token,
        registers=state['register_tokens'].shape[1] if 'register_tokens' in state else 0,
        positions='pos_embed' in state,
        relative=None if not tables else 'shared' if tables[0].startswith('rel_pos_bias.') else 'per_layer',
        rotary=hints.rotary,
        qkv_bias=_qkv_bias(state, first),
        layer_scale=f'{first}attn.gamma1.weight' in state,
        pre_norm='pre_norm.weight' in state,
        final_norm='ln1.weight' in state,
        pooled_norm='ln2.weight' in state,
        gated=gated,
        pool='avg' if hints.pool == 'avg' and class_token and 'ln2.weight' not in state else 'token',
        eps=1e-6 if hints.eps is None else hints.eps,
        offset=hints.offset or 0.0,
    )
    return anatomy, notes


def _qkv_bias(state: Mapping[str, Tensor], first: str) -> QKVBias:
    return 'qv_bias' if f'{first}attn.q_bias' in state else f'{first}attn.qkv.bias' in state


def _image_of_vit(state: Mapping[str, Tensor], hints: Hints, patch: Size, tables: list[str], class_token: bool) -> Size:
    """(height, width) in pixels that a ViT's positions are made for."""
    positions = state.get('pos_embed')
    cells = None if positions is None else positions.shape[1] - class_token
    if hints.image is not None:
        grid = hints.image[0] // patch[0], hints.image[1] // patch[1]
        if cells is not None and grid[0] * grid[1] != cells:
            raise UsageError(
                f'it has {cells} positions, and images of {hints.image[0]}x{hints.image[1]} px have {grid[0]}x{grid[1]}'
                f' patches of {patch[0]}x{patch[1]}: give the --image-size that it was trained with'
            )
        return hints.image
    if cells is not None:
        side = square_side(cells)
        if side is None:
            raise UsageError(
                f'its {cells} positions are of no square grid: give --image-size HEIGHT WIDTH, which tells the grid'
            )
        return side * patch[0], side * patch[1]
    if tables:
        window = square_window(len(state[tables[0]]) - CLASS_TOKEN_ENTRIES * class_token)
        if window is not None:
            return window[0] * patch[0], window[1] * patch[1]
    return 224, 224


def _swin(state: Mapping[str, Tensor], hints: Hints, projection: Tensor) -> tuple[SwinAnatomy, dict[str, str]]:
    width, _, *patch = projection.shape
    depths = count_stages(state, r'stages\.(\d+)\.blocks\.(\d+)\.')
    heads, windows = [], set()
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name = f'stages.{stage}.blocks.{block}.attn.w_msa.{TABLE}'
            if name not in state:
                raise UsageError(f'block {block} of stage {stage} has no table of relative positions')
            windows.add(len(state[name]))
            if not block:
                heads.append(int(state[name].shape[1]))
        hidden = state.get(f'stages.{stage}.blocks.0.ffn.layers.0.0.weight')
        if hidden is None or hidden.shape[0] != 4 * hidden.shape[1]:
            raise UsageError(
                'its feed-forward networks are not four times as wide as its tokens, as those of a Swin are'
            )
    window = square_window(next(iter(windows))) if len(windows) == 1 else None
    if window is None:
        raise UsageError(f'its windows are not of one size and square (tables of {sorted(windows)} entries)')
    if 'stages.0.blocks.0.attn.w_msa.qkv.bias' not in state:
        raise UsageError('queries, keys and values have no bias, as those of a Swin have')
    positions = state.get('absolute_pos_embed')
    notes: dict[str, str] = {}
    image = hints.image
    if image is None and positions is not None:
        side = square_side(positions.shape[1])
        if side is None:
            raise UsageError(
                f'its {positions.shape[1]} positions are of no square grid: give --image-size HEIGHT WIDTH'
            )
        image = (side * patch[0], side * patch[1])
    if image is None:
        # The last stage of the released ones has one window.
        side = window[0] * patch[0] * 2 ** (len(depths) - 1)
        image = (side, side)
        notes['image'] = f'images of {side}x{side} px are assumed, for windows of {window[0]}; --image-size says it'
    return SwinAnatomy(
        width=width,
        depths=depths,
        heads=tuple(heads),
        window=window[0],
        image=image,
        patch=(patch[0], patch[1]),
        positions=positions is not None,
        eps=1e-5 if hints.eps is None else hints.eps,
    ), notes
