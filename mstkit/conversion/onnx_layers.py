"""The layers of which ViT and Swin consist, as nodes of an ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.scale import LayerScale as LayerScaleOfMmcv
from mmcv.cnn.bricks.transformer import FFN, AdaptivePadding, PatchEmbed
from mmpretrain.models.utils import LayerScale, SwiGLUFFN
from torch import Tensor, nn

from mstkit.conversion.onnx_graph import OnnxGraph, Value
from mstkit.errors import UsageError

# torch's modes of interpolation, with align_corners=False, as attributes of ONNX's Resize.
RESIZE_MODES: dict[str, dict[str, Any]] = {
    'bicubic': dict(mode='cubic', cubic_coeff_a=-0.75, coordinate_transformation_mode='half_pixel'),
    'bilinear': dict(mode='linear', coordinate_transformation_mode='half_pixel'),
}


class LayerWriter:
    """Writes the layers of one network; parameters keep their names.

    Args:
        graph: to write to.
        network: whose layers are written.
    """

    def __init__(self, graph: OnnxGraph, network: nn.Module) -> None:
        self.graph = graph
        self._names = {id(tensor): name for name, tensor in network.state_dict(keep_vars=True).items()}
        self._writers: dict[type[nn.Module], Callable[[Any, Value], Value]] = {
            nn.Identity: self._same,
            nn.Dropout: self._same,
            DropPath: self._same,
            nn.Sequential: self._sequential,
            nn.Linear: self._linear,
            nn.LayerNorm: self._layer_norm,
            nn.GELU: self._gelu,
            nn.ReLU: lambda _, x: graph.node('Relu', x),
            nn.SiLU: lambda _, x: self._silu(x),
            LayerScale: self._layer_scale,
            LayerScaleOfMmcv: self._layer_scale,
        }

    def parameter(self, tensor: Tensor) -> Value:
        """A parameter or buffer of the network, as a constant under its name."""
        return self.constant(self._names[id(tensor)], tensor)

    def constant(self, name: str, tensor: Tensor) -> Value:
        """What was computed of parameters, as a constant."""
        return self.graph.constant(name, tensor.detach().numpy())

    def apply(self, module: nn.Module, x: Value) -> Value:
        """The output of a module with one input.

        Raises:
            UsageError: it is of a kind that cannot be written.
        """
        for kind in type(module).__mro__:
            if kind in self._writers:
                return self._writers[kind](module, x)
        raise not_exported(module)

    def linear(self, x: Value, weight: Tensor, bias: Tensor | None) -> Value:
        """``x @ weight.T + bias``; the bias need not be a parameter itself."""
        name = self._names[id(weight)]
        made = x @ self.constant(f'{name}.T', weight.t())
        return made if bias is None else made + self.constant(self._names.get(id(bias), f'{name}.bias'), bias)

    def feed_forward(self, module: nn.Module, x: Value, identity: Value) -> Value:
        """The output of a feed-forward network, with its residual connection."""
        if isinstance(module, SwiGLUFFN):
            gate, hidden = self._halves(self.apply(module.w12, x), module.w3.in_features)
            made = self.apply(module.gamma2, self.apply(module.w3, self.apply(module.norm, self._silu(gate) * hidden)))
            return identity + made if module.add_identity and module.out_dims == module.embed_dims else made
        if not isinstance(module, FFN):
            raise not_exported(module)
        made = self.apply(module.gamma2, self.apply(module.layers, x))
        return identity + made if module.add_identity else made

    def patch_embedding(self, module: PatchEmbed, images: Value) -> tuple[Value, Value, Value]:
        """Patch tokens (B, L, C) and the height and width of their grid; images are padded as by the module."""
        conv = module.projection
        if not isinstance(conv, nn.Conv2d) or conv.padding_mode != 'zeros':
            raise not_exported(conv)
        images = self._padded(module.adaptive_padding, images)
        bias = None if conv.bias is None else self.parameter(conv.bias)
        maps = self.graph.node(
            'Conv',
            images,
            self.parameter(conv.weight),
            bias,
            strides=list(conv.stride),
            dilations=list(conv.dilation),
            pads=[*conv.padding, *conv.padding],
            group=conv.groups,
        )
        tokens = maps.reshape(0, 0, -1).transpose(0, 2, 1)
        return self._normed(module.norm, tokens), maps.length(2), maps.length(3)

    def positions(
        self,
        embeddings: Tensor,
        source: tuple[int, int],
        grid: tuple[Value, Value],
        mode: str,
        offset: float = 0.0,
    ) -> Value:
        """Position embeddings of patches for another grid.

        See :func:`mstkit.utils.position_interpolation.resize_positions`.

        Args:
            embeddings: (1, s*t, C).
            source: (s, t).
            grid: (h, w).
            mode: of torch's ``interpolate``.
            offset: likewise.

        Returns:
            (1, h*w, C).
        """
        if mode not in RESIZE_MODES:
            raise UsageError(
                f'interpolate_mode is {mode!r}: in an ONNX file positions are interpolated by '
                f'{" or ".join(map(repr, RESIZE_MODES))}; build the network with one of them, its weights are the same.'
            )
        graph, channels = self.graph, embeddings.shape[-1]
        given = self.constant('positions', embeddings.reshape(1, *source, channels).permute(0, 3, 1, 2))
        if offset:
            # As torch, by the scale and not the size; but not at the grid itself, where nothing is to be interpolated.
            same = grid[0].equals(source[0]) & grid[1].equals(source[1])
            scales = [
                graph.where(same, 1.0, (wanted.to_float() + offset) / float(side))
                for wanted, side in zip(grid, source, strict=True)
            ]
            scale = graph.concat([graph.node('Expand', 1.0, graph.lengths(2)), *scales], axis=0)
            maps = graph.node('Resize', given, None, scale, **RESIZE_MODES[mode])
        else:
            sizes = graph.lengths(1, channels, *grid)
            maps = graph.node('Resize', given, None, None, sizes, **RESIZE_MODES[mode])
        return maps.reshape(0, 0, -1).transpose(0, 2, 1)

    def _padded(self, padding: AdaptivePadding | None, images: Value) -> Value:
        """(B, C, H, W), padded so that the patches cover all of it."""
        if padding is None:
            return images
        before: list[Value | int] = [0, 0]
        after: list[Value | int] = [0, 0]
        for axis, kernel, stride, dilation in zip(
            (2, 3), padding.kernel_size, padding.stride, padding.dilation, strict=True
        ):
            side = images.length(axis)
            patches = (side + (stride - 1)) // stride
            missing = self.graph.node('Max', (patches - 1) * stride + ((kernel - 1) * dilation + 1) - side, 0)
            first = missing // 2 if padding.padding == 'same' else 0
            before.append(first)
            after.append(missing - first)
        return self.graph.pad(images, before, after)

    def _normed(self, norm: nn.Module | None, x: Value) -> Value:
        return x if norm is None else self.apply(norm, x)

    def _same(self, module: nn.Module, x: Value) -> Value:
        return x

    def _sequential(self, module: nn.Sequential, x: Value) -> Value:
        for part in module:
            x = self.apply(part, x)
        return x

    def _linear(self, module: nn.Linear, x: Value) -> Value:
        return self.linear(x, module.weight, module.bias)

    def _layer_norm(self, module: nn.LayerNorm, x: Value) -> Value:
        if len(module.normalized_shape) != 1 or module.weight is None or type(module) is not nn.LayerNorm:
            raise not_exported(module)
        bias = None if module.bias is None else self.parameter(module.bias)
        return self.graph.node(
            'LayerNormalization', x, self.parameter(module.weight), bias, axis=-1, epsilon=module.eps
        )

    def _layer_scale(self, module: LayerScale | LayerScaleOfMmcv, x: Value) -> Value:
        if module.data_format != 'channels_last':
            raise not_exported(module)
        return x * self.parameter(module.weight)

    def _gelu(self, module: nn.GELU, x: Value) -> Value:
        if module.approximate == 'tanh':
            inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
            return x * (self.graph.node('Tanh', inner) + 1.0) * 0.5
        return x * (self.graph.node('Erf', x / math.sqrt(2)) + 1.0) * 0.5

    def _silu(self, x: Value) -> Value:
        return x * self.graph.node('Sigmoid', x)

    def _halves(self, x: Value, width: int) -> tuple[Value, Value]:
        return x.cut(-1, 0, width), x.cut(-1, width, 2 * width)


def not_exported(module: object) -> UsageError:
    """What is said of a module of a kind that cannot be written."""
    kind = type(module)
    return UsageError(f'the network has a {kind.__name__} ({kind.__module__}): ONNX files of such are not supported.')
