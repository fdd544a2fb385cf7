"""All namings, in the order in which a file is compared with them: what has more marks comes first."""

from __future__ import annotations

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
    TimmBEiT(),
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
