"""Opens networks of timm."""

from __future__ import annotations

import importlib
import math
import pickle
from typing import Any

import timm
from torch import Tensor

from mstkit.errors import UsageError, nearest
from mstkit.interop import load_strict, read_data, recognize
from mstkit.networks.from_config import errors_of_source, split_weights
from mstkit.networks.network import Network
from mstkit.networks.random_network import SEED, seeded_quietly
from mstkit.utils.home_folder import expanded
from mstkit.utils.position_interpolation import DINO_OFFSET

# Prefixes of classifier weights, which a backbone without classifier does not have.
CLASSIFIERS = ('head.', 'head_dist.')


def open_timm(words: str) -> Network:
    """Opens a ViT or Swin of timm without its classifier: ``NAME``, with weights from ``@FILE`` or random ones.

    Names with the tag of DINO's weights, such as ``vit_small_patch16_224.dino``, or of DINOv2 without registers,
    ``vit_small_patch14_dinov2``, accept images of any size and interpolate their positions as DINO's code does.

    Args:
        words: ``NAME`` or ``NAME@FILE``; the file is a state dict of torch or safetensors. Nothing is downloaded.

    Raises:
        UsageError: no such name or file, a network that is neither a ViT nor a Swin, or weights that do not match
            completely.
    """
    name, weights = split_weights(words)
    if not timm.is_model(name):
        raise UsageError(
            f'timm:{name}: timm has no model of that name.{nearest(name, timm.list_models())} '
            'timm.list_models() lists all names.'
        )
    with seeded_quietly():
        try:
            any_size: dict[str, Any] = dict(dynamic_img_size=True) if _is_dinos(name) else {}
            backbone: Any = timm.create_model(name, pretrained=False, num_classes=0, **any_size)
        except Exception as error:  # timm's functions raise all kinds of errors, for example for an unknown tag.
            raise UsageError(f'timm:{name} cannot be built: {error}') from error
    origin = f'random, seed {SEED}'
    if weights is not None:
        origin = f'{weights}, {load_strict(backbone, _read(weights, backbone), f"timm:{name}@{weights}")}'
    described = backbone.pretrained_cfg
    # timm's networks have no common class, and some take images of one size only.
    sides = getattr(getattr(backbone, 'patch_embed', None), 'img_size', None) or described['input_size'][1:]
    if sides[0] != sides[1]:
        raise UsageError(f'timm:{name} takes images of {sides[0]}x{sides[1]} px; only square ones are supported.')
    with errors_of_source(f'timm:{name}'):
        return Network(
            backbone,
            f'timm:{name}' + ('' if weights else ' (random)'),
            sides[0],
            [255 * value for value in described['mean']],
            [255 * value for value in described['std']],
            # crop_pct is the crop's side relative to the resized image; rounded as in timm's evaluation.
            math.floor(sides[0] / (described.get('crop_pct') or 1.0)),
            origin=origin,
            interpolate_offset=DINO_OFFSET if _is_dinos(name) else 0.0,
            config=dict(type='TimmNetwork', arch=name),
        )


def _is_dinos(name: str) -> bool:
    """Whether a model name of timm's has weights trained with DINO's interpolation of positions."""
    described = timm.models.get_pretrained_cfg(name)
    tag = '' if described is None else described.tag
    return tag == 'dino' or (tag == 'lvd142m' and '_reg' not in name)


def _read(path: str, backbone: Any) -> dict[str, Tensor]:
    """Reads the tensors of a file, converted to the names and shapes of a backbone of timm."""
    try:
        content: Any = timm.models.load_state_dict(path, weights_only=True)
        state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
        if not state:
            raise UsageError(f'{path} holds no tensors where timm looks for them.{recognize(content)}')
        family = importlib.import_module(type(backbone).__module__)
        # Each family of timm's whose weights others have under other names has a function that knows these.
        fitted = getattr(family, 'checkpoint_filter_fn', lambda found, _: found)(state, backbone)
    except UsageError:
        raise
    except pickle.UnpicklingError:
        read_data(expanded(path))  # raises a UsageError that names what is refused
        raise
    except Exception as error:  # torch, zip and pickle raise all kinds of errors for damaged files.
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f'{path} cannot be read as weights of timm: {text[:200]}') from error
    return {name: value for name, value in fitted.items() if not name.startswith(CLASSIFIERS)}
