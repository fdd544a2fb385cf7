"""A trained network, seen in one way wherever it comes from."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.networks.block_hooks import OnAttention, OnTokens, attention_hooks, token_hook
from mstkit.networks.network_blocks import Block
from mstkit.networks.structure_reading import read_structure
from mstkit.networks.truncated_network import drop_blocks
from mstkit.structures import TokenOutput

# How features are read from inner blocks, where that has changed: other words, other fingerprints, so that features and
# heads which were kept from before are not taken for those of today.
_READING = {'swin': 'the final norm on each block of the last stage'}


class Network(nn.Module):
    """A frozen backbone in evaluation mode, whose blocks can be watched.

    Args:
        backbone: a ViT or Swin of mstkit, mmpretrain or timm, with its weights; it is frozen.
        name: short, for tables and legends.
        image_size: side in pixels of the square images that it is meant for.
        mean: of their normalization, a channel each, RGB, on the scale of 0 to 255.
        std: likewise.
        resize: to how many pixels the shorter side of an image is brought before its center is cut out; None is
            8/7 of ``image_size``, as 256 is of 224.
        branch: ``'student'``, ``'teacher'``, or empty where there is only one.
        origin: in words, where its weights come from.
        interpolate_offset: how the positions of a ViT are interpolated for images of another size than its own, see
            :func:`mstkit.utils.position_interpolation.resize_positions`: 0.1 for weights of DINO's and its kin's
            releases, 0 is what the backbone itself does.
        config: from which :data:`mstkit.registry.MODELS` or timm builds the backbone, with a class or a name of theirs
            as its ``type``; None where nobody says.

    Attributes:
        layout: ``'vit'`` or ``'swin'``.
        blocks: its transformer blocks, from the first to the last.
        extra_tokens: how many of its tokens, the first ones, are no patches.

    Raises:
        UsageError: it is neither a ViT nor a Swin, or its attention is of a kind that cannot be read exactly.
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
        self.interpolate_offset: float = interpolate_offset or getattr(backbone, 'interpolate_offset', 0.0)
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
        """A hex digest of the weights, the architecture, the branch and how features are read from them.

        Where the weights come from plays no part.
        """
        found = hashlib.sha256()
        words = [repr(self.backbone), self._structure.details(), self.branch, self.image_size, self.mean, self.std]
        words += [_READING[self.layout]] if self.layout in _READING else []
        words += [f'offset {self.interpolate_offset}'] if self.interpolate_offset else []
        found.update(json.dumps(words, default=str).encode())
        for name, tensor in self.backbone.state_dict().items():
            found.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            found.update(memoryview(plain.view(torch.uint8).numpy()))
        return found.hexdigest()

    def forward(self, images: Tensor) -> TokenOutput:
        """The tokens of images.

        ``pooled`` is the class token where the network has one and was not trained on the mean of its patches, else
        that mean, through the norm that the network has for it.

        Args:
            images: (B, 3, H, W), normalized.
        """
        return self.watch(images)

    def watch(
        self,
        images: Tensor,
        on_tokens: OnTokens | None = None,
        on_attention: OnAttention | None = None,
        blocks: Collection[int] | None = None,
    ) -> TokenOutput:
        """Sends images through the network once and shows what happens in its blocks, one after another.

        Nothing is kept: what the functions do not store is gone before the next block. The network itself runs as
        ever, through fused attention where it has it.

        Args:
            images: (B, 3, H, W), normalized.
            on_tokens: called with each block and its output, (B, T, C): all tokens, not normalized.
            on_attention: called with the attention of each block, before its output is there.
            blocks: indices of the blocks that are shown; None is all, negative ones count from the end.

        Raises:
            UsageError: a block that is not there.
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

    def features(self, images: Tensor, last_blocks: int = 1, mean_patch: bool = False) -> Tensor:
        """The features that linear classifiers are trained on.

        ViT (DINO, eval_linear.py): the pooled token of each of the last blocks, each through the final norm, from the
        earlier to the later. Swin (iBOT, eval_linear.py): the mean over the tokens of each of the last blocks, across
        stages, those of the last stage through the final norm, and those of earlier stages, whose width it does not
        have, as they are: 384 + 384 + 768 + 768 for the last four of a Swin-T.

        Args:
            images: (B, 3, H, W), normalized.
            last_blocks: how many blocks, from 1; with 1 it is ``forward(images).pooled``.
            mean_patch: whether the mean of the last block's normalized patches comes behind, as for DINO's ViT-B.

        Returns:
            (B, D).

        Raises:
            UsageError: the network has not that many blocks, or its feature is the mean of the patches already.
        """
        if not 1 <= last_blocks <= len(self.blocks):
            raise UsageError(f'last_blocks is {last_blocks}; {self.name} has {len(self.blocks)} blocks, from 1 to all.')
        if mean_patch and self._structure.pools_patches:
            raise UsageError(
                f'mean_patch: the feature of {self.name} is the mean of its patches already, so that it would be there '
                'twice; leave mean_patch out.'
            )
        earlier: list[Tensor] = []

        def pool(block: Block, tokens: Tensor) -> None:
            in_last_stage = block.stage == len(self._structure.stages) - 1  # a ViT is one stage
            earlier.append(self._structure.pool(self._structure.norm(tokens) if in_last_stage else tokens))

        count = len(self.blocks)
        output = self.watch(images, on_tokens=pool, blocks=range(count - last_blocks, count - 1))
        behind = [output.patch_tokens.mean(dim=1)] if mean_patch else []
        return torch.cat([*earlier, output.pooled, *behind], dim=-1)

    def without_last(self, count: int, where: str = 'end') -> Network:
        """The network without some of its blocks; it shares its weights with this one, which stays as it is.

        Everything else stays: the final norm, and the patch mergings of a Swin, also those around a stage of which no
        block is left. So the shapes do not change and the final norm fits; where whole stages vanish, the features are
        those of the last block that remains, merged and projected as ever. :meth:`features` counts the blocks that
        remain, and the last of them is seen where the network ends, behind such mergings.

        Args:
            count: how many blocks are dropped, from 0; at least one block has to stay.
            where: ``'end'``, the last blocks of the network, or ``'stage3'``, the last ones of a Swin's third stage,
                with the fourth kept.

        Raises:
            UsageError: an unknown place, a place that this network does not have, or more blocks than may be dropped.
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

    def _chosen(self, blocks: Collection[int] | None) -> tuple[Block, ...]:
        count = len(self.blocks)
        if blocks is None:
            return self.blocks
        for index in blocks:
            if not -count <= index < count:
                raise UsageError(f'block {index} is not there: {self.name} has {count}, from 0 to {count - 1}.')
        wanted = {index % count for index in blocks}
        return tuple(block for block in self.blocks if block.index in wanted)
