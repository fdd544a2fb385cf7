"""What GPUs can compute at most, by which a model's FLOPs per second are divided (MFU)."""

from __future__ import annotations

from typing import NamedTuple


class Peak(NamedTuple):
    """Dense operations per second, in TFLOP/s, without structured sparsity.

    Attributes:
        half: tensor cores, bfloat16 or float16 with float32 accumulation.
        tf32: tensor cores, TF32.
        single: float32 outside of tensor cores.
        source: where it says so.
    """

    half: float
    tf32: float
    single: float
    source: str


# By a part of the name that torch.cuda gives; the first one that fits counts.
PEAKS: dict[str, Peak] = {
    'H200 NVL': Peak(835.5, 417.5, 60.0, 'NVIDIA H200 data sheet, NVL; halved where it states sparsity'),
    'H200': Peak(989.4, 494.7, 66.9, 'NVIDIA H200 data sheet, SXM; halved where it states sparsity'),
    'H100 PCIe': Peak(756.0, 378.0, 51.2, 'NVIDIA H100 data sheet, PCIe; halved where it states sparsity'),
    'H100 NVL': Peak(835.5, 417.5, 60.0, 'NVIDIA H100 data sheet, NVL; halved where it states sparsity'),
    'H100': Peak(989.4, 494.7, 66.9, 'NVIDIA H100 data sheet, SXM; halved where it states sparsity'),
    'A100': Peak(312.0, 156.0, 19.5, 'NVIDIA A100 data sheet'),
    'L4': Peak(121.0, 60.0, 30.3, 'NVIDIA L4 data sheet; halved where it states sparsity'),
    'RTX 4090': Peak(165.2, 82.6, 82.6, 'NVIDIA Ada GPU architecture white paper, appendix A'),
}


def peak_of(device_name: str) -> Peak | None:
    """The peak of a device by its name; None if it is not in the table."""
    words = device_name.replace('-', ' ').split()
    for name, peak in PEAKS.items():
        if all(word in words for word in name.split()) and 'Laptop' not in words:
            return peak
    return None


def operations_per_second(peak: Peak, dtype: str, tf32: bool) -> float:
    """The peak of a step in ``float32``, ``bfloat16`` or ``float16``; ``tf32``: whether float32 products use it."""
    if dtype == 'float32':
        return 1e12 * (peak.tf32 if tf32 else peak.single)
    return 1e12 * peak.half
