"""Checks that every batch holds enough images for the batch normalizations of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import BatchSampler, DataLoader

from mstkit.engine.checkpoints.data_order import sampler_of
from mstkit.errors import UsageError
from mstkit.models import interface_of
from mstkit.models.interface import StatisticsOverViews

_TO_ONE_PIXEL = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)


def check_batch_norms(model: nn.Module, loader: DataLoader, config: Mapping[str, Any] | None = None) -> None:
    """Refuses a batch of one image if a batch normalization would then compute statistics from a single value.

    This happens after pooling to one pixel (the pyramid pooling of mmseg's PSPHead and UPerHead) and with one vector
    per image (the projection heads of self-supervised methods, linear probes), but not for feature maps (all pixels
    of the image count) or inside a backbone (all tokens count). With ``sync_bn`` on several GPUs, the images of all
    GPUs count. Accumulated iterations do not count together: each one is normalized by itself.

    A part that normalizes several views together has a method ``values_per_statistic(images, views)``, such as
    :class:`mstkit.models.necks.DINONeck`.

    Args:
        model: the model.
        loader: of its training data.
        config: of the whole run, for its ``sync_bn``.

    Raises:
        UsageError: names the part, and the setting to change.
    """
    synchronized = torch.cuda.is_available() and bool((config or {}).get('sync_bn'))
    if synchronized and get_world_size() > 1:
        return
    sizes = _batch_sizes(loader)
    smallest = min(sizes)
    for name, part in _one_value_each(model):
        views = interface_of(model).global_views
        count = part.values_per_statistic(smallest, views) if isinstance(part, StatisticsOverViews) else smallest
        if count < 2:
            name = interface_of(model).config_key(name)
            raise UsageError(f'model.{name} has batch normalization, which needs two images at least: {_reason(sizes)}')


def _batch_sizes(loader: DataLoader) -> tuple[int, ...]:
    """The number of images per batch on one process, and that of an epoch's last batch if it is smaller."""
    sampler, batches = sampler_of(loader), loader.batch_sampler
    size = loader.batch_size or batches.batch_size  # type: ignore[union-attr]
    if type(batches) is not BatchSampler or loader.drop_last or isinstance(sampler, InfiniteSampler):
        return (size,)
    rest = len(sampler) % size
    return (size, rest) if rest else (size,)


def _reason(sizes: tuple[int, ...]) -> str:
    """A sentence that says why a batch has one image, and which setting to change."""
    if sizes[0] == 1:
        return (
            'train_dataloader.batch_size is 1 (on each process, before accumulation). Set --cfg-options '
            'train_dataloader.batch_size=2 or more, or a model without batch normalization there.'
        )
    return (
        f'the last batch of an epoch would have one (train_dataloader.batch_size is {sizes[0]}). Set --cfg-options '
        'train_dataloader.drop_last=True, another batch size, or a model without batch normalization there.'
    )


def _one_value_each(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields name and module of the parts whose batch normalization gets one value per channel and image."""
    told: list[str] = []
    for name, part in model.named_modules():
        if 'backbone' in name.split('.') or any(name.startswith(f'{one}.') for one in told):
            continue
        if isinstance(part, nn.Module) and isinstance(part, StatisticsOverViews):
            told.append(name)
            if any(map(_takes_statistics, part.modules())):
                yield name, part
        elif isinstance(part, nn.BatchNorm1d) and _takes_statistics(part):
            yield name, part
        elif isinstance(part, nn.Sequential):
            inner = list(part)
            pools = any(isinstance(one, _TO_ONE_PIXEL) and one.output_size in (1, (1,), (1, 1)) for one in inner[:-1])
            if pools and any(map(_takes_statistics, part.modules())):
                yield name, part


def _takes_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.training
