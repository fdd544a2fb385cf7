"""Comparison of an ONNX file of an encoder with the encoder: onnxruntime beside torch, on the same images."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mstkit.conversion.onnx_graph import OnnxPackages, onnx_packages
from mstkit.errors import WorkStopped
from mstkit.networks import Network
from mstkit.structures import TokenOutput
from mstkit.utils.undisturbed import evaluation_mode

TOLERANCE = 1e-5
OUTPUTS = ('pooled', 'patch_tokens')
QUIET = 4  # onnxruntime's level of fatal errors: others are raised too, and told here


def check_onnx(path: str | os.PathLike[str], backbone: nn.Module, batches: Iterable[Tensor]) -> dict[str, float]:
    """Computes the outputs of an ONNX file with onnxruntime on the CPU, and compares them with torch's.

    Args:
        path: a file of :func:`mstkit.conversion.onnx_export.export_onnx`.
        backbone: the encoder, float32 on the CPU; it is left as it was.
        batches: images (B, 3, H, W) each, normalized, of any sizes.

    Returns:
        The largest difference of each output, divided by the root mean square of the batch's patch tokens. Behind a
        final layer norm that has not been trained this is 1, so that the difference is absolute.

    Raises:
        UsageError: onnx or onnxruntime is missing, or the network is neither a ViT nor a Swin.
        WorkStopped: a difference above 1e-5, which is named with its output and the size of the images; or a file that
            is not valid, or that onnxruntime does not run.
    """
    packages = onnx_packages()
    session = _session(packages, os.fspath(path))
    largest = dict.fromkeys(OUTPUTS, 0.0)
    with _as_it_was(backbone):
        network = Network(backbone, 'torch', image_size=224, mean=(0.0,) * 3, std=(1.0,) * 3)  # given normalized images
        for images in batches:
            for name, difference in _compare(session, network, images).items():
                largest[name] = max(largest[name], difference)
    return largest


def _compare(session: Any, network: Network, images: Tensor) -> dict[str, float]:
    """The difference of each output. Raises WorkStopped."""
    batch, _, height, width = images.shape
    where = f'for {batch} image{"s" if batch > 1 else ""} of {height}×{width} px'
    with torch.inference_mode():
        expected: TokenOutput = network(images)
    try:
        found = session.run(list(OUTPUTS), {'images': images.numpy()})
    except Exception as error:  # onnxruntime's exceptions have no common class but this
        raise WorkStopped(f'onnxruntime does not run the graph {where}: {_first_line(error)}') from error
    scale = float(expected.patch_tokens.square().mean().sqrt()) or 1.0
    differences = {}
    for name, array in zip(OUTPUTS, found, strict=True):
        wanted: Tensor = getattr(expected, name)
        if array.shape != tuple(wanted.shape):
            raise WorkStopped(f'{name} {where} has the shape {array.shape}, and {tuple(wanted.shape)} with torch')
        differences[name] = float((torch.from_numpy(array) - wanted).abs().max()) / scale
        if not differences[name] <= TOLERANCE:  # nor is nan
            raise WorkStopped(
                f'{name} {where} differs from torch by {differences[name]:.3g}, more than {TOLERANCE:g} (relative to '
                'the root mean square of the patch tokens)'
            )
    return differences


def _session(packages: OnnxPackages, path: str) -> Any:
    """A session of onnxruntime on the CPU, for a valid file. Raises WorkStopped."""
    runtime = packages.runtime
    options = runtime.SessionOptions()
    options.log_severity_level = QUIET
    options.intra_op_num_threads = torch.get_num_threads()  # its own default pins one to each core of the machine
    try:
        packages.onnx.checker.check_model(path)
        return runtime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # of both packages, which have no common class but this
        raise WorkStopped(f'{path} is no valid ONNX file: {_first_line(error)}') from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextlib.contextmanager
def _as_it_was(backbone: nn.Module) -> Iterator[None]:
    """Afterwards each part trains, or not, as before; a :class:`Network` freezes what it is given."""
    trained = [(parameter, parameter.requires_grad) for parameter in backbone.parameters()]
    with evaluation_mode(backbone):
        try:
            yield
        finally:
            for parameter, wants_gradient in trained:
                parameter.requires_grad_(wants_gradient)
