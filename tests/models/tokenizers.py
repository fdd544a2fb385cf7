"""Small files of tokenizers, one of each registered kind, with seeded weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmpretrain.models.selfsup.cae import DALLEEncoder
from torch import Tensor
from torch.nn import functional as F

from mstkit.models.tokenizers import (
    EncodedPatches,
    NetworkFeatures,
    RawPatches,
    Tokenizer,
    TokenizerFile,
    write_tokenizer,
)
from mstkit.utils.undisturbed import undisturbed_randomness

from .builders import SWIN, VIT

CODES = 12
NORMALIZATION = dict(mean=[120.0, 110.0, 100.0], std=[60.0, 58.0, 56.0])
NETWORKS: dict[str, tuple[dict[str, Any], int]] = {
    'vit': (VIT, 32),
    'swin': (SWIN, 64),
    'mmpretrain': (dict(VIT, type='mmpretrain.VisionTransformer', out_type='featmap'), 32),
    'timm': (dict(type='TimmNetwork', arch='test_vit'), 160),
}


class Shades(Tokenizer):
    """An id by how bright a patch is; needs no file."""

    codes, name = CODES, 'shades'

    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        shades = F.adaptive_avg_pool2d(pixels.mean(dim=1, keepdim=True), grid).flatten(1)
        return ((shades - 96) / 64 * self.codes).floor().clamp(0, self.codes - 1).long()


class GivenIds(Tokenizer):
    """Those that it was built with, (B, L)."""

    codes, name = CODES, 'given ids'

    def __init__(self, ids: Tensor) -> None:
        super().__init__()
        self.ids = ids

    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.ids


def centers(dims: int, codes: int = CODES) -> Tensor:
    return F.normalize(torch.randn(codes, dims, generator=torch.Generator().manual_seed(3)), dim=1)


def example_patches(codes: int = CODES, side: int = 8) -> Tensor:
    return torch.randint(0, 255, (codes, 3, side, side), generator=torch.Generator().manual_seed(4)).to(torch.uint8)


def features_of_network(name: str = 'vit') -> NetworkFeatures:
    network, size = NETWORKS[name]
    with undisturbed_randomness():
        source = NetworkFeatures(network, size, **NORMALIZATION)
        torch.manual_seed(5)
        for tensor in source.backbone.parameters():
            torch.nn.init.normal_(tensor, std=0.2)
    return source


def write_kmeans(path: str | os.PathLike[str], name: str = 'vit') -> None:
    source, (network, size) = features_of_network(name), NETWORKS[name]
    settings = dict(network=network, image_size=size, **NORMALIZATION)
    state = dict(source.state_dict())
    write_tokenizer(
        path, TokenizerFile('KMeansTokenizer', settings, state, centers(source.dims), example_patches(), {})
    )


def write_patches(path: str | os.PathLike[str]) -> None:
    source = RawPatches(8, 32)
    source.mean.fill_(0.4)
    source.whitening.copy_(torch.randn(192, 192, generator=torch.Generator().manual_seed(6)))
    settings, state = dict(patch_size=8, image_size=32), dict(source.state_dict())
    write_tokenizer(path, TokenizerFile('PatchTokenizer', settings, state, centers(192), example_patches(), {}))


def write_dalle(path: str | os.PathLike[str]) -> None:
    with undisturbed_randomness():
        torch.manual_seed(8)
        encoder = DALLEEncoder(n_hid=8, n_blk_per_group=1, vocab_size=CODES)
        # Else one code has all patches.
        logits = encoder(0.1 + 0.8 * torch.rand(4, 3, 32, 32)).detach()
        encoder.get_parameter('blocks.output.conv.b').data -= logits.mean(dim=(0, 2, 3))
    torch.save(dict(state_dict=encoder.state_dict()), path)


def write_vq_kd(path: str | os.PathLike[str]) -> None:
    settings = dict(network=VIT, image_size=32, code_dims=8, **NORMALIZATION)
    with undisturbed_randomness():
        torch.manual_seed(9)
        source = EncodedPatches(**settings)
        for tensor in source.parameters():
            torch.nn.init.normal_(tensor, std=0.2 if tensor.ndim > 1 else 0.02)
    state = dict(source.state_dict())
    write_tokenizer(path, TokenizerFile('VQKDTokenizer', settings, state, centers(8), example_patches(), {}))


WRITERS: dict[str, Callable[[str | os.PathLike[str]], None]] = {
    'KMeansTokenizer': write_kmeans,
    'PatchTokenizer': write_patches,
    'DALLETokenizer': write_dalle,
    'VQKDTokenizer': write_vq_kd,
}


def files(folder: Path) -> dict[str, str]:
    """A file of each kind, by the name of the class."""
    for kind, write in WRITERS.items():
        write(folder / f'{kind}.pth')
    return {kind: str(folder / f'{kind}.pth') for kind in WRITERS}
