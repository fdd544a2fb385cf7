"""Robustness to occlusion: accuracy with a share of the patches hidden."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mstkit.errors import UsageError
from mstkit.evaluation.evaluated_network import EvaluatedNetwork, FrozenNetwork
from mstkit.evaluation.features import extract_features
from mstkit.evaluation.protocols.hidden_tokens import hide_tokens, random_orders
from mstkit.evaluation.protocols.linear_head import LinearHead, head_path, load_head
from mstkit.evaluation.protocols.weighted_knn import knn_accuracy
from mstkit.networks import received_attention
from mstkit.registry import EVALUATORS
from mstkit.structures import FeatureBank
from mstkit.utils.checks import check_count, check_list, check_number, check_one_of, check_probability

ORDERS = ('salient', 'random', 'least')
RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@EVALUATORS.register_module(name='masked_images')
class MaskedImagesEvaluator:
    """Accuracy on val images in which a share of the patches is painted black (AttMask, arXiv 2203.12719).

    Hidden first are the most attended patches ('salient'), the least attended ones ('least') or random ones. The
    attention is that of the CLS token in the last block of the guide on the whole image, averaged over heads (without
    CLS token, the mean attention of all patches). AttMask uses DINO's ViT-B/16 as the guide of all networks; by default
    each network is its own guide.

    Args:
        head: a :class:`~mstkit.evaluation.protocols.linear_head.LinearHead` of the network, or its file;
            ``{network}`` in the file name stands for the network's name. Without a head, images are classified by
            k-NN among the (unmasked) train images.
        ratios: shares of patches to hide.
        orders: some of 'salient', 'random' and 'least'.
        guide: another network, a :class:`FrozenNetwork`, whose attention is used.
        k, temperature: of k-NN.

    Raises:
        UsageError: a setting is out of range.
    """

    def __init__(
        self,
        head: LinearHead | str | os.PathLike[str] | None = None,
        ratios: Sequence[float] | float = RATIOS,
        orders: Sequence[str] | str = ORDERS,
        guide: Any = None,
        k: int = 20,
        temperature: float = 0.07,
    ) -> None:
        ratios = [ratios] if isinstance(ratios, (int, float)) else ratios
        orders = [orders] if isinstance(orders, str) else orders
        if guide is not None and not isinstance(guide, FrozenNetwork):
            raise UsageError(
                f'masked_images.guide is {guide!r}: give a network opened by mstkit.networks.open_networks.'
            )
        self.head = head
        self.ratios = tuple(check_list('masked_images.ratios', ratios, check_probability))
        self.orders = tuple(check_list('masked_images.orders', orders, check_one_of, ORDERS))
        self.guide = guide
        self.k = check_count('masked_images.k', k, 1)
        self.temperature = check_number('masked_images.temperature', temperature, above=0)

    def check(self, evaluated: EvaluatedNetwork) -> None:
        """Raises UsageError for a head of another network or other classes, or a guide whose patches do not fit."""
        head = self._head(evaluated)
        if head is not None:
            head.check(evaluated.network, evaluated.classes())
        size = evaluated.network.image_size
        blank = torch.zeros(1, 3, size, size, device=evaluated.device)
        _, grid = self._attention(evaluated, blank)
        if size % grid[0] or size % grid[1]:
            raise UsageError(
                f'the guide divides an image into {grid[0]} x {grid[1]} patches, which does not divide the {size} '
                f'pixels of {evaluated.network.name}: give a guide with another patch size.'
            )

    def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
        """Returns percent by ``masked_{order}_{ratio}_top1``."""
        head = self._head(evaluated)
        accuracy = {}
        for order in self.orders:
            # One pass over the images per order, which computes all ratios: predictions, or features for k-NN.
            seen = extract_features(
                self._encoder(evaluated, order, head),
                evaluated.loader('val'),
                evaluated.device,
                evaluated.preprocess,
                f'{order} patches hidden from {evaluated.network.name}',
            )
            for ratio, features in zip(self.ratios, seen.features.chunk(len(self.ratios), dim=1), strict=True):
                name = f'masked_{order}_{ratio:g}_top1'
                if head is not None:
                    accuracy[name] = 100.0 * float((features[:, 0] == seen.labels).double().mean())
                else:
                    train = evaluated.bank('train')
                    k = min(self.k, len(train.labels))
                    bank = FeatureBank(features, seen.labels, seen.classes)
                    scores = knn_accuracy(train, bank, (k,), self.temperature, device=evaluated.device)
                    accuracy[name] = scores[f'k{k}_top1']
        return accuracy

    def headlines(self) -> list[str]:
        """The accuracies with half of the patches hidden, or at the ratio nearest to that."""
        middle = min(self.ratios, key=lambda ratio: abs(ratio - 0.5))
        return [f'masked_{order}_{middle:g}_top1' for order in self.orders]

    def _encoder(self, evaluated: EvaluatedNetwork, order: str, head: LinearHead | None) -> Callable[[Tensor], Tensor]:
        """A function of images (B, 3, H, W) to (B, ratios) predicted classes, or (B, ratios * D) features."""
        indices, start = [int(index) for index in evaluated.loader('val').sampler], 0  # of this rank's images
        black = -torch.tensor(evaluated.network.mean) / torch.tensor(evaluated.network.std)
        on_device = None if head is None else head.to(evaluated.device)

        def encode(images: Tensor) -> Tensor:
            nonlocal start
            attention, grid = self._attention(evaluated, images)
            if order == 'random':
                patches = random_orders(indices[start : start + len(images)], attention.shape[1], evaluated.seed)
            else:
                patches = attention.argsort(dim=1, descending=order == 'salient', stable=True)
            start += len(images)
            patch = (images.shape[2] // grid[0], images.shape[3] // grid[1])
            shown = (hide_tokens(images, patches, ratio, patch, black) for ratio in self.ratios)
            if on_device is None:
                return torch.cat([evaluated.network.features(image) for image in shown], dim=1)
            return torch.stack([on_device.predict(evaluated.network, image) for image in shown], dim=1).float()

        return encode

    def _head(self, evaluated: EvaluatedNetwork) -> LinearHead | None:
        if self.head is None or isinstance(self.head, LinearHead):
            return self.head
        return load_head(head_path(self.head, evaluated.network))

    def _attention(self, evaluated: EvaluatedNetwork, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The guide's attention (B, h * w) and grid (h, w); ``images`` are normalized for the evaluated network."""
        network: Any = evaluated.network
        guide = self.guide or network
        if guide is not network:
            own, other = (
                tuple(images.new_tensor(values).view(1, -1, 1, 1) for values in (one.mean, one.std))
                for one in (network, guide)
            )
            images = images * own[1] + own[0]
            if guide.image_size != images.shape[-1]:
                size = (guide.image_size, guide.image_size)
                images = functional.interpolate(images, size, mode='bicubic', antialias=True).clamp(0, 255)
            images = (images - other[0]) / other[1]
        found: list[Any] = []
        last = len(guide.blocks) - 1
        with torch.no_grad():
            guide.watch(images, on_attention=found.append, blocks=(last,))
        received = received_attention(found[0]).mean(dim=1)  # over heads: (B, h, w)
        return received.flatten(1), (received.shape[1], received.shape[2])
