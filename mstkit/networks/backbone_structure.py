"""How a backbone is put together: where its blocks are, what their tokens look like, what it hands on.

One class for each library and layout; everything else about a network is written once, on top of these. Which one a
backbone takes, :mod:`mstkit.networks.structure_reading` knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

from mmpretrain.models.utils import BEiTAttention, MultiheadAttention, WindowMSA
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedVisionTransformer
from mstkit.models.encoder_layer import EncoderAttention
from mstkit.networks.network_blocks import Block, PassThrough
from mstkit.utils.position_interpolation import resize_positions

PRETRAINING = 'mmpretrain.models.selfsup'
Size = tuple[int, int]


class BackboneStructure:
    """What the parts of a backbone are, in the words of all backbones.

    Attributes:
        layout: ``'vit'`` or ``'swin'``.
        stages: the containers of the blocks; one for a ViT.
        extra: tokens in front that are no patches.
        class_token: whether the first of them is a class token.
        attention_types: the attention modules that can be read exactly.
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
                    f'{type(attention).__module__}, which is not known here; a network can be opened whose blocks have '
                    f'{" or ".join(f"{kind.__name__} of {kind.__module__}" for kind in self.attention_types)}.'
                )

    def attention_of(self, block: Block) -> Any:
        """The module of a block that is called with the tokens which attend to each other."""
        return getattr(block.module, 'attn', None)

    def run(self, images: Tensor) -> None:
        """Sends images (B, 3, H, W) through all blocks; what comes of it is seen by hooks on them."""
        self.backbone(images)

    def tokens(self, output: Tensor) -> Tensor:
        """What a block puts out, as (B, T, C)."""
        return output

    def grid(self, image: Size, inputs: tuple[Any, ...]) -> Size:
        """(h, w) of the patches in a block.

        Args:
            image: height and width of the images.
            inputs: what the block is called with.
        """
        raise NotImplementedError

    def stride(self, stage: int) -> float:
        """Pixels of the image per patch of a stage."""
        raise NotImplementedError

    def positions_at(self, image: Size, offset: float) -> AbstractContextManager[None]:
        """Makes the network add positions that are interpolated as DINO does, for images of another size.

        Args:
            image: height and width of the images; they hold inside the context.
            offset: as for :func:`mstkit.utils.position_interpolation.resize_positions`.
        """
        return nullcontext()

    def window(self, block: Block, shifted: bool) -> tuple[Size, Size, bool]:
        """Height and width of a Swin block's windows, how far it shifts, and whether it pads before it shifts."""
        raise NotImplementedError

    def norm(self, tokens: Tensor) -> Tensor:
        """The final norm, (B, T, C)."""
        return tokens

    def pool(self, tokens: Tensor) -> Tensor:
        """From normalized tokens (B, T, C) to what stands for the image (B, C), here their mean."""
        return tokens.mean(dim=1)

    @property
    def pools_patches(self) -> bool:
        """Whether the pooled feature is the mean of the patches already."""
        return True

    def details(self) -> list[Any]:
        """What distinguishes this network from another with the same tensors and the same modules."""
        found = []
        for block in self.blocks:
            outer, inner = block.module.attn, self.attention_of(block)
            places = [getattr(block.module, name, getattr(outer, name, None)) for name in ('window_size', 'shift_size')]
            found.append([inner.num_heads, *places, getattr(outer, 'pad_small_map', None)])
        return [type(self).__name__, type(self.backbone).__name__, self.pools_patches, found]


class _OfMmpretrain(BackboneStructure):
    def run(self, images: Tensor) -> None:
        # Backbones of a pre-training hide patches in their own forward; the one that they extend does not.
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

    def norm(self, tokens: Tensor) -> Tensor:
        return self.backbone.ln1(tokens) if self.backbone.final_norm else tokens

    def pool(self, tokens: Tensor) -> Tensor:
        if not self.pools_patches:
            return tokens[:, 0]
        mean = tokens[:, self.extra :].mean(dim=1)
        # A network that was trained on the mean of its patches has a norm for it, mostly in place of the final one.
        return self.backbone.ln2(mean) if self.backbone.out_type == 'avg_featmap' else mean

    @property
    def pools_patches(self) -> bool:
        return self.backbone.out_type == 'avg_featmap' or not self.class_token


class MmpretrainSwin(_OfMmpretrain):
    """A Swin of mmpretrain or of mstkit."""

    layout = 'swin'
    attention_types = (WindowMSA,)

    def __init__(self, backbone: Any) -> None:
        super().__init__(backbone, [stage.blocks for stage in backbone.stages])

    def attention_of(self, block: Block) -> Any:
        return getattr(block.module.attn, 'w_msa', None)

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
        norm = getattr(self.backbone, f'norm{len(self.stages) - 1}', None)
        return tokens if norm is None else norm(tokens)


@contextmanager
def instead(*replaced: tuple[Any, str, Any]) -> Iterator[None]:
    """Sets attributes, each an owner, a name and a value, and puts back what was there."""
    before = [getattr(owner, name) for owner, name, _ in replaced]
    try:
        for owner, name, value in replaced:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name, _), value in zip(replaced, before, strict=True):
            setattr(owner, name, value)


def _cells(image: Size, kernel: Size, stride: Size, padded: bool) -> Size:
    """How many patches a convolution cuts an image into: the whole ones, or with padding also a part of one."""
    if padded:
        return -(-image[0] // stride[0]), -(-image[1] // stride[1])
    return (image[0] - kernel[0]) // stride[0] + 1, (image[1] - kernel[1]) // stride[1] + 1
