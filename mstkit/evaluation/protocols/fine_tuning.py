"""Fine-tuning of a whole network for classification, at a size that one core can do."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from mmengine import dist
from torch import Tensor, nn
from torch.nn import functional

from mstkit.errors import UsageError
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.protocols.linear_probe import Standardization
from mstkit.utils.device_precision import has_bf16
from mstkit.utils.progress_bar import track
from mstkit.utils.undisturbed import undisturbed_randomness


class FineTuningRecipe(NamedTuple):
    """How a network is fine-tuned.

    Attributes:
        epochs: passes over the training images.
        rate: learning rate of the head and the last block.
        head_factor: the head's learning rate is this times ``rate``.
        layer_decay: each block has the learning rate of the next one times this.
        weight_decay: of weights; biases, norms and tokens have none.
        batch_size: images per step.
        warmup: share of the steps in which the rate rises linearly, before it falls to 0 as a cosine.
        smoothing: of the labels.
        per_class: the first images of each class that are trained on; None for all.
    """

    epochs: int = 10
    rate: float = 5e-4
    head_factor: float = 10.0
    layer_decay: float = 0.75
    weight_decay: float = 0.05
    batch_size: int = 64
    warmup: float = 0.1
    smoothing: float = 0.1
    per_class: int | None = None


class FineTuned(NamedTuple):
    """A fine-tuned network's results.

    Attributes:
        loss: mean cross-entropy of the training images in each epoch, measured while training.
        hits: (M,) bool, whether each val image is classified correctly after the last epoch.
        images: how many training images there were.
    """

    loss: tuple[float, ...]
    hits: Tensor
    images: int


class Classifier(nn.Module):
    """A trainable copy of a network with a linear layer on its pooled feature.

    Each channel of the feature is first brought to mean 0 and variance 1 over the training images, as the frozen
    network had them, so that the layer learns equally fast whatever the scale of the features. The layer begins at 0.
    As the network stays in evaluation mode, there is neither dropout nor stochastic depth.
    """

    def __init__(self, network: Any, features: Tensor, classes: int) -> None:
        super().__init__()
        self.network: Any = copy.deepcopy(network).requires_grad_(True)
        standardized = Standardization.of(features)
        self.register_buffer('mean', standardized.mean)
        self.register_buffer('scale', standardized.scale)
        self.head = nn.Linear(features.shape[1], classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of normalized images (B, 3, H, W)."""
        return self.head((self.network.features(images) - self.mean) * self.scale)

    def parameter_groups(self, recipe: FineTuningRecipe) -> list[dict[str, Any]]:
        """Parameters for AdamW, with the rate of their block and with weight decay or without.

        What comes before the first block counts as one block more; what lies between or behind blocks belongs to the
        block before it.
        """
        depth_of = {
            id(parameter): place
            for place, block in enumerate(self.network.blocks, start=1)
            for parameter in block.module.parameters()
        }
        last, depth = len(self.network.blocks), 0
        groups = []
        for parameter in self.network.parameters():
            depth = depth_of.get(id(parameter), depth)
            groups.append(_group(parameter, recipe.rate * recipe.layer_decay ** (last - depth), recipe))
        groups += [_group(one, recipe.rate * recipe.head_factor, recipe) for one in self.head.parameters()]
        return groups


def _group(parameter: nn.Parameter, rate: float, recipe: FineTuningRecipe) -> dict[str, Any]:
    # Tokens and positions are (1, L, C): only matrices of layers decay.
    decays = parameter.ndim > 1 and not (parameter.ndim == 3 and len(parameter) == 1)
    return dict(params=[parameter], lr=rate, rate=rate, weight_decay=recipe.weight_decay if decays else 0.0)


def fine_tune(evaluated: EvaluatedNetwork, recipe: FineTuningRecipe) -> FineTuned:
    """Fine-tunes a copy of the network with AdamW on random crops and flips, and classifies the val images.

    The recipe is that of configs/downstream/mmpretrain/vit-tiny_folder.py but for the head: crops of 25 to 100 % of
    the area, layer-wise learning rates (Clark et al., arXiv 2003.10555; BEiT, arXiv 2106.08254), a cosine. Nothing is
    chosen on the val images: they are classified once, after the last epoch. bfloat16 where the device multiplies it.

    Args:
        evaluated: the network, which is left as it is, and its images.
        recipe: the settings.

    Raises:
        UsageError: the loss is not finite.
    """
    train, val = evaluated.bank('train'), evaluated.bank('val')
    with undisturbed_randomness():
        model = Classifier(evaluated.network, train.features, len(train.classes)).to(evaluated.device)
    optimizer = torch.optim.AdamW(model.parameter_groups(recipe), lr=recipe.rate)
    chosen = first_of_each_class(train.labels, recipe.per_class)
    loader = evaluated.loader('train', 'augmented', recipe.batch_size, scale=(0.25, 1.0), indices=chosen)
    steps, step, losses = recipe.epochs * len(loader), 0, []
    autocast = torch.autocast(evaluated.device.type, torch.bfloat16, enabled=has_bf16(evaluated.device))
    for epoch in range(recipe.epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        total, seen = 0.0, 0
        description = f'fine-tuning, epoch {epoch + 1} of {recipe.epochs}'
        for batch in track(loader, len(loader), description, enabled=dist.is_main_process()):
            for group in optimizer.param_groups:
                group['lr'] = group['rate'] * rate_factor(step, steps, recipe.warmup)
            images = evaluated.preprocess(batch)
            labels = torch.cat([sample.gt_label.view(-1) for sample in batch['data_samples']]).to(images.device)
            with torch.enable_grad():
                with autocast:
                    logits = model(images)
                loss = functional.cross_entropy(logits.float(), labels, label_smoothing=recipe.smoothing)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
            optimizer.step()
            total, seen, step = total + float(loss.detach()) * len(labels), seen + len(labels), step + 1
        losses.append(total / seen)
        if not math.isfinite(losses[-1]):
            raise UsageError(
                f'fine-tuning of {evaluated.network.name}: the loss of epoch {epoch + 1} is not finite; give a smaller '
                f'finetune.rate than {recipe.rate:g}.'
            )
    with torch.no_grad(), autocast:
        predicted = torch.cat([model(images).argmax(dim=1).cpu() for images in _images(evaluated)])
    return FineTuned(tuple(losses), predicted == val.labels, len(train.labels) if chosen is None else len(chosen))


def _images(evaluated: EvaluatedNetwork) -> Iterator[Tensor]:
    loader = evaluated.loader('val')
    for batch in track(loader, len(loader), 'fine-tuned, val', enabled=dist.is_main_process()):
        yield evaluated.preprocess(batch)


def first_of_each_class(labels: Tensor, count: int | None) -> list[int] | None:
    """Indices of the first ``count`` images of each class, in order; None for all images."""
    if count is None:
        return None
    chosen = [(labels == label).nonzero().flatten()[:count] for label in labels.unique()]
    return torch.cat(chosen).sort().values.tolist()


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """The share of the learning rate at a step, from 0: a linear rise, then half a cosine to 0."""
    rising = int(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
