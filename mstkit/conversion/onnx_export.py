"""An encoder as an ONNX file, which is compared with the encoder before it gets its name.

The graph is written node by node and not traced by ``torch.onnx``: a trace keeps what Python decides by the size of its
example (how much a Swin pads, whether it shifts its windows), and torch has exchanged its exporter since 2.5. So the
graph is the same with every version of torch, works for all sizes, and has the network's names.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mstkit.conversion.onnx_gate import OUTPUTS, check_onnx
from mstkit.conversion.onnx_graph import OnnxGraph, onnx_packages
from mstkit.conversion.onnx_layers import LayerWriter
from mstkit.conversion.onnx_swin import write_swin
from mstkit.conversion.onnx_vit import most_cells, write_vit
from mstkit.errors import DiskError, UsageError, WorkStopped
from mstkit.models.backbones import MaskedSwinTransformer, MaskedVisionTransformer
from mstkit.networks.structure_reading import read_structure
from mstkit.utils.checks import check_list, check_number, check_size
from mstkit.utils.files import PARTIAL, is_refusal, refusal
from mstkit.utils.output_paths import output_file
from mstkit.version import __version__

Size = tuple[int, int]
Encoder = MaskedVisionTransformer | MaskedSwinTransformer
MOST_BYTES = 2**31 - 2**24  # of weights in one file: protobuf reads no more than 2 GiB, and the graph needs some


class OnnxExport(NamedTuple):
    """What was written.

    Attributes:
        path: the file.
        differences: of its outputs from torch's, see :func:`mstkit.conversion.onnx_gate.check_onnx`.
        largest_size: (h, w) in pixels of the largest images that the file takes; None if it takes any.
        weights: the file beside it that has the weights of a network above 2 GB; None if they are in the file itself.
    """

    path: Path
    differences: dict[str, float]
    largest_size: Size | None
    weights: Path | None


def export_onnx(
    backbone: nn.Module,
    path: str | os.PathLike[str],
    image_size: int | Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    metadata: Mapping[str, str] | None = None,
) -> OnnxExport:
    """Writes an encoder as an ONNX file.

    Its input is ``images`` (B, 3, H, W), float32 and normalized; its outputs are ``pooled`` (B, C), the feature of an
    image as :class:`mstkit.networks.Network` gives it, and ``patch_tokens`` (B, L, C), after the final norm, row by
    row. B, H and W are variable: positions are interpolated for another grid of patches, and images padded whose sides
    are no multiples of the patch size, in the graph as in the network.

    The file gets its name when onnxruntime has computed with it what torch computes, for one and three images of
    ``image_size``, larger ones and ones that are not square. Until then nothing changes at ``path``.

    Args:
        backbone: a MaskedVisionTransformer or MaskedSwinTransformer, float32 on the CPU, whose outputs in evaluation
            mode are written; it is left as it was.
        path: the file, ``.onnx``; an existing one is replaced.
        image_size: side of the square images that it is meant for, or (height, width), in pixels.
        mean: of the normalization, per channel, RGB, on the scale 0..255. Noted in the file, not a part of the graph.
        std: likewise.
        metadata: other texts to be noted in the file, by name, such as where the weights come from.

    Raises:
        UsageError: onnx or onnxruntime is missing, nothing can be written at the path, or the network is of another
            kind or has a layer that cannot be written.
        WorkStopped: the outputs differ from torch's, see :func:`mstkit.conversion.onnx_gate.check_onnx`.
        DiskError: the disk does not take the file.
    """
    onnx, path = onnx_packages().onnx, _checked_path(path)
    encoder, size = _checked_encoder(backbone), _checked_size(image_size)
    graph = _graph(encoder)
    noted = {**(metadata or {}), **_described(encoder, size, mean, std)}
    model = graph.to_model(onnx, type(encoder).__name__, __version__, noted)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f'.{path.name}.', suffix=PARTIAL) as folder:
            partial = Path(folder) / path.name
            weights = _save(onnx, model, partial, graph.constant_bytes)
            del model, graph  # the comparison needs their memory
            differences = check_onnx(partial, encoder, _trial_images(encoder, size))
            if weights is not None:
                weights = weights.replace(path.with_name(weights.name))
            partial.replace(path)
    except WorkStopped as error:
        raise WorkStopped(f'{path} is not written: {error}.') from error
    except OSError as error:
        if is_refusal(error):
            raise DiskError(refusal(path, error)) from error
        raise
    return OnnxExport(path, differences, _largest_size(encoder), weights)


def _graph(encoder: Encoder) -> OnnxGraph:
    graph = OnnxGraph()
    images = graph.input('images', ('batch', encoder.patch_embed.projection.in_channels, 'height', 'width'))
    layers, channels = LayerWriter(graph, encoder), encoder.feature_dims
    with torch.no_grad():
        if isinstance(encoder, MaskedVisionTransformer):
            pooled, patches = write_vit(layers, encoder, images)
        else:
            pooled, patches = write_swin(layers, encoder, images)
    shapes: tuple[tuple[str | int, ...], ...] = (('batch', channels), ('batch', 'patches', channels))
    for name, value, shape in zip(OUTPUTS, (pooled, patches), shapes, strict=True):
        graph.output(name, value, shape)
    return graph


def _save(onnx: Any, model: Any, path: Path, weight_bytes: int) -> Path | None:
    """Writes a model, and if it is too large for one file its weights into another, which is returned."""
    if weight_bytes <= MOST_BYTES:
        onnx.save_model(model, str(path))
        return None
    weights = path.with_name(f'{path.name}.data')
    onnx.save_model(model, str(path), save_as_external_data=True, location=weights.name)
    shutil.copymode(path, weights)  # onnx makes it for its owner alone
    return weights


def _trial_images(encoder: Encoder, size: Size) -> Iterator[Tensor]:
    """Normalized noise: one and three images of a size, a larger one, and one that is not square."""
    random, convolution = torch.Generator().manual_seed(0), encoder.patch_embed.projection
    (down, right), (height, width) = convolution.stride, size
    rows, columns = height // down, width // right
    larger = (rows + rows // 4 + 1) * down, (columns + columns // 4 + 1) * right
    wider = (rows - rows // 4) * down, (columns + columns // 2 + 1) * right
    for count, sides in ((1, size), (3, size), (1, larger), (1, wider)):
        yield torch.randn(count, convolution.in_channels, *sides, generator=random)


def _largest_size(encoder: Encoder) -> Size | None:
    if isinstance(encoder, MaskedSwinTransformer) or encoder.relative_positions is None:
        return None
    cells = most_cells(encoder.table_grid)
    down, right = encoder.patch_embed.projection.stride
    return cells * down, cells * right


def _described(encoder: Encoder, size: Size, mean: Sequence[float], std: Sequence[float]) -> dict[str, str]:
    """What is noted in the file, by name; numbers as JSON."""
    patch = list(encoder.patch_embed.projection.stride)
    if isinstance(encoder, MaskedVisionTransformer):
        shape: dict[str, Any] = dict(
            layers=len(encoder.layers), channels=encoder.embed_dims, heads=encoder.attention_heads
        )
    else:
        shape = dict(layers=list(encoder.depths), channels=encoder.embed_dims, heads=list(encoder.num_heads))
    largest = _largest_size(encoder)
    return {
        'mstkit_version': __version__,
        'architecture': json.dumps(dict(type=type(encoder).__name__, patch_size=patch, **shape)),
        'image_size': json.dumps(size),
        'mean': json.dumps(check_list('mean', mean, check_number)),
        'std': json.dumps(check_list('std', std, check_number, above=0)),
        'normalization': '(image - mean) / std, RGB, on the scale 0..255',
        'pooled': 'mean of the patch tokens' if read_structure(encoder).pools_patches else 'class token',
        **({} if largest is None else {'largest_image_size': json.dumps(largest)}),
    }


def _checked_path(path: str | os.PathLike[str]) -> Path:
    path = output_file('--out', path)
    if path.suffix != '.onnx':
        raise UsageError(f'--out {path}: the name of an ONNX file ends in .onnx; give {path.with_suffix(".onnx")}.')
    return path


def _checked_encoder(backbone: nn.Module) -> Encoder:
    if not isinstance(backbone, Encoder):
        raise UsageError(
            f'{type(backbone).__name__} cannot be written to ONNX: give a MaskedVisionTransformer or a '
            'MaskedSwinTransformer.'
        )
    if isinstance(backbone, MaskedVisionTransformer) and backbone.rotary_base is not None:
        raise UsageError(
            "mstkit's ONNX writer has no rotary positions (positions='rotary'): write --to hf or --to safetensors."
        )
    for name, tensor in backbone.named_parameters():
        if tensor.dtype != torch.float32 or tensor.device.type != 'cpu':
            raise UsageError(
                f'{name} is {str(tensor.dtype).removeprefix("torch.")} on {tensor.device}: ONNX files are written of '
                'float32 on the CPU; call backbone.float().cpu() before.'
            )
    return backbone


def _checked_size(image_size: int | Sequence[int]) -> Size:
    sides = [image_size] * 2 if isinstance(image_size, int) else image_size
    height, width = check_list('image_size', sides, check_size, high=2**16)
    return height, width
