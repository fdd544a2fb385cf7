"""A ViT as nodes of an ONNX graph."""

from __future__ import annotations

import torch
from torch import Tensor

from mstkit.conversion.onnx_graph import Value
from mstkit.conversion.onnx_layers import LayerWriter
from mstkit.models.backbones import MaskedVisionTransformer
from mstkit.models.encoder_attention import EncoderAttention
from mstkit.models.encoder_layer import EncoderLayer
from mstkit.networks.structure_reading import read_structure
from mstkit.utils.relative_positions import CLASS_TOKEN_ENTRIES, Grid, resize_bias_table


def write_vit(layers: LayerWriter, backbone: MaskedVisionTransformer, images: Value) -> tuple[Value, Value]:
    """Writes a ViT.

    Args:
        layers: of the backbone.
        backbone: in evaluation mode.
        images: (B, 3, H, W), normalized.

    Returns:
        The pooled feature (B, C), as :class:`mstkit.networks.Network` takes it, and the patch tokens (B, L, C).

    Raises:
        UsageError: it has a layer of a kind that cannot be written.
    """
    graph, extra = layers.graph, backbone.num_prefix_tokens
    tokens, *grid = layers.patch_embedding(backbone.patch_embed, images)
    if backbone.pos_embed is not None:
        of_patches = backbone.pos_embed[:, backbone.num_extra_tokens :]
        mode, offset = backbone.interpolate_mode, backbone.interpolate_offset
        tokens = tokens + layers.positions(of_patches, backbone.patch_resolution, (grid[0], grid[1]), mode, offset)
    if extra:
        first = layers.constant('prefix_tokens', _prefix(backbone))
        first = graph.node('Expand', first, graph.lengths(images.length(0), 1, 1))
        tokens = graph.concat([first, tokens], axis=1)
    tokens = layers.apply(backbone.pre_norm, tokens)
    biases = None if backbone.relative_positions is None else _Biases(layers, backbone, grid[0], grid[1])
    for depth, layer in enumerate(backbone.layers):
        with graph.scope(f'layers.{depth}'):
            tokens = _layer(layers, layer, tokens, biases)
    if backbone.final_norm:
        tokens = layers.apply(backbone.ln1, tokens)
    patches = tokens.cut(1, extra, tokens.length(1)) if extra else tokens
    if not read_structure(backbone).pools_patches:
        return tokens.take(0, axis=1), patches
    pooled = patches.mean(1)
    return layers.apply(backbone.ln2, pooled) if backbone.out_type == 'avg_featmap' else pooled, patches


def most_cells(grid: Grid) -> int:
    """The longest side, in patches, of images for which a graph holds the interpolation of relative positions.

    Its matrices follow from a search for the knots of a spline, which ONNX has no operators for. So all are stored,
    for 64 patches (1024 px with patches of 16) or four times the own grid.

    Args:
        grid: (h, w) of the network's table.
    """
    return max(64, 4 * max(grid))


def _prefix(backbone: MaskedVisionTransformer) -> Tensor:
    """Class token, with its position, and registers, (1, E + R, C)."""
    parts = []
    if backbone.cls_token is not None:
        placed = backbone.pos_embed is not None
        parts.append(backbone.cls_token + backbone.pos_embed[:, :1] if placed else backbone.cls_token)
    if backbone.num_registers:
        parts.append(backbone.register_tokens)
    return torch.cat(parts, dim=1)


def _layer(layers: LayerWriter, layer: EncoderLayer, tokens: Value, biases: _Biases | None) -> Value:
    bias = None
    if biases is not None:
        own = layer.attn.relative_position_bias_table
        bias = biases.shared if own is None else biases.of_table(own)
    attended = _attention(layers, layer.attn, layers.apply(layer.ln1, tokens), bias)
    tokens = tokens + layers.apply(layer.attn.gamma1, attended)
    return layers.feed_forward(layer.ffn, layers.apply(layer.ln2, tokens), tokens)


def _attention(layers: LayerWriter, module: EncoderAttention, x: Value, bias: Value | None) -> Value:
    projected = layers.linear(x, module.qkv.weight, module.projection_bias())
    # (B, T, 3C) -> (3, B, N, T, d)
    each = projected.reshape(0, 0, 3, module.num_heads, module.head_dims).transpose(2, 0, 3, 1, 4)
    query, key, value = (each.take(i, axis=0) for i in range(3))
    logits = query * module.head_dims**-0.5 @ key.transpose(0, 1, 3, 2)
    mixed = (logits if bias is None else logits + bias).softmax() @ value
    return layers.apply(module.proj, mixed.transpose(0, 2, 1, 3).reshape(0, 0, -1))


class _Biases:
    """Relative position biases of attention on the grid of the images.

    Attributes:
        shared: (N, T, T), where all layers have one table.
    """

    shared: Value

    def __init__(self, layers: LayerWriter, backbone: MaskedVisionTransformer, height: Value, width: Value) -> None:
        self._layers = layers
        self._source = backbone.table_grid
        self._class_token = backbone.num_extra_tokens > 0
        with layers.graph.scope('relative_positions'):
            stored = {side: self._all_resamplings(side) for side in {*self._source}}
            self._rows, self._columns = (
                self._resampling(stored[side], side, wanted)
                for side, wanted in zip(self._source, (height, width), strict=True)
            )
            self._index = self._entries(height, width, backbone.num_registers)
            self._tokens = height * width + backbone.num_prefix_tokens
            if backbone.relative_positions == 'shared':
                self.shared = self.of_table(backbone.rel_pos_bias.relative_position_bias_table)

    def of_table(self, table: Tensor) -> Value:
        """The bias (N, T, T) that a table ((2s-1)(2t-1) + E, N) gives; see `TokenPairs.bias`."""
        graph, (s, t), heads = self._layers.graph, self._source, table.shape[1]
        entries, cells = self._layers.parameter(table), (2 * s - 1) * (2 * t - 1)
        grid = entries.cut(0, 0, cells).transpose(1, 0).reshape(heads, 2 * s - 1, 2 * t - 1)
        resized = (self._rows @ grid @ self._columns.transpose(1, 0)).reshape(heads, -1)
        behind = [entries.cut(0, cells, len(table)).transpose(1, 0)] if self._class_token else []
        of_registers = graph.node('Expand', 0.0, graph.lengths(heads, 1))
        whole = graph.concat([resized, *behind, of_registers], axis=1)
        return whole.take(self._index, axis=1).reshape(heads, self._tokens, self._tokens)

    def _all_resamplings(self, source: int) -> Value:
        """The matrices that interpolate along a side of s patches for 1, 2, 3 ... patches, one below the other.

        That for h patches is (2h-1, 2s-1), in the rows from (h-1)² to h².
        """
        wanted = range(1, most_cells(self._source) + 1)
        every = [resize_bias_table(torch.eye(2 * source - 1), (source, 1), (side, 1)) for side in wanted]
        return self._layers.constant(f'resampling_of_{source}', torch.cat(every))

    def _resampling(self, stored: Value, source: int, wanted: Value) -> Value:
        """The matrix for one side; for more patches than are stored there is none, and its expansion is an error."""
        rows = stored.cut(0, (wanted - 1) * (wanted - 1), wanted * wanted)
        graph = self._layers.graph
        # Reshape would not do: optimizers replace a length by -1, so that any number of rows is fine.
        return graph.node('Expand', rows, graph.lengths(wanted * 2 - 1, 2 * source - 1))

    def _entries(self, height: Value, width: Value, registers: int) -> Value:
        """The entry of each pair of tokens, flat (T*T,); see `token_pairs`."""
        graph, extra = self._layers.graph, self._class_token + registers
        place = graph.arange(height * width)
        row, column = place // width, place % width
        down, right = (one.insert_axes(1) - one.insert_axes(0) for one in (row, column))
        patches = (down + (height - 1)) * (width * 2 - 1) + (right + (width - 1))
        if not extra:
            return patches.reshape(-1)
        cells = (height * 2 - 1) * (width * 2 - 1)
        last = cells + CLASS_TOKEN_ENTRIES * self._class_token
        token = graph.arange(height * width + extra)
        query, key = token.insert_axes(1), token.insert_axes(0)
        of_patches = (query >= extra) & (key >= extra)
        index = graph.where(of_patches, graph.pad(patches, (extra, extra), (0, 0)), last)
        if self._class_token:
            zero = (query.equals(0), key.equals(0))
            index = graph.where(zero[0] & (key >= extra), cells, index)
            index = graph.where((query >= extra) & zero[1], cells + 1, index)
            index = graph.where(zero[0] & zero[1], cells + 2, index)
        return index.reshape(-1)
