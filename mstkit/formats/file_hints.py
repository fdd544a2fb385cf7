"""What config.json, preprocessor_config.json or mstkit's own notes say of an encoder beside its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mstkit.errors import UsageError
from mstkit.formats.anatomy import Size
from mstkit.formats.inference import Hints
from mstkit.formats.weight_file import WeightFile
from mstkit.interop.literal_config import parse_config_text
from mstkit.interop.vit_settings import rotary_base_of
from mstkit.utils.config_parts import hook_configs

ACTIVATIONS = ('gelu',)


def hints_of(file: WeightFile) -> Hints:
    """The hints in what is beside the tensors.

    Raises:
        UsageError: another activation than GELU, which is the only one of mstkit's networks.
    """
    own = _of_own_config(file.meta)
    settings = file.settings
    if 'architecture' in settings:
        return own.or_else(_of_timm(settings))
    if 'model_type' in settings:
        return own.or_else(_of_hugging_face(settings, file.preprocessing))
    return own


def _of_hugging_face(settings: Mapping[str, Any], preprocessing: Mapping[str, Any]) -> Hints:
    activation = settings.get('hidden_act', 'gelu')
    if activation not in ACTIVATIONS and not settings.get('use_swiglu_ffn'):
        raise UsageError(f'its activation is {activation!r}; the networks of mstkit have GELU')
    heads = settings.get('num_attention_heads')
    pool = 'avg' if settings.get('model_type') == 'vit_mae' else None
    mean, std = (preprocessing.get(f'image_{name}') for name in ('mean', 'std'))
    size = preprocessing.get('size') or {}
    resize = size.get('shortest_edge') if isinstance(size, Mapping) and preprocessing.get('do_center_crop') else None
    return Hints(
        heads=heads if isinstance(heads, int) else None,
        image=_size(settings.get('image_size')),
        eps=settings.get('layer_norm_eps'),
        pool=pool,
        rotary=settings.get('rope_theta') if settings.get('model_type') == 'dinov3_vit' else None,
        mean=_scaled(mean),
        std=_scaled(std),
        resize=resize,
    )


def _of_timm(settings: Mapping[str, Any]) -> Hints:
    # imported here: only a folder of timm's needs it, and it takes a second
    import timm

    name, arguments = settings['architecture'], settings.get('model_args') or {}
    if not timm.is_model(name):
        raise UsageError(f'config.json names the architecture {name!r}, which timm does not have')
    try:
        model: Any = timm.create_model(name, pretrained=False, num_classes=0, **arguments)
    except Exception as error:  # timm's functions raise all kinds of errors
        raise UsageError(f'timm cannot build {name!r} with the model_args of config.json: {error}') from error
    blocks = getattr(model, 'blocks', None)  # timm has no common class: a ViT has them, of a Swin the tables tell
    cfg = {**dict(model.pretrained_cfg), **(settings.get('pretrained_cfg') or {})}
    side = _size(getattr(getattr(model, 'patch_embed', None), 'img_size', None))  # likewise
    crop = cfg.get('crop_pct')
    return Hints(
        heads=None if blocks is None else int(blocks[0].attn.num_heads),
        image=side,
        eps=getattr(model.norm, 'eps', None),  # an Identity, which has none, where a norm comes after pooling
        pool=getattr(model, 'global_pool', None),  # likewise
        mean=_scaled(cfg.get('mean')),
        std=_scaled(cfg.get('std')),
        resize=None if side is None or not crop else int(side[0] / crop + 1e-6),  # as timm rounds; 32 / (32 / 37) < 37
    )


def _of_own_config(meta: Mapping[str, Any]) -> Hints:
    """Of the config that mstkit and mmpretrain keep in a checkpoint."""
    text = meta.get('cfg')
    if not isinstance(text, str):
        return Hints()
    try:
        config = parse_config_text(text)
        backbone, model = dict(config['model']['backbone']), config['model']
    except (UsageError, KeyError, TypeError, ValueError):
        return Hints()
    prepared = model.get('data_preprocessor') or config.get('data_preprocessor') or {}
    norm = backbone.get('norm_cfg') or {}
    arch = backbone.get('arch')
    heads = arch.get('num_heads') if isinstance(arch, Mapping) else None
    return Hints(
        heads=heads if isinstance(heads, int) else None,
        image=_size(backbone.get('img_size')),
        eps=norm.get('eps'),
        pool=backbone.get('global_pool'),
        offset=backbone.get('interpolate_offset'),
        rotary=rotary_base_of(backbone),
        mean=tuple(prepared['mean']) if prepared.get('mean') else None,
        std=tuple(prepared['std']) if prepared.get('std') else None,
        resize=_resize(config),
    )


def _resize(config: Any) -> int | None:
    for _, hook in hook_configs(config):
        for step in (hook.get('val_dataset') or {}).get('pipeline') or []:
            if step.get('type') == 'CenterView':
                return step.get('resize')
    return None


def _size(value: Any) -> Size | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(side, int) for side in value):
        return value[0], value[1]
    return None


def _scaled(values: Any) -> tuple[float, ...] | None:
    """Mean or standard deviation on the scale 0..1, on that of 0..255."""
    if not isinstance(values, list | tuple) or len(values) != 3:
        return None
    return tuple(255 * float(value) for value in values)
