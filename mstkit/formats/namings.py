"""All namings, in the order in which a file is compared with them: what has more marks comes first."""

from __future__ import annotations

from mstkit.formats.dinov3_names import DINOv3Code, TimmDINOv3
from mstkit.formats.hugging_face_names import (
    HuggingFaceBEiT,
    HuggingFaceDINOv2,
    HuggingFaceDINOv3,
    HuggingFaceSwin,
    HuggingFaceViT,
)
from mstkit.formats.mmpretrain_names import MmpretrainSwin, MmpretrainViT
from mstkit.formats.naming import Naming
from mstkit.formats.timm_names import DINOv2Code, MicrosoftSwin, TimmBEiT, TimmSwin, TimmViT
from mstkit.formats.torchvision_names import TorchvisionSwin, TorchvisionViT

NAMINGS: tuple[Naming, ...] = (
    MmpretrainViT(),
    MmpretrainSwin(),
    TimmDINOv3(),
    TimmBEiT(),
    DINOv3Code(),
    DINOv2Code(),
    TimmViT(),
    MicrosoftSwin(),
    TimmSwin(),
    HuggingFaceBEiT(),
    HuggingFaceViT(),
    HuggingFaceDINOv2(),
    HuggingFaceDINOv3(),
    HuggingFaceSwin(),
    TorchvisionViT(),
    TorchvisionSwin(),
)
