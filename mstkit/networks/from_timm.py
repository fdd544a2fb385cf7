"""Networks of timm."""

from __future__ import annotations

import importlib
import math
import pickle
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from mstkit.errors import UsageError, nearest
from mstkit.interop import load_strict, read_data, recognize
from mstkit.networks.from_config import SEED, errors_of_source, split_weights
from mstkit.networks.network import Network
from mstkit.utils.position_interpolation import DINO_OFFSET
from mstkit.utils.undisturbed import undisturbed_randomness

# What a file has that a network without a classifier lacks.
CLASSIFIERS = ('head.', 'head_dist.')


def open_timm(words: str) -> Network:
    """A ViT or Swin of timm without its classifier: ``NAME``, with weights from ``@FILE`` or random ones.

    A name with the tag of DINO's weights, such as ``vit_small_patch16_224.dino``, or of DINOv2 without registers,
    ``vit_small_patch14_dinov2``, takes images of any size, and interpolates its positions for them as DINO's code
    does.

    Args:
        words: the file is a state dict of torch or safetensors. Nothing is downloaded.

    Raises:
        UsageError: there is no such name or file, the network is neither a ViT nor a Swin, or the weights do not fit
            completely.
    """
    name, weights = split_weights(words)
    if not timm.is_model(name):
        raise UsageError(
            f'timm:{name}: timm has no model of that name.{nearest(name, timm.list_models())} '
            'timm.list_models() lists those that there are.'
        )
    with undisturbed_randomness():
        torch.manual_seed(SEED)
        try:
            any_size: dict[str, Any] = dict(dynamic_img_size=True) if _is_dinos(name) else {}
            backbone: Any = timm.create_model(name, pretrained=False, num_classes=0, **any_size)
        except Exception as error:  # A name's own function may refuse in any way, such as an unknown tag.
            raise UsageError(f'timm:{name} cannot be built: {error}') from error
    origin = f'random, seed {SEED}'
    if weights is not None:
        origin = f'{weights}, {load_strict(backbone, _read(weights, backbone), f"timm:{name}@{weights}")}'
    described = backbone.pretrained_cfg
    sides = getattr(getattr(backbone, 'patch_embed', None), 'img_size', None) or described['input_size'][1:]
    if sides[0] != sides[1]:
        raise UsageError(f'timm:{name} takes images of {sides[0]}x{sides[1]} px; only square ones are known here.')
    with errors_of_source(f'timm:{name}'):
        return Network(
            backbone,
            f'timm:{name}' + ('' if weights else ' (random)'),
            sides[0],
            [255 * value for value in described['mean']],
            [255 * value for value in described['std']],
            # The share of the resized image that is cut out, as timm's own evaluation rounds it.
            math.floor(sides[0] / (described.get('crop_pct') or 1.0)),
            origin=origin,
            interpolate_offset=DINO_OFFSET if _is_dinos(name) else 0.0,
            config=dict(type='TimmNetwork', arch=name),
        )


def _is_dinos(name: str) -> bool:
    """Whether a name of timm's is of weights that were trained with DINO's interpolation of positions."""
    described = timm.models.get_pretrained_cfg(name)
    tag = '' if described is None else described.tag
    return tag == 'dino' or (tag == 'lvd142m' and '_reg' not in name)


def _read(path: str, backbone: Any) -> dict[str, Tensor]:
    """The tensors of a file, under the names and in the shapes of a backbone of timm."""
    try:
        content: Any = timm.models.load_state_dict(path, weights_only=True)
        state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
        if not state:
            raise UsageError(f'{path} holds no tensors where timm looks for them.{recognize(content)}')
        # Each family of timm's knows the names that others gave its weights.
        family = importlib.import_module(type(backbone).__module__)
        fitted = getattr(family, 'checkpoint_filter_fn', lambda found, _: found)(state, backbone)
    except UsageError:
        raise
    except pickle.UnpicklingError:
        read_data(Path(path).expanduser())  # says what is in it that is not read
        raise
    except Exception as error:  # A damaged file fails in any of torch's, zip's and pickle's ways.
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f'{path} cannot be read as weights of timm: {text[:200]}') from error
    return {name: value for name, value in fitted.items() if not name.startswith(CLASSIFIERS)}
