"""Checks that the training data provide the number and sizes of views that a model needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from mstkit.engine.config.run_length import parts_of
from mstkit.errors import UsageError
from mstkit.models import ForeignModel, interface_of
from mstkit.utils.build_errors import build_guard


def check_views(model: nn.Module, loader: DataLoader, config: Mapping[str, Any] | None = None) -> None:
    """Loads the first sample and lets the model check the number and sizes of its views.

    Args:
        model: the model; one that is no :class:`mstkit.models.TrainedModel` is not checked.
        loader: of its training data.
        config: of the whole run; the message names the dotted path of its ``MultiCrop``.

    Raises:
        UsageError: the model cannot train with this number or these sizes of views.
    """
    interface = interface_of(model)
    if isinstance(interface, ForeignModel):
        return  # a model of another package: its needs are not known here
    with build_guard():
        views = loader.dataset[0]['inputs']
    sizes = [view.shape[-1] for view in (views if isinstance(views, list | tuple) else [views])]
    try:
        interface.check_view_count(sizes)
        with build_guard():
            interface.check_views(sizes[0], sizes[-1] if sizes[-1] != sizes[0] else None)
    except UsageError as error:
        path_of_crops = _find_multi_crop(config or {})
        if path_of_crops is None or 'MultiCrop' not in str(error):
            raise
        raise UsageError(f'{str(error).removesuffix(".")}. Its config is {path_of_crops}.') from error


def _find_multi_crop(config: Mapping[str, Any]) -> str | None:
    """The dotted path of MultiCrop in ``train_dataloader``; None without one."""
    for path, part in parts_of(config.get('train_dataloader'), 'train_dataloader'):
        if str(part.get('type')).split('.')[-1].removesuffix("'>") == 'MultiCrop':
            return path
    return None
