"""The libraries that ``mstkit convert --to`` knows, and whose network a file's encoder is compared with."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import nn

from mstkit.conversion.hugging_face_library import HuggingFaceLibrary
from mstkit.conversion.library import Library
from mstkit.conversion.mmpretrain_library import MmpretrainLibrary, OwnLibrary
from mstkit.conversion.timm_library import DINOLibrary, TimmLibrary
from mstkit.conversion.torchvision_library import TorchvisionLibrary
from mstkit.formats import Naming
from mstkit.models.backbones import MaskedBackbone

LIBRARIES: dict[str, Library] = {
    library.name: library
    for library in (
        TimmLibrary(),
        HuggingFaceLibrary(),
        TorchvisionLibrary(),
        MmpretrainLibrary(),
        DINOLibrary(),
        OwnLibrary(),
    )
}
ONNX = 'onnx'  # no library's network, but a graph: mstkit.conversion.onnx_export


def opened_by(backbone: nn.Module) -> Library:
    """The library whose network an opened one is."""
    if isinstance(backbone, MaskedBackbone):
        return LIBRARIES['safetensors']
    return LIBRARIES['mmpretrain' if isinstance(backbone, BaseModule) else 'timm']


def library_of(naming: Naming) -> Library:
    """The library that has the network of a naming; the codes of DINO, MAE, BEiT and the official Swin have timm's."""
    if naming.name.startswith('hf-'):
        return LIBRARIES['hf']
    return LIBRARIES.get(naming.name, LIBRARIES['timm'])
