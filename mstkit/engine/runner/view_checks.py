"""Whether the views of the first sample are those that a method compares."""

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
    """Lets a model that can refuse the views of the first sample.

    Args:
        model: any; a :class:`mstkit.models.TrainedModel` is asked.
        loader: of its training data.
        config: of the whole run, for the place of the transform that makes the views.

    Raises:
        UsageError: a number or a size of views that the model cannot train with.
    """
    asked = interface_of(model)
    if isinstance(asked, ForeignModel):
        return  # whatever its data are, it says itself what it cannot take
    with build_guard():
        views = loader.dataset[0]['inputs']
    sizes = [view.shape[-1] for view in (views if isinstance(views, list | tuple) else [views])]
    try:
        asked.check_view_count(sizes)
        with build_guard():
            asked.check_views(sizes[0], sizes[-1] if sizes[-1] != sizes[0] else None)
    except UsageError as error:
        place = _place_of_crops(config or {})
        if place is None or 'MultiCrop' not in str(error):
            raise
        raise UsageError(f'{str(error).removesuffix(".")}. It stands at {place}.') from error


def _place_of_crops(config: Mapping[str, Any]) -> str | None:
    """The dotted path of MultiCrop in the training data of a config."""
    for path, part in parts_of(config.get('train_dataloader'), 'train_dataloader'):
        if str(part.get('type')).split('.')[-1].removesuffix("'>") == 'MultiCrop':
            return path
    return None
