"""Views whose color augmentation runs on the device: a check of the config, and batches of first views for hooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import DataLoader

from mstkit.datasets import MultiCrop
from mstkit.datasets.dataset_interface import transforms_of
from mstkit.errors import UsageError
from mstkit.models.data_preprocessors import ViewDataPreprocessor
from mstkit.utils.build_errors import build_guard


def check_colored(model: nn.Module, loader: DataLoader) -> None:
    """Refuses a run with ``photometric='device'`` in ``MultiCrop`` in which the model would not augment colors.

    Raises:
        UsageError: the pipeline drops the parameters of the augmentation, or the model's data preprocessor does not
            apply them.
    """
    if not any(isinstance(step, MultiCrop) and step.photometric == 'device' for step in transforms_of(loader.dataset)):
        return
    with build_guard():
        sample = loader.dataset[0]
    if 'photometric' not in sample:
        raise UsageError(
            "MultiCrop has photometric='device', but a later transform drops the parameters of the color augmentation: "
            "end the pipeline with dict(type='PackViews'), or set photometric='cpu'."
        )
    preprocessor = model.data_preprocessor if isinstance(model, BaseModel) else None
    if not isinstance(preprocessor, ViewDataPreprocessor):
        raise UsageError(
            f"MultiCrop has photometric='device', but {type(preprocessor).__name__} does not augment colors: set "
            "model.data_preprocessor.type=ViewDataPreprocessor, or photometric='cpu' in the pipeline."
        )


def first_view(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The first view of a sample or a batch, in the form that the data preprocessor takes."""
    views = batch['inputs']
    part = {'inputs': views[0] if isinstance(views, list | tuple) else views, 'data_samples': None}
    if batch.get('photometric') is not None:
        part['photometric'] = batch['photometric'][..., :1, :]
    return part


def join(parts: Sequence[Mapping[str, Any]], stack: bool = False) -> dict[str, Any]:
    """Joins results of :func:`first_view` to one batch; ``stack=True`` for samples, False for batches."""
    merge = torch.stack if stack else torch.cat
    return {name: None if value is None else merge([part[name] for part in parts]) for name, value in parts[0].items()}


def pieces(batch: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """Splits a batch into pieces of ``size`` samples."""
    for start in range(0, len(batch['inputs']), size):
        yield {name: None if value is None else value[start : start + size] for name, value in batch.items()}
