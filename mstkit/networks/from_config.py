"""Opens networks described by an OpenMMLab config: mstkit's checkpoints, mmpretrain's models, random weights."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.models.backbones import SwinTransformer, VisionTransformer
from torch import nn

from mstkit.errors import UsageError, nearest
from mstkit.formats import read_pretrained
from mstkit.formats.naming import COMPUTED
from mstkit.interop import (
    branch_state,
    branches_of,
    load_strict,
    parse_config_text,
    recognize,
    trusted_part,
)
from mstkit.models import Pretrainer
from mstkit.networks.network import Network
from mstkit.networks.random_network import SEED, seeded_quietly
from mstkit.registry import MODELS
from mstkit.utils.build_errors import build_guard
from mstkit.utils.config_parts import hook_configs
from mstkit.utils.home_folder import expanded
from mstkit.utils.position_interpolation import DINO_OFFSET
from mstkit.utils.private_attributes import content_of
from mstkit.utils.shipped_files import config_names, find_config

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
RGB_READER = 'LoadRGB'


def open_checkpoint(path: str, branch: str | None = None) -> list[Network]:
    """Opens the backbones of a checkpoint of mstkit, which contains its config, or of another program.

    Args:
        path: the file or folder, see :func:`mstkit.formats.read_pretrained`.
        branch: ``'student'`` or ``'teacher'``; None for both, if present.

    Raises:
        UsageError: no checkpoint, no config, no backbone, no such branch, or weights that do not match the config.
    """
    checkpoint = read_pretrained(path)
    config = _checkpoint_config(checkpoint, path)
    present = branches_of(checkpoint)
    if not present:
        tops = sorted({key.split('.')[0] for key in checkpoint['state_dict']})
        raise UsageError(f'{path} has no backbone; its keys start with {tops}.')
    name = short_name(path)
    networks = []
    for one in present if branch is None else [branch]:
        backbone = _build(config, path)
        with errors_of_source(path):
            loaded = load_strict(backbone, for_evaluation(branch_state(checkpoint, one), backbone), one)
        kind = checkpoint.get('meta', {}).get('kind')
        loaded = f'{kind}, {loaded}' if kind else loaded
        label = f'{name} {one}' if len(present) > 1 else name
        networks.append(_network(backbone, config, label, path, one, f'{path}, {loaded}'))
    return networks


def open_mmpretrain(words: str) -> Network:
    """Opens a backbone of mmpretrain: ``NAME`` or ``CONFIG.py``, with weights from ``@FILE`` or random ones.

    A name is one of mmpretrain's model zoo, or an architecture: ``vit-base``, ``deit-small``, ``swin-tiny``. DINOv2's
    models interpolate their positions as DINO's code does; in a config, use
    ``dict(type='mstkit.MaskedVisionTransformer', interpolate_offset=0.1)`` for that.

    Raises:
        UsageError: no such config, name or file, or weights that do not match completely.
    """
    name, weights = split_weights(words)
    config = _named_config(name)
    label = f'mmpretrain:{Path(name).stem if name.endswith(".py") else name}'
    offset = DINO_OFFSET if 'dinov2' in name.lower() and not name.endswith('.py') else 0.0
    if weights is None:
        return _network(_randomly(config, name), config, f'{label} (random)', name, '', f'random, seed {SEED}', offset)
    checkpoint = read_pretrained(weights)
    backbone = _build(config, name)
    with errors_of_source(weights):
        loaded = load_strict(backbone, for_evaluation(branch_state(checkpoint, 'student'), backbone), 'backbone')
    return _network(backbone, config, label, name, '', f'{weights}, {loaded}', offset)


def open_random(words: str) -> Network:
    """Opens the architecture of a config or of a checkpoint of mstkit with random weights.

    They are those of seed 0, or of another behind an ``@``: ``CONFIG.py@1``. For a standard deviation beside that of
    trained networks, since random weights differ from each other too.

    Raises:
        UsageError: no such file, no backbone in it, or a seed that is no whole number from 0.
    """
    source, seed = words, SEED
    if '@' in words and not Path(words).is_file():
        source, _, number = words.rpartition('@')
        if not number.isdecimal() or int(number) >= 2**32:
            raise UsageError(f'random:{words}: the seed behind the @ is a whole number from 0, not {number!r}.')
        seed = int(number)
    if source.endswith('.py') or source in config_names():
        config = _config_file(source)
    elif expanded(source).is_file():
        config = _checkpoint_config(read_pretrained(source), source)
    else:
        raise UsageError(f'random:{words}: there is no such file; give a config or a checkpoint of mstkit.')
    name = f'random {Path(source).stem}' + (f' (seed {seed})' if seed != SEED else '')
    return _network(_randomly(config, source, seed), config, name, source, '', f'random, seed {seed}')


def split_weights(words: str) -> tuple[str, str | None]:
    """Splits ``NAME@FILE`` into name and file; the file is None without ``@``."""
    if '@' not in words or Path(words).is_file():
        return words, None
    name, _, weights = words.rpartition('@')
    if not expanded(weights).is_file():
        raise UsageError(f'the file of weights {weights!r} (behind the @ of {words!r}) does not exist.')
    return name, weights


def short_name(path: str) -> str:
    """``FOLDER/STEM`` of a file, since checkpoints of different runs have the same file name (epoch_100.pth)."""
    file = expanded(path).resolve()
    return f'{file.parent.name}/{file.stem}'.lstrip('/')


def _named_config(name: str) -> Mapping[str, Any]:
    if name.endswith('.py'):
        return _config_file(name)
    kind, _, arch = name.lower().partition('-')
    for prefix, backbone in (('swin', SwinTransformer), ('vit', VisionTransformer)):
        if kind == prefix and arch in backbone.arch_zoo:
            return _of_architecture(backbone, arch)
    if name.lower() in VisionTransformer.arch_zoo:
        return _of_architecture(VisionTransformer, name.lower())
    # imported here: it imports all inferencers of mmpretrain, which only names of its model zoo need
    from mmpretrain.apis.model import ModelHub, list_models

    zoo = list_models()
    if name.lower() not in zoo:
        archs = [*VisionTransformer.arch_zoo, *(f'swin-{arch}' for arch in SwinTransformer.arch_zoo)]
        raise UsageError(
            f'mmpretrain:{name}: mmpretrain has no model or architecture of that name.{nearest(name, [*zoo, *archs])} '
            'Give one of mmpretrain.list_models(), an architecture such as deit-small or swin-tiny, or CONFIG.py.'
        )
    with errors_of_source(f'mmpretrain:{name}', (OSError, ValueError, KeyError, SyntaxError)):
        return content_of(ModelHub.get(name).config)


def _of_architecture(backbone: type, arch: str) -> Mapping[str, Any]:
    return dict(model=dict(backbone=dict(type=backbone, arch=arch)), data_preprocessor=dict(IMAGENET))


def _config_file(path: str) -> Mapping[str, Any]:
    file = find_config(path)
    try:
        return content_of(Config.fromfile(file))
    except Exception as error:  # A config is Python code, which can raise anything.
        raise UsageError(f'config {path} cannot be read: {type(error).__name__}: {error}') from error


def _checkpoint_config(checkpoint: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    meta = checkpoint.get('meta') or {}
    text = meta.get('cfg')
    if not isinstance(text, str) and 'unknown' in meta:
        raise UsageError(f'{path}: it is a checkpoint of {meta["kind"]}; {meta["unknown"]}.')
    if not isinstance(text, str):
        raise UsageError(
            f'{path} contains no config, so its architecture is unknown: give it as '
            f'mmpretrain:CONFIG.py@{path} or timm:NAME@{path}.{recognize(checkpoint)}'
        )
    with errors_of_source(path):
        config = parse_config_text(text)
        model: Any = config.get('model')
        if isinstance(model, dict) and isinstance(model.get('backbone'), dict):
            model['backbone'] = trusted_part(model['backbone'], 'model.backbone')
        return config


def for_evaluation(state: Mapping[str, Any], backbone: nn.Module) -> dict[str, Any]:
    """Without the embedding of hidden patches, which releases have beside their encoder; with indices by the sizes."""
    computed = {name: value for name, value in backbone.state_dict().items() if COMPUTED.fullmatch(name)}
    return computed | {name: value for name, value in state.items() if name != 'mask_token'}


def _backbone_config(model: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a model's backbone with the defaults of its method, without what initializes its weights."""
    plain = {key: value for key, value in model['backbone'].items() if key != 'init_cfg'}
    # Looked up by name alone: the type may come with a stranger's file, and the registry would import a dotted one.
    scope, _, kind = str(model.get('type')).rpartition('.')
    method = MODELS.module_dict.get(kind) if scope in ('', 'mstkit') else None
    if inspect.isclass(method) and issubclass(method, Pretrainer):
        return method.backbone_config(plain)
    return plain


def _build(config: Mapping[str, Any], source: str) -> nn.Module:
    """Builds the backbone of a config, without initializing its weights."""
    model = config.get('model')
    if not isinstance(model, Mapping) or not isinstance(model.get('backbone'), Mapping):
        raise UsageError(f'{source}: the config has no model.backbone.')
    plain = _backbone_config(model)
    with errors_of_source(source), DefaultScope.overwrite_default_scope('mstkit'), build_guard():
        return MODELS.build(plain)


def _randomly(config: Mapping[str, Any], source: str, seed: int = SEED) -> Any:
    """Builds and initializes the backbone as for training; the global random generators are not changed."""
    with seeded_quietly(seed):
        backbone: Any = _build(config, source)
        backbone.init_weights()
    return backbone


def _network(
    backbone: nn.Module,
    config: Mapping[str, Any],
    name: str,
    source: str,
    branch: str,
    origin: str,
    interpolate_offset: float = 0.0,
) -> Network:
    normalization = config['model'].get('data_preprocessor') or config.get('data_preprocessor') or {}
    to_rgb = normalization.get('to_rgb') or normalization.get('bgr_to_rgb')
    mean, std = normalization.get('mean'), normalization.get('std')
    if mean is None or std is None:
        mean, std = (0.0,) * 3, (1.0,) * 3
    pipelines = list(_pipelines(config))
    reader = next((str(steps[0].get('type')).split('.')[-1] for steps in pipelines if steps), RGB_READER)
    if normalization.get('rgb_to_bgr') or (not to_rgb and reader != RGB_READER and reader.startswith('Load')):
        raise UsageError(f'{source}: its config feeds images in BGR order to the network; only RGB is supported.')
    image_size, resize = _view(pipelines, config['model']['backbone'])
    built_from = _backbone_config(config['model'])
    with errors_of_source(source):
        return Network(backbone, name, image_size, mean, std, resize, branch, origin, interpolate_offset, built_from)


def _pipelines(config: Mapping[str, Any]) -> Iterator[list[Any]]:
    """The evaluation pipelines of a config: of the hooks during pre-training (k-NN), then of its data loaders."""
    for _, hook in hook_configs(config):
        yield (hook.get('val_dataset') or {}).get('pipeline') or []
    for loader in ('test_dataloader', 'val_dataloader', 'train_dataloader'):
        yield ((config.get(loader) or {}).get('dataset') or {}).get('pipeline') or []


def _view(pipelines: list[list[Any]], backbone: Mapping[str, Any]) -> tuple[int, int | None]:
    """(side of the center crop, shorter side before cropping) of evaluation images; the latter None if not given."""
    for steps in pipelines:
        resize = None
        for step in steps:
            kind = str(step.get('type')).split('.')[-1]
            if kind == 'CenterView':
                return step.get('crop', 224), step.get('resize', 256)
            if kind in ('ResizeEdge', 'Resize'):
                resize = _side(step.get('scale'))
            if kind == 'CenterCrop' and _side(step.get('crop_size')):
                return _side(step['crop_size']), resize
            if kind == 'PackInputs' and resize:
                return resize, resize
    return _side(backbone.get('img_size')) or 224, None


def _side(size: Any) -> Any:
    """The side of a square given as one number or two equal ones; else None."""
    if isinstance(size, list | tuple) and len(set(size)) == 1:
        size = size[0]
    return size if isinstance(size, int) else None


@contextlib.contextmanager
def errors_of_source(source: str, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Prefixes UsageErrors with the source; converts exceptions of the classes ``also`` to UsageErrors."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f'{source}: {error}') from error
    except also as error:
        raise UsageError(f'{source}: {type(error).__name__}: {error}') from error
