"""Tokens of VQ-KD (BEiT v2, arXiv 2208.06366, section 2.2): codes from which a teacher's features are predicted."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mstkit.models.tokenizers.codebook import CodebookTokenizer
from mstkit.models.tokenizers.patch_features import NetworkFeatures, resized
from mstkit.registry import MODELS
from mstkit.utils.checks import check_size


class EncodedPatches(NetworkFeatures):
    """The patch tokens of an encoder, projected to few channels by two linear layers with a tanh in between.

    Args:
        network: see :class:`NetworkFeatures`; the encoder.
        image_size: likewise.
        mean: likewise.
        std: likewise.
        code_dims: D, of the codes; 32 in BEiT v2.
    """

    def __init__(
        self, network: dict, image_size: int, mean: Sequence[float], std: Sequence[float], code_dims: int = 32
    ) -> None:
        super().__init__(network, image_size, mean, std)
        self.width, self.dims = self.dims, check_size('code_dims of the tokenizer', code_dims, high=4096)
        self.project = nn.Sequential(nn.Linear(self.width, self.width), nn.Tanh(), nn.Linear(self.width, code_dims))

    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """See :meth:`PatchFeatures.forward`; not L2-normalized."""
        maps = self.map(pixels)
        codes = self.project(maps.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, maps.shape[-2:])
        return resized(codes, grid).flatten(2).transpose(1, 2)


@MODELS.register_module()
class VQKDTokenizer(CodebookTokenizer):
    """Tokens of an encoder that was trained so that a decoder can predict a teacher's patch features from them.

    Args:
        file: see :class:`CodebookTokenizer`; of ``tools/train_tokenizer.py --vq-kd``. The decoder is not in it.
    """

    label = 'VQ-KD'
    source_type = EncodedPatches
