"""A Swin as nodes of an ONNX graph."""

from __future__ import annotations

from typing import Any

from mmcv.cnn.bricks.transformer import PatchMerging
from mmpretrain.models.utils import WindowMSA
from torch import nn

from mstkit.conversion.onnx_graph import OnnxGraph, Value
from mstkit.conversion.onnx_layers import LayerWriter, not_exported
from mstkit.models.backbones import MaskedSwinTransformer
from mstkit.models.backbones.masked_swin import SmallMapWindowMSA

ACROSS_SIDES = -100.0  # what Swin adds to the logits of tokens of which one was rolled in from the other side


def write_swin(layers: LayerWriter, backbone: MaskedSwinTransformer, images: Value) -> tuple[Value, Value]:
    """Writes a Swin; windows are padded and shifted for maps of any size as by the network itself.

    Args:
        layers: of the backbone.
        backbone: in evaluation mode.
        images: (B, 3, H, W), normalized.

    Returns:
        The pooled feature (B, C), the mean of the patch tokens of the last stage, and these, (B, L, C).

    Raises:
        UsageError: it has a layer of a kind that cannot be written.
    """
    graph = layers.graph
    tokens, height, width = layers.patch_embedding(backbone.patch_embed, images)
    if backbone.use_abs_pos_embed:
        grid, source = (height, width), backbone.patch_resolution
        tokens = tokens + layers.positions(backbone.absolute_pos_embed, source, grid, backbone.interpolate_mode)
    for number, stage in enumerate(backbone.stages):
        blocks: Any = stage.blocks
        windows: dict[int, _Windows] = {}
        for depth, block in enumerate(blocks):
            with graph.scope(f'stages.{number}.blocks.{depth}'):
                side = block.attn.window_size
                if side not in windows:
                    windows[side] = _Windows(graph, height, width, side)
                attended = _attention(layers, block.attn, layers.apply(block.norm1, tokens), windows[side])
                tokens = attended + tokens
                tokens = layers.feed_forward(block.ffn, layers.apply(block.norm2, tokens), tokens)
        if stage.downsample is not None:
            with graph.scope(f'stages.{number}.downsample'):
                tokens, height, width = _merged(layers, stage.downsample, tokens, height, width)
    # mmpretrain makes it for the stages alone whose output is asked for.
    norm: nn.Module | None = getattr(backbone, f'norm{backbone.num_layers - 1}', None)
    tokens = tokens if norm is None else layers.apply(norm, tokens)
    return tokens.mean(1), tokens


class _Windows:
    """The windows of a stage's map.

    Args:
        graph: to write to.
        height: h of the map, (1,).
        width: w of the map, (1,).
        side: of the square windows, in tokens.
    """

    def __init__(self, graph: OnnxGraph, height: Value, width: Value, side: int) -> None:
        self.graph, self.height, self.width, self.side = graph, height, width, side
        self._counts = [(length + (side - 1)) // side for length in (height, width)]
        self._padded = [count * side for count in self._counts]
        self._shifts: dict[tuple[int, bool], tuple[Value, Value]] = {}

    def split(self, tokens: Value, shift: Value | None) -> Value:
        """(B, h*w, C), zero-padded at the lower right and shifted, to (B, windows, side², C)."""
        (rows, columns), side = self._counts, self.side
        down, right = (padded - length for padded, length in zip(self._padded, (self.height, self.width), strict=True))
        x = tokens.reshape(0, self.height, self.width, -1)
        x = self.graph.pad(x, (0, 0, 0, 0), (0, down, right, 0))
        x = x if shift is None else self._rolled(x, shift)
        # (B, rows, side, columns, side, C) -> (B, rows, columns, side, side, C)
        x = x.reshape(0, rows, side, columns, side, -1).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(0, rows * columns, side**2, -1)

    def join(self, windows: Value, shift: Value | None) -> Value:
        """The reverse of :meth:`split`, without the padding."""
        (rows, columns), side = self._counts, self.side
        x = windows.reshape(0, rows, columns, side, side, -1).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(0, *self._padded, -1)
        x = x if shift is None else self._rolled(x, self.graph.node('Neg', shift))
        x = x.cut(1, 0, self.height).cut(2, 0, self.width)
        return x.reshape(0, self.height * self.width, -1)

    def shift(self, module: SmallMapWindowMSA) -> tuple[Value | None, Value | None]:
        """By how many tokens windows are shifted, (1,), and what is added to the logits, (windows, 1, side², side²).

        None both where they never are. Whether they are on a map is decided by its size, as by
        :meth:`SmallMapWindowMSA.shifts`; with a shift of 0 nothing moves, and 0 is added.
        """
        step, on_any = module.shift_size, module.shifts_any_map
        if not step:
            return None, None
        if (step, on_any) not in self._shifts:
            graph = self.graph
            shift = graph.lengths(step)
            if not on_any:
                shift = graph.where(graph.node('Min', self.height, self.width) > self.side, shift, 0)
            self._shifts[step, on_any] = shift, self._across_sides(shift)
        return self._shifts[step, on_any]

    def _across_sides(self, shift: Value) -> Value:
        """-100 for pairs of tokens of one window that are neighbors only because the map was rolled."""
        rows, columns = self._counts
        of_rows, of_columns = (self._parts(length, shift) for length in self._padded)
        part = of_rows.insert_axes(1) * 3 + of_columns.insert_axes(0)  # padded (h, w)
        part = part.reshape(rows, self.side, columns, self.side).transpose(0, 2, 1, 3).reshape(-1, self.side**2)
        same = part.insert_axes(1).equals(part.insert_axes(2))
        return self.graph.where(same, 0.0, ACROSS_SIDES).insert_axes(1)

    def _parts(self, length: Value, shift: Value) -> Value:
        """0 for most rows, 1 in the last window for those that were there before, 2 for those rolled in."""
        place = self.graph.arange(length)
        return (place >= length - self.side).to_int() + (place >= length - shift).to_int()

    def _rolled(self, x: Value, shift: Value) -> Value:
        """(B, h, w, C), padded: entry i along h and w becomes the one that was at i + shift, in a circle."""
        for axis, length in enumerate(self._padded, start=1):
            x = x.take((self.graph.arange(length) + shift) % length, axis=axis)
        return x


def _attention(layers: LayerWriter, module: SmallMapWindowMSA, tokens: Value, windows: _Windows) -> Value:
    inner = module.w_msa
    if type(inner) is not WindowMSA:
        raise not_exported(inner)
    heads, pairs = inner.num_heads, windows.side**2
    shift, mask = windows.shift(module)
    projected = layers.apply(inner.qkv, windows.split(tokens, shift))
    # (B, W, T, 3C) -> (3, B, W, N, T, d), with W windows of T tokens
    each = projected.reshape(0, 0, 0, 3 * heads, -1).transpose(0, 1, 3, 2, 4)
    query, key, value = (each.cut(2, part * heads, (part + 1) * heads) for part in range(3))
    entries = layers.parameter(inner.relative_position_bias_table).transpose(1, 0)
    index = layers.graph.constant(f'window_entries_{windows.side}', inner.relative_position_index.view(-1).numpy())
    logits = query * inner.scale @ key.transpose(0, 1, 2, 4, 3) + entries.take(index, axis=1).reshape(0, pairs, pairs)
    mixed = (logits if mask is None else logits + mask).softmax() @ value
    attended = layers.apply(inner.proj, mixed.transpose(0, 1, 3, 2, 4).reshape(0, 0, 0, -1))
    return windows.join(attended, shift)


def _merged(
    layers: LayerWriter, module: PatchMerging, tokens: Value, height: Value, width: Value
) -> tuple[Value, Value, Value]:
    """Patch merging: the tokens of each square become one; a map is padded where squares do not fill it."""
    sampler, padding = module.sampler, module.adaptive_padding
    down, right = sampler.kernel_size
    plain = sampler.stride == sampler.kernel_size and sampler.dilation == (1, 1) and sampler.padding == (0, 0)
    if not plain or padding is None or padding.padding != 'corner':
        raise not_exported(sampler)
    rows, columns = (height + (down - 1)) // down, (width + (right - 1)) // right
    x = tokens.reshape(0, height, width, -1)
    x = layers.graph.pad(x, (0, 0, 0, 0), (0, rows * down - height, columns * right - width, 0))
    # (B, rows, down, columns, right, C) -> (B, rows, columns, C, down, right)
    x = x.reshape(0, rows, down, columns, right, -1).transpose(0, 1, 3, 5, 2, 4)
    x = x.reshape(0, rows * columns, module.reduction.in_features)
    x = x if module.norm is None else layers.apply(module.norm, x)
    return layers.apply(module.reduction, x), rows, columns
