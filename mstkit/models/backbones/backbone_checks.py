"""Checks of arguments that mmpretrain's ViT and Swin accept unchecked and fail on later."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mmpretrain.models.backbones import SwinTransformer, VisionTransformer

from mstkit.errors import UsageError
from mstkit.models.encoder_attention import QV_BIAS
from mstkit.utils.checks import (
    check_count,
    check_dict,
    check_flag,
    check_list,
    check_number,
    check_one_of,
    check_size,
)

MOST_LAYERS = 1000
MODES = ('nearest', 'bilinear', 'bicubic', 'area', 'nearest-exact')
FLAGS: tuple[str, ...] = (
    'qkv_bias',
    'final_norm',
    'with_cls_token',
    'pre_norm',
    'with_cp',
    'norm_eval',
    'pad_small_map',
)
FLAGS += ('out_after_downsample', 'use_abs_pos_embed')


def vit_arguments(owner: str, args: tuple, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Checks all arguments of a ViT and returns them by name, with defaults.

    Args:
        owner: name of the class, for messages.
        args: positional arguments.
        settings: keyword arguments.

    Raises:
        UsageError: an invalid argument, with the values it can have.
    """
    only_qv = settings.get('qkv_bias') == QV_BIAS
    given = _given(VisionTransformer, owner, args, {**settings, **({'qkv_bias': False} if only_qv else {})})
    given['qkv_bias'] = QV_BIAS if only_qv else given['qkv_bias']
    arch = _arch(owner, given['arch'], VisionTransformer, ('num_layers', 'num_heads', 'feedforward_channels'))
    width = check_size(f'{owner}.arch.embed_dims', arch['embed_dims'])
    depth = check_count(f'{owner}.arch.num_layers', arch['num_layers'], 1, MOST_LAYERS)
    check_size(f'{owner}.arch.feedforward_channels', arch['feedforward_channels'])
    _heads(f'{owner}.arch', width, arch['num_heads'])
    _check_shared(owner, given, depth)
    check_one_of(f'{owner}.out_type', given['out_type'], VisionTransformer.OUT_TYPES)
    scale = given['layer_scale_init_value']
    given['layer_scale_init_value'] = check_number(f'{owner}.layer_scale_init_value', scale or 0.0, 0, 1e3)
    if not given['with_cls_token'] and given['out_type'] == 'cls_token':
        raise UsageError(f"{owner}.with_cls_token is False and out_type 'cls_token': give another out_type.")
    given['out_indices'] = _indices(owner, given['out_indices'], -depth, depth)
    _inner(owner, 'layer_cfgs', given['layer_cfgs'], depth)
    return given


def swin_arguments(owner: str, args: tuple, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Checks all arguments of a Swin and returns them by name, with defaults; see :func:`vit_arguments`."""
    given = _given(SwinTransformer, owner, args, settings)
    arch = _arch(owner, given['arch'], SwinTransformer, ('depths', 'num_heads'))
    width = check_size(f'{owner}.arch.embed_dims', arch['embed_dims'])
    depths = check_list(f'{owner}.arch.depths', arch['depths'], check_count, 0, MOST_LAYERS)
    heads = check_list(f'{owner}.arch.num_heads', arch['num_heads'], check_count, 1)
    if len(depths) != len(heads) or len(depths) > 8:
        raise UsageError(
            f'{owner}.arch has depths {arch["depths"]!r} and num_heads {arch["num_heads"]!r}: give both one number per '
            'stage, for at most 8 stages.'
        )
    for stage, count in enumerate(heads):
        _heads(f'{owner}.arch, stage {stage}', width * 2**stage, count)
    _check_shared(owner, given, len(depths))
    check_size(f'{owner}.window_size', given['window_size'], high=1024)
    given['out_indices'] = _indices(owner, given['out_indices'], 0, len(depths) - 1)
    _inner(owner, 'stage_cfgs', given['stage_cfgs'], len(depths))
    return given


def _given(backbone: type, owner: str, args: tuple, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument of mmpretrain's class by name, with defaults; checks the flags."""
    bound = inspect.signature(backbone).bind(*args, **settings)  # raises TypeError for unknown arguments
    bound.apply_defaults()
    for name in FLAGS:
        if name in bound.arguments:
            check_flag(f'{owner}.{name}', bound.arguments[name])
    return dict(bound.arguments)


def _arch(owner: str, arch: Any, backbone: Any, needed: tuple[str, ...]) -> Mapping[str, Any]:
    if isinstance(arch, str):
        return backbone.arch_zoo[check_one_of(f'{owner}.arch', arch.lower(), backbone.arch_zoo)]
    check_dict(f'{owner}.arch', arch)
    for name in ('embed_dims', *needed):
        if name not in arch:
            raise UsageError(f'{owner}.arch has no {name}: give a dict with embed_dims, {", ".join(needed)}.')
    return arch


def _heads(place: str, width: int, heads: Any) -> None:
    """Refuses a number of heads that does not divide the channels."""
    check_count(f'{place}.num_heads', heads, 1)
    if width % heads:
        fitting = [count for count in range(1, width + 1) if width % count == 0]
        near = sorted(fitting, key=lambda count: abs(count - heads))[:2]
        raise UsageError(
            f'{place}: num_heads={heads} does not divide the {width} channels: give {" or ".join(map(str, near))}.'
        )


def _check_shared(owner: str, given: Mapping[str, Any], depth: int) -> None:
    """Checks the arguments that ViT and Swin share; ``depth`` is the number of layers (ViT) or stages (Swin)."""
    sizes = {name: _pair(f'{owner}.{name}', given[name]) for name in ('img_size', 'patch_size')}
    for image, patch in zip(*sizes.values(), strict=True):
        if patch > image:
            raise UsageError(f'{owner}.patch_size is {patch}, larger than img_size {image}: give a smaller one.')
    check_size(f'{owner}.in_channels', given['in_channels'])
    for name in ('drop_rate', 'drop_path_rate'):
        check_number(f'{owner}.{name}', given[name], 0, below=1)
    check_count(f'{owner}.frozen_stages', given['frozen_stages'], -1, depth)
    check_one_of(f'{owner}.interpolate_mode', given['interpolate_mode'], MODES)
    check_dict(f'{owner}.norm_cfg', given['norm_cfg'])
    check_dict(f'{owner}.patch_cfg', given['patch_cfg'])


def _pair(name: str, value: Any) -> tuple[int, int]:
    """(height, width) in pixels, from a pair or a single number for both."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return check_size(f'{name}[0]', value[0], high=2**16), check_size(f'{name}[1]', value[1], high=2**16)
    side = check_size(name, value, high=2**16)
    return side, side


def _indices(owner: str, indices: Any, low: int, high: int) -> list[int]:
    if isinstance(indices, int):
        indices = [indices]
    return check_list(f'{owner}.out_indices', indices, check_count, low, high)


def _inner(owner: str, name: str, settings: Any, count: int) -> None:
    """Checks ``layer_cfgs`` or ``stage_cfgs``: one dict for all layers or stages, or one for each."""
    if isinstance(settings, Sequence) and not isinstance(settings, str):
        if len(settings) != count:
            raise UsageError(f'{owner}.{name} has {len(settings)} entries: give one dict, or {count} of them.')
        check_list(f'{owner}.{name}', settings, check_dict)
    else:
        check_dict(f'{owner}.{name}', settings)
