"""A trained network, with the same interface whatever library it comes from."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.models.backbones import MaskedVisionTransformer
from mstkit.networks.block_hooks import OnAttention, OnTokens, attention_hooks, token_hook
from mstkit.networks.image_transform import ImageTransform
from mstkit.networks.network_blocks import Block
from mstkit.networks.structure_reading import read_structure
from mstkit.networks.truncated_network import drop_blocks
from mstkit.structures import TokenOutput

# Part of the fingerprint: changed when the computation of features changes, so that cached features and linear heads of
# earlier versions are not reused.
_FEATURES = {'swin': 'the final norm on each block of the last stage'}


class Network(nn.Module):
    """A frozen backbone in evaluation mode, with access to tokens and attention of every block.

    Args:
        backbone: a ViT or Swin of mstkit, mmpretrain or timm, with its weights; it is frozen.
        name: short, for tables and legends.
        image_size: side in pixels of the square images that it is meant for.
        mean: normalization, per channel, RGB, on the scale 0..255.
        std: likewise.
        resize: shorter side in pixels of an image before its center is cropped; None for 8/7 of ``image_size``, as 256
            for 224.
        branch: ``'student'``, ``'teacher'``, or empty for a network without branches.
        origin: where its weights come from, in words.
        interpolate_offset: for the interpolation of a ViT's positions to other image sizes, see
            :func:`mstkit.utils.position_interpolation.resize_positions`: 0.1 for released weights of DINO and methods
            based on its code; 0 for the backbone's own interpolation.
        config: config of the backbone for :data:`mstkit.registry.MODELS`; None if unknown.

    Attributes:
        layout: ``'vit'`` or ``'swin'``.
        blocks: its transformer blocks, from the first to the last.
        extra_tokens: number of tokens before the patches (class token, registers).

    Raises:
        UsageError: neither a ViT nor a Swin, or an attention module that is not supported.
    """

    def __init__(
        self,
        backbone: nn.Module,
        name: str,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        resize: int | None = None,
        branch: str = '',
        origin: str = '',
        interpolate_offset: float = 0.0,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = config
        self._structure = read_structure(backbone)
        self.name, self.branch, self.origin = name, branch, origin
        self.image_size = image_size
        self.interpolate_offset: float = interpolate_offset
        if not interpolate_offset and isinstance(backbone, MaskedVisionTransformer):
            self.interpolate_offset = backbone.interpolate_offset
        self.resize = round(image_size * 256 / 224) if resize is None else resize
        self.mean, self.std = (tuple(float(value) for value in values) for values in (mean, std))
        self.layout = self._structure.layout
        self.blocks = self._structure.blocks
        self.extra_tokens = self._structure.extra
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Network:
        """Leaves the network in evaluation mode."""
        return super().train(False)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hex digest of weights, architecture, branch and computation of features, independent of ``origin``."""
        found = hashlib.sha256()
        words = [repr(self.backbone), self._structure.details(), self.branch, self.image_size, self.mean, self.std]
        words += [_FEATURES[self.layout]] if self.layout in _FEATURES else []
        words += [f'offset {self.interpolate_offset}'] if self.interpolate_offset else []
        found.update(json.dumps(words, default=str).encode())
        for name, tensor in self.backbone.state_dict().items():
            found.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            found.update(memoryview(plain.view(torch.uint8).numpy()))
        return found.hexdigest()

    def forward(self, images: Tensor) -> TokenOutput:
        """Encodes images.

        ``pooled`` is the class token, or for networks without one or trained with mean pooling the mean of the patch
        tokens, through the network's norm for it.

        Args:
            images: (B, 3, H, W), normalized, on any device; see :attr:`transform`.

        Raises:
            UsageError: not a batch of images, or of a size that the network cannot take.
        """
        return self.watch(self._batch(images))

    @property
    def transform(self) -> ImageTransform:
        """Prepares a file or an image as the network wants it, (3, H, W) float32."""
        return ImageTransform(self.resize, self.image_size, self.mean, self.std)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.parameters()).device

    def layers(self, count: int) -> Callable[[Tensor], list[TokenOutput]]:
        """What the last blocks give, as ``get_intermediate_layers`` of DINOv2 does: ``network.layers(4)(images)``.

        Args:
            count: number of blocks, from 1.

        Returns:
            A function of images (B, 3, H, W), normalized. It returns a :class:`TokenOutput` per block, the last block's
            last, which is that of :meth:`forward`. Each went through the final norm; of a Swin, only those of the last
            stage did, as earlier ones have another width.

        Raises:
            UsageError: more blocks than the network has.
        """
        self._check_count('layers', count)

        def of_images(images: Tensor) -> list[TokenOutput]:
            images = self._batch(images)
            size, found = (images.shape[-2], images.shape[-1]), list[TokenOutput]()

            def keep(block: Block, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
                tokens = self._normalized_in_last_stage(block, self._structure.tokens(output))
                grid = self._structure.grid(size, inputs)
                found.append(TokenOutput(tokens[:, self._structure.extra :], self._structure.pool(tokens), grid))

            with contextlib.ExitStack() as hooks:
                for block in self.blocks[-count:]:
                    handle = block.module.register_forward_hook(functools.partial(keep, block))
                    hooks.callback(handle.remove)
                self.watch(images)
            return found

        return of_images

    def watch(
        self,
        images: Tensor,
        on_tokens: OnTokens | None = None,
        on_attention: OnAttention | None = None,
        blocks: Collection[int] | None = None,
    ) -> TokenOutput:
        """Encodes images and passes tokens and attention of each block to callbacks during the forward pass.

        Nothing is stored, so that memory does not grow with the number of blocks. The forward pass itself is unchanged
        (fused attention, if the network has it).

        Args:
            images: (B, 3, H, W), normalized.
            on_tokens: called with each block and its output, (B, T, C): all tokens, without final norm.
            on_attention: called with the attention of each block, before the block's output.
            blocks: indices of the blocks to call them for, negative ones from the end; None for all.

        Raises:
            UsageError: a block that does not exist.
        """
        chosen = self._chosen(blocks)
        size = (images.shape[-2], images.shape[-1])
        end: list[Any] = []
        with contextlib.ExitStack() as hooks:

            def keep(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
                end[:] = self._structure.tokens(output), self._structure.grid(size, inputs)

            handles = [self._structure.last.register_forward_hook(keep)]
            for block in chosen:
                if on_attention is not None:
                    handles += attention_hooks(self._structure, block, size, on_attention)
                if on_tokens is not None:
                    handles.append(token_hook(self._structure, block, on_tokens))
            for handle in handles:
                hooks.callback(handle.remove)
            if self.interpolate_offset:
                hooks.enter_context(self._structure.positions_at(size, self.interpolate_offset))
            self._structure.run(images)
        tokens, grid = end
        normalized = self._structure.norm(tokens)
        return TokenOutput(normalized[:, self._structure.extra :], self._structure.pool(normalized), grid)

    def normalized(self, tokens: Tensor) -> Tensor:
        """A block's output, (B, T, C), through the final norm; of a Swin, a block of the last stage."""
        return self._structure.norm(tokens)

    def features(self, images: Tensor, last_blocks: int = 1, mean_patch: bool = False) -> Tensor:
        """Features for linear classification.

        ViT (DINO, eval_linear.py): concatenation of the pooled token of each of the last blocks, after the final norm,
        earlier blocks first. Swin (iBOT, eval_linear.py): concatenation of the mean token of each of the last blocks,
        across stages; the final norm is applied to blocks of the last stage only, as earlier stages have another width
        (384 + 384 + 768 + 768 for the last four blocks of a Swin-T).

        Args:
            images: (B, 3, H, W), normalized.
            last_blocks: number of blocks, from 1; for 1 the result is ``forward(images).pooled``.
            mean_patch: whether to append the mean of the last block's normalized patch tokens, as for DINO's ViT-B.

        Returns:
            (B, D).

        Raises:
            UsageError: more blocks than the network has, or ``mean_patch`` for a network whose feature is that mean.
        """
        self._check_count('last_blocks', last_blocks)
        if mean_patch and self._structure.pools_patches:
            raise UsageError(
                f'mean_patch: the feature of {self.name} is already the mean of its patches, which would be included '
                'twice; leave mean_patch out.'
            )
        earlier: list[Tensor] = []

        def pool(block: Block, tokens: Tensor) -> None:
            earlier.append(self._structure.pool(self._normalized_in_last_stage(block, tokens)))

        count = len(self.blocks)
        output = self.watch(images, on_tokens=pool, blocks=range(count - last_blocks, count - 1))
        behind = [output.patch_tokens.mean(dim=1)] if mean_patch else []
        return torch.cat([*earlier, output.pooled, *behind], dim=-1)

    def without_last(self, count: int, where: str = 'end') -> Network:
        """A copy of the network without some of its blocks, sharing its weights.

        The final norm and all patch mergings of a Swin remain, even around a stage without any block left, so shapes do
        not change. :meth:`features` counts the remaining blocks; the output of the last one is taken at the end of the
        network, after any remaining patch merging.

        Args:
            count: number of blocks to drop, from 0; at least one block has to remain.
            where: ``'end'``, the last blocks of the network, or ``'stage3'``, the last blocks of a Swin's third stage,
                keeping the fourth.

        Raises:
            UsageError: an unknown ``where``, 'stage3' for a network without one, or too many blocks.
        """
        backbone = drop_blocks(self.backbone, count, where)
        name = f'{self.name} without {count}' + (' of stage 3' if where == 'stage3' else '')
        return Network(
            backbone,
            name if count else self.name,
            self.image_size,
            self.mean,
            self.std,
            self.resize,
            self.branch,
            self.origin,
            self.interpolate_offset,
        )

    def _normalized_in_last_stage(self, block: Block, tokens: Tensor) -> Tensor:
        in_last_stage = block.stage == len(self._structure.stages) - 1  # a ViT is one stage
        return self._structure.norm(tokens) if in_last_stage else tokens

    def _check_count(self, name: str, count: int) -> None:
        if not 1 <= count <= len(self.blocks):
            raise UsageError(f'{name} is {count}; {self.name} has {len(self.blocks)} blocks.')

    def _batch(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3:
            raise UsageError(
                f'{self.name} takes a batch of images (B, 3, H, W), not a tensor of shape {tuple(images.shape)}: of '
                'one image, image[None].'
            )
        return images.to(self.device)

    def _chosen(self, blocks: Collection[int] | None) -> tuple[Block, ...]:
        count = len(self.blocks)
        if blocks is None:
            return self.blocks
        for index in blocks:
            if not -count <= index < count:
                raise UsageError(f'block {index} does not exist: {self.name} has {count}, from 0 to {count - 1}.')
        wanted = {index % count for index in blocks}
        return tuple(block for block in self.blocks if block.index in wanted)
