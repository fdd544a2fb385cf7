"""What makes the features of a new tokenizer, in the form in which a file keeps it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import Tensor

from mstkit.errors import UsageError
from mstkit.models.tokenizers import NetworkFeatures, RawPatches
from mstkit.networks import Network
from mstkit.registry import MODELS
from mstkit.structures import TokenEncoder

PRETRAINING = 'mmpretrain.models.selfsup'
EPSILON = 0.1  # of the mean variance, added to each before the division


class KeptNetwork(NamedTuple):
    """A network in the form in which the file of a tokenizer keeps it.

    Attributes:
        source: makes the features.
        settings: what it was built with, plain data.
    """

    source: NetworkFeatures
    settings: dict[str, Any]


def keep_network(network: Network) -> KeptNetwork:
    """Describes a network by a config that models build by themselves, and checks that its features are the same.

    Args:
        network: from :func:`mstkit.networks.open_networks`.

    Raises:
        UsageError: it cannot be described so.
    """
    config = _plain_config(network)
    settings: dict[str, Any] = dict(
        network=config, image_size=network.image_size, mean=list(network.mean), std=list(network.std)
    )
    source = NetworkFeatures(**settings)
    state = network.backbone.state_dict()
    owner = getattr(source.backbone, 'network', source.backbone)  # timm's own is one level below
    missing = [name for name in owner.state_dict() if name not in state]
    if missing:
        raise UsageError(f'{network.name} cannot be kept in a file: it has no tensor {missing[0]}')
    owner.load_state_dict({name: state[name] for name in owner.state_dict()})
    size = network.image_size
    pixels = 255 * torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = network.cpu()((pixels - source.mean) / source.std)
        same = source.map(pixels).flatten(2).transpose(1, 2)
    if not torch.allclose(seen.patch_tokens.float(), same, rtol=1e-4, atol=1e-4):
        raise UsageError(f'{network.name} cannot be kept in a file: built again it gives other features')
    return KeptNetwork(source.requires_grad_(False).eval(), settings)


def whiten(source: RawPatches, patches: Tensor) -> None:
    """Sets mean and whitening of raw patches (N, D), 0 to 1: ``V / sqrt(variance + 0.1 mean variance)`` by PCA."""
    values = patches.double()
    mean = values.mean(dim=0)
    centered = values - mean
    variances, directions = torch.linalg.eigh(centered.T @ centered / len(values))
    variances = variances.clamp_min(0)
    scale = (variances + EPSILON * variances.mean() + 1e-12).rsqrt()
    source.mean.copy_(mean)
    source.whitening.copy_(directions * scale)


def _plain_config(network: Network) -> dict[str, Any]:
    """The config of its backbone with names in the place of classes, giving a map of patch tokens."""
    backbone, config = network.backbone, dict(network.config or {})
    if config.get('type') == 'TimmNetwork':
        return config
    if not config:
        raise UsageError(f'{network.name} cannot be kept in a file: nobody says from what config it was built')
    # A backbone of mmpretrain's for pre-training hides patches by itself; the one that it extends does not.
    kinds = type(backbone).__mro__
    kind = next(one for one in kinds if not one.__module__.startswith(PRETRAINING))
    if kind is not type(backbone):
        taken = {name for one in kind.__mro__ if one is not object for name in inspect.signature(one).parameters}
        config = {name: value for name, value in config.items() if name in taken}
    config['type'] = _name_of(kind)
    if not isinstance(backbone, TokenEncoder):
        config.pop('out_indices', None)
        if 'out_type' in inspect.signature(kind).parameters:
            config['out_type'] = 'featmap'
    return _plain(config)


def _plain(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {str(key): _plain(value) for key, value in part.items()}
    if isinstance(part, Sequence) and not isinstance(part, str):
        return [_plain(one) for one in part]
    return _name_of(part) if isinstance(part, type) else part


def _name_of(kind: type) -> str:
    """The name under which mstkit's registry or mmpretrain's knows a class."""
    for registry, scope in ((MODELS, 'mstkit'), (MMPRETRAIN_MODELS, 'mmpretrain')):
        names = [name for name, one in registry.module_dict.items() if one is kind]
        if names:
            return f'{scope}.{names[0]}'
    raise UsageError(f'{kind.__name__} of {kind.__module__} is in no registry, so that no file can name it')
