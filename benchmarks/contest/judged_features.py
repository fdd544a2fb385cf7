"""What features are worth: weighted k-NN and a linear probe, the same for every network of a contest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from mstkit.datasets import ImageFolder
from mstkit.evaluation.protocols.linear_probe import Standardization, shuffled_batches, train_heads
from mstkit.evaluation.protocols.linear_recipes import PRESETS
from mstkit.evaluation.protocols.weighted_knn import knn_accuracy
from mstkit.structures import FeatureBank

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
K, TEMPERATURE = 20, 0.07
BLOCK = 250  # images that go through a network at a time
HELD_OUT = 5  # every fifth training image chooses the learning rate of the probe


class Judge:
    """Center views of a folder with ``train/CLASS`` and ``val/CLASS``, kept in memory.

    Args:
        data_root: the folder.
        size: side of the views in px; images are resized to 8/7 of it before they are cropped.
    """

    def __init__(self, data_root: str | Path, size: int = 64) -> None:
        pipeline = [
            dict(type='LoadRGB'),
            dict(type='CenterView', resize=round(size * 8 / 7), crop=size),
            dict(type='PackViews'),
        ]
        self.views: dict[str, tuple[Tensor, Tensor]] = {}
        self.classes: tuple[str, ...] = ()
        for split in ('train', 'val'):
            images = ImageFolder(data_root, split, pipeline, labeled=True)
            classes = tuple(images.metainfo['classes'])
            assert self.classes in ((), classes), f'{data_root}: train and val have other classes'
            self.classes = classes
            samples = [images[index] for index in range(len(images))]
            views = torch.stack([sample['inputs'] for sample in samples])
            self.views[split] = views, torch.tensor([int(sample['data_samples'].gt_label) for sample in samples])

    def __call__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
        """Judges a network, which is left in the mode in which it was.

        Returns:
            ``knn``: top-1 in percent of weighted k-NN with the whole training set as the bank. ``linear``: top-1 of a
            linear layer on standardized features after its last epoch, at the learning rate that was best on the fifth
            of the training images that it was not trained on then. ``rank``: RankMe of the validation features.
        """
        training = network.training
        network.eval()
        banks = {
            split: FeatureBank(features_of(network, views, device, dtype), labels, self.classes)
            for split, (views, labels) in self.views.items()
        }
        network.train(training)
        knn = knn_accuracy(banks['train'], banks['val'], (K,), TEMPERATURE)
        singular = torch.linalg.svdvals(banks['val'].features.double())
        shares = singular / singular.sum() + 1e-7
        return dict(
            knn=round(knn[f'k{K}_top1'], 3),
            linear=round(_linear(banks['train'], banks['val']), 3),
            rank=round(float(torch.exp(-(shares * shares.log()).sum())), 1),
        )


@torch.no_grad()
def features_of(encode: Callable[[Tensor], Tensor], views: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Features of uint8 views (M, 3, H, W), :data:`BLOCK` at a time, on the CPU in float32.

    Args:
        encode: maps normalized images to features (B, D).
        views: as :class:`Judge` keeps them.
        device: of ``encode``.
        dtype: of the forward pass, by autocast.
    """
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
    found = []
    for batch in views.split(BLOCK):
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            found.append(encode((batch.to(device).float() - mean) / std).float().cpu())
    return torch.cat(found)


def _linear(train: FeatureBank, val: FeatureBank) -> float:
    recipe = PRESETS['mae']
    scaled = Standardization.of(train.features)
    train, val = (bank._replace(features=scaled(bank.features)) for bank in (train, val))
    held = torch.arange(len(train.labels)) % HELD_OUT == 0
    inner, outer = (FeatureBank(train.features[part], train.labels[part], train.classes) for part in (~held, held))
    rates = [rate * recipe.batch_size / 256 for rate in recipe.rates]
    tried = train_heads(shuffled_batches(inner, outer, recipe.batch_size), outer, rates, recipe.epochs, progress=False)
    best = rates[int(tried.top1[-1].nan_to_num(-1).argmax())]
    final = train_heads(shuffled_batches(train, val, recipe.batch_size), val, [best], recipe.epochs, progress=False)
    return float(final.top1[-1, 0])
