"""Configs of the named methods' objectives, made from the flat arguments of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mstkit.models.targets import Target
from mstkit.utils.checks import check_number

# Module of an objective of DINO, iBOT and MST -> the argument that configures it; see Pretrainer.config_key.
FLAT_KEYS: Mapping[str, str] = {
    'objectives.ce.neck': 'neck',
    'objectives.ce.head': 'head',
    'objectives.patch.neck': 'patch_neck',
    'objectives.patch.head': 'patch_head',
    'objectives.restore.decoder': 'decoder',
}

# Likewise for MAE, SimMIM, MaskFeat, Data2Vec and DBOT.
PREDICTION_KEYS: Mapping[str, str] = {f'objectives.predict.{part}': part for part in ('target', 'decoder')}


def distillation_objectives(
    method: str,
    neck: dict | None,
    head: dict | None,
    loss_weight_ce: float,
    patch_head: dict | None = None,
    patch_neck: dict | None = None,
    loss_weight_patch: float = 1.0,
    decoder: dict | None = None,
    loss_weight_restore: float = 1.0,
) -> dict[str, dict[str, Any] | None]:
    """Configs of the objectives ``ce``, ``patch`` and ``restore``; the latter two are None without head or decoder.

    Args:
        method: name of the method, for messages.
        neck: of ``ce``; its type defaults to :class:`DINONeck`.
        head: of ``ce``; its type defaults to :class:`DINOHead`.
        loss_weight_ce: weight of ``ce``.
        patch_head: of ``patch``.
        patch_neck: of ``patch``; None shares that of ``ce``.
        loss_weight_patch: weight of ``patch``.
        decoder: of ``restore``.
        loss_weight_restore: weight of ``restore``.

    Raises:
        UsageError: an invalid weight.
    """
    weights = dict(
        loss_weight_ce=loss_weight_ce, loss_weight_patch=loss_weight_patch, loss_weight_restore=loss_weight_restore
    )
    for name, weight in weights.items():
        check_number(f'{method}.{name}', weight, 0, 1e6)
    cross_view: dict[str, Any] = dict(
        type='CrossView',
        neck={'type': 'DINONeck', **(neck or {})},
        head={'type': 'DINOHead', **(head or {})},
        weight=loss_weight_ce,
    )
    patch: dict[str, Any] = dict(type='PatchDistillation', neck=patch_neck, head=patch_head, weight=loss_weight_patch)
    restore: dict[str, Any] = dict(type='ImageRestoration', decoder=decoder, weight=loss_weight_restore)
    return dict(
        ce=cross_view,
        patch=None if patch_head is None else patch,
        restore=None if decoder is None else restore,
    )


def prediction_objective(
    method: str,
    target: dict | Target,
    decoder: dict | None,
    decoder_type: str,
    loss: str,
    loss_weight_predict: float,
    weighting: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The config of ``predict`` of MAE, SimMIM, MaskFeat, Data2Vec and DBOT.

    Args:
        method: name of the method, for messages.
        target: what is predicted.
        decoder: its type defaults to ``decoder_type``.
        decoder_type: the method's decoder.
        loss: see :class:`MaskedPrediction`.
        loss_weight_predict: weight of the loss.
        weighting: of the hidden patches by their scores, see :class:`MaskedPrediction`.

    Raises:
        UsageError: an invalid weight.
    """
    return dict(
        type='MaskedPrediction',
        target=target,
        decoder={'type': decoder_type, **(decoder or {})},
        loss=loss,
        weight=check_number(f'{method}.loss_weight_predict', loss_weight_predict, 0, 1e6),
        weighting=weighting,
    )


def with_defaults(defaults: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A part's config on top of the method's own, which is that of one type: another type starts from nothing."""
    given = given or {}
    other = given.get('type', defaults['type']) != defaults['type']
    return dict(given) if other else {**defaults, **given}
