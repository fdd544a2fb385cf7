"""Adapters to the structure of a backbone: its blocks, token layout, grid, final norm and pooling.

There is one class per library and layout (ViT, Swin); :class:`Network` is built on top of them.
:mod:`mstkit.networks.structure_reading` selects the class for a backbone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

from mmpretrain.models.utils import BEiTAttention, MultiheadAttention, WindowMSA
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedVisionTransformer
from mstkit.models.encoder_attention import EncoderAttention
from mstkit.networks.network_blocks import Block, PassThrough
from mstkit.structures import averages_patches
from mstkit.utils.position_interpolation import resize_positions

PRETRAINING = 'mmpretrain.models.selfsup'
Size = tuple[int, int]


class BackboneStructure:
    """Common interface to the structure of a backbone.

    Attributes:
        layout: ``'vit'`` or ``'swin'``.
        stages: the containers of the blocks; one for a ViT.
        extra: number of tokens before the patches (class token, registers).
        class_token: whether the first token is a class token.
        attention_types: the attention modules whose weights :func:`attention_weights` computes exactly.
    """

    layout: ClassVar[str]
    attention_types: tuple[type, ...] = ()
    extra: int = 0
    class_token: bool = False

    def __init__(self, backbone: Any, stages: Sequence[Any]) -> None:
        self.backbone = backbone
        self.stages = tuple(stages)
        flat = [(stage, module) for stage, blocks in enumerate(self.stages) for module in blocks]
        kept = [(stage, module) for stage, module in flat if not isinstance(module, PassThrough)]
        self.blocks = tuple(Block(index, stage, module) for index, (stage, module) in enumerate(kept))
        self.last = flat[-1][1]
        for block in self.blocks:
            attention = self.attention_of(block)
            if type(attention) not in self.attention_types:
                raise UsageError(
                    f'{type(backbone).__name__}: the attention of its blocks is {type(attention).__name__} of '
                    f'{type(attention).__module__}, which is not supported: its blocks must have '
                    f'{" or ".join(f"{kind.__name__} of {kind.__module__}" for kind in self.attention_types)}.'
                )

    def attention_of(self, block: Block) -> Any:
        """The attention module of a block; its input is (W, T, C), tokens of one window or image."""
        return getattr(block.module, 'attn', None)  # a block of another kind lacks it, and is refused

    def run(self, images: Tensor) -> None:
        """Runs images (B, 3, H, W) through all blocks; results are collected by forward hooks."""
        self.backbone(images)

    def tokens(self, output: Tensor) -> Tensor:
        """Converts a block's output to (B, T, C)."""
        return output

    def grid(self, image: Size, inputs: tuple[Any, ...]) -> Size:
        """(h, w) of the patches in a block.

        Args:
            image: height and width of the images.
            inputs: positional inputs of the block.
        """
        raise NotImplementedError

    def stride(self, stage: int) -> float:
        """Pixels of the image per patch of a stage."""
        raise NotImplementedError

    def positions_at(self, image: Size, offset: float) -> AbstractContextManager[None]:
        """Within this context the network uses positions interpolated as in DINO, for images of another size.

        Args:
            image: height and width of the images.
            offset: see :func:`mstkit.utils.position_interpolation.resize_positions`.
        """
        return nullcontext()

    def window(self, block: Block, shifted: bool) -> tuple[Size, Size, bool]:
        """(height, width) of a Swin block's windows, its shift (down, right), and whether it pads before shifting."""
        raise NotImplementedError

    def norm(self, tokens: Tensor) -> Tensor:
        """The final norm, (B, T, C)."""
        return tokens

    def pool(self, tokens: Tensor) -> Tensor:
        """Pools normalized tokens (B, T, C) to the image's feature (B, C); by default their mean."""
        return tokens.mean(dim=1)

    @property
    def pools_patches(self) -> bool:
        """Whether the pooled feature is the mean of the patch tokens."""
        return True

    def details(self) -> list[Any]:
        """Settings that are visible neither in tensors nor in ``repr``, for :attr:`Network.fingerprint`."""
        found = []
        for block in self.blocks:
            outer, inner = block.module.attn, self.attention_of(block)
            # Those of a Swin have them, in mmpretrain's attention and in timm's block.
            places = [getattr(block.module, name, getattr(outer, name, None)) for name in ('window_size', 'shift_size')]
            pads = getattr(outer, 'pad_small_map', None)  # mmpretrain's alone
            found.append([inner.num_heads, *places, pads])
        return [type(self).__name__, type(self.backbone).__name__, self.pools_patches, found]


class _OfMmpretrain(BackboneStructure):
    def run(self, images: Tensor) -> None:
        # mmpretrain's pre-training backbones mask patches in their forward; call that of their base class instead.
        kinds = type(self.backbone).__mro__
        plain: Any = next(kind for kind in kinds if not kind.__module__.startswith(PRETRAINING))
        plain.forward(self.backbone, images)


class MmpretrainViT(_OfMmpretrain):
    """A ViT or BEiT of mmpretrain or of mstkit."""

    layout = 'vit'
    attention_types = (MultiheadAttention, BEiTAttention, EncoderAttention)

    def __init__(self, backbone: Any) -> None:
        ours = isinstance(backbone, MaskedVisionTransformer)  # which may have registers
        self.extra = backbone.num_prefix_tokens if ours else backbone.num_extra_tokens
        self.class_token = backbone.num_extra_tokens > 0
        super().__init__(backbone, [backbone.layers])

    def grid(self, image: Size, inputs: tuple[Any, ...]) -> Size:
        embed = self.backbone.patch_embed
        convolution = embed.projection
        return _cells(image, convolution.kernel_size, convolution.stride, embed.adaptive_padding is not None)

    def stride(self, stage: int) -> float:
        return self.backbone.patch_embed.projection.stride[0]

    def positions_at(self, image: Size, offset: float) -> AbstractContextManager[None]:
        backbone, grid = self.backbone, self.grid(image, ())
        native = tuple(backbone.patch_resolution)
        if backbone.pos_embed is None or grid == native:
            return nullcontext()
        positions, placed = backbone.pos_embed.detach(), backbone.num_extra_tokens
        resized = resize_positions(positions, native, grid, placed, backbone.interpolate_mode, offset)
        return instead((backbone, 'pos_embed', nn.Parameter(resized, False)), (backbone, 'patch_resolution', grid))

    def details(self) -> list[Any]:
        rotary = self.backbone.rotary_base if isinstance(self.backbone, MaskedVisionTransformer) else None
        return super().details() + ([] if rotary is None else [rotary])

    def norm(self, tokens: Tensor) -> Tensor:
        return self.backbone.ln1(tokens) if self.backbone.final_norm else tokens

    def pool(self, tokens: Tensor) -> Tensor:
        if not self.pools_patches:
            return tokens[:, 0]
        mean = tokens[:, self.extra :].mean(dim=1)
        # With out_type 'avg_featmap' mmpretrain has a norm after the pooling, mostly in place of the final one.
        return self.backbone.ln2(mean) if self.backbone.out_type == 'avg_featmap' else mean

    @property
    def pools_patches(self) -> bool:
        return self.backbone.out_type == 'avg_featmap' or averages_patches(self.backbone) or not self.class_token


class MmpretrainSwin(_OfMmpretrain):
    """A Swin of mmpretrain or of mstkit."""

    layout = 'swin'
    attention_types = (WindowMSA,)

    def __init__(self, backbone: Any) -> None:
        super().__init__(backbone, [stage.blocks for stage in backbone.stages])

    def attention_of(self, block: Block) -> Any:
        return getattr(block.module.attn, 'w_msa', None)  # an attention of another kind lacks it, and is refused

    def grid(self, image: Size, inputs: tuple[Any, ...]) -> Size:
        height, width = inputs[1]
        return height, width

    def stride(self, stage: int) -> float:
        stride = self.backbone.patch_embed.projection.stride[0]
        for before in self.backbone.stages[:stage]:
            step = before.downsample.sampler.stride
            stride *= step if isinstance(step, int) else step[0]
        return stride

    def window(self, block: Block, shifted: bool) -> tuple[Size, Size, bool]:
        attention: Any = block.module.attn
        side, shift = attention.window_size, attention.shift_size if shifted else 0
        return (side, side), (shift, shift), True

    def norm(self, tokens: Tensor) -> Tensor:
        # mmpretrain makes it for the stages alone whose output is asked for.
        norm = getattr(self.backbone, f'norm{len(self.stages) - 1}', None)
        return tokens if norm is None else norm(tokens)


@contextmanager
def instead(*replaced: tuple[Any, str, Any]) -> Iterator[None]:
    """Temporarily sets attributes, each given as (owner, name, value)."""
    before = [getattr(owner, name) for owner, name, _ in replaced]
    try:
        for owner, name, value in replaced:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name, _), value in zip(replaced, before, strict=True):
            setattr(owner, name, value)


def _cells(image: Size, kernel: Size, stride: Size, padded: bool) -> Size:
    """(h, w) of the patches of a patch embedding; with padding, partial patches count, too."""
    if padded:
        return -(-image[0] // stride[0]), -(-image[1] // stride[1])
    return (image[0] - kernel[0]) // stride[0] + 1, (image[1] - kernel[1]) // stride[1] + 1
