"""The tokens of DALL-E's discrete VAE, BEiT's published targets, from a file that the user provides."""

from __future__ import annotations

import os
import re

import torch
from mmpretrain.models.selfsup.cae import DALLEEncoder
from torch import Tensor
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.models.tokenizers.tokenizer import Tokenizer
from mstkit.models.tokenizers.tokenizer_file import DALLE_KEY, read_tokenizer
from mstkit.registry import MODELS
from mstkit.utils.undisturbed import undisturbed_randomness

STRIDE = 8  # pixels per token: three poolings
EPSILON = 0.1  # DALL-E's map_pixels: (1 - 2 eps) x + eps
_BLOCK = re.compile(r'blocks\.group_(\d+)\.block_(\d+)\.')


@MODELS.register_module()
class DALLETokenizer(Tokenizer):
    """The most probable code per patch of DALL-E's encoder (Ramesh et al., ICML 2021).

    The encoder has a stride of 8 px, so that a view is resized (bicubic, antialiased) to 8 px per patch of the
    student, 112 px for 14×14; values of 0 to 1 are then mapped to ``0.8 x + 0.1``. BEiT's code resizes the crop of the
    original image instead, by a Lanczos filter. The encoder is mmpretrain's; its sizes are those of the file.

    Args:
        file: the state dict of the encoder, as mmpretrain distributes it. OpenAI's ``encoder.pkl`` is a pickled module,
            which is never opened here: where you trust it, save its ``state_dict()`` once, as the message says.

    Raises:
        UsageError: the file is missing, a pickled module, or of something else.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        super().__init__()
        content = read_tokenizer(file)
        if content.kind != type(self).__name__:
            raise UsageError(f'file {os.fspath(file)} holds a {content.kind}: give type={content.kind!r}')
        state, places = content.features, [_BLOCK.match(name) for name in content.features]
        found = [(int(one[1]), int(one[2])) for one in places if one]
        last = state.get('blocks.output.conv.w')
        if not found or last is None or last.ndim != 4 or state[DALLE_KEY].ndim != 4:
            raise UsageError(f'file {os.fspath(file)} is no encoder of DALL-E: it lacks groups or the output')
        try:
            with undisturbed_randomness():
                self.encoder = DALLEEncoder(
                    group_count=max(group for group, _ in found),
                    n_hid=len(state[DALLE_KEY]),
                    n_blk_per_group=max(block for _, block in found),
                    vocab_size=len(last),
                )
            self.encoder.load_state_dict(state, strict=True)
        except RuntimeError as error:
            words = ' '.join(str(error).split())[:200]
            raise UsageError(f'file {os.fspath(file)} does not fit the encoder of DALL-E: {words}') from error
        self.codes = len(last)
        self.name = f'DALL-E tokens of {os.fspath(file)}'

    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """See :meth:`Tokenizer.forward`."""
        with torch.autocast(pixels.device.type, enabled=False):
            return self.encoder(self.images(pixels, grid)).argmax(dim=1).flatten(1)

    def images(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """What the encoder sees of pixels (B, 3, H, W), 0 to 255: (B, 3, 8 h, 8 w), 0.1 to 0.9."""
        images, size = pixels.float() / 255, (STRIDE * grid[0], STRIDE * grid[1])
        if images.shape[-2:] != torch.Size(size):
            images = F.interpolate(images, size, mode='bicubic', antialias=True).clamp(0, 1)
        return (1 - 2 * EPSILON) * images + EPSILON
