"""Schedules that are not logged, computed from the config: the teacher's momentum and temperature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mstkit.errors import UsageError
from mstkit.interop import registered
from mstkit.models.heads.centered_head import CenteredHead
from mstkit.models.momentum_teacher import DEFAULTS, MomentumTeacher
from mstkit.registry import MODELS
from mstkit.report.chart_scales import Point
from mstkit.report.run_configs import argument, part
from mstkit.structures import Progress

POINTS = 50  # of a smooth curve


def momentum_curve(config: Mapping[str, Any] | None, epochs: int | None, epoch_length: int | None) -> list[Point]:
    """The teacher's momentum over epochs; empty without a ``MomentumTeacher`` or if the length is unknown.

    Args:
        config: of the run.
        epochs: of the whole run.
        epoch_length: iterations per epoch.
    """
    component = part(config, 'model.teacher')
    if not epochs or not epoch_length or not _is(component, MomentumTeacher, 'MomentumTeacher'):
        return []
    names, others = ('momentum', 'end_momentum', 'schedule'), (*DEFAULTS, None)
    given = {name: argument(component, name, other) for name, other in zip(names, others, strict=True)}
    try:
        teacher = MomentumTeacher({}, **given)
    except UsageError:
        return []  # invalid values, which no run can have used
    steps = -(-epoch_length // (part(config, 'optim_wrapper.accumulative_counts') or 1))
    shares = [index / POINTS for index in range(POINTS + 1)]
    return [
        (epochs * share, teacher.momentum_at(Progress(round(epochs * steps * share), epochs * steps, steps)))
        for share in shares
    ]


def temperature_curve(config: Mapping[str, Any] | None, epochs: int | None) -> list[Point]:
    """The teacher's temperature in each epoch; empty if the config's head has none."""
    component = part(config, 'model.head')
    if not epochs or not _is(component, CenteredHead):
        return []
    names = ('teacher_temp', 'warmup_teacher_temp', 'warmup_teacher_temp_epochs', 'start_epoch')
    try:
        head = CenteredHead(out_dim=1, **{name: component[name] for name in names if name in component})
    except UsageError:
        return []
    return [(float(epoch), head.teacher_temp_at(epoch)) for epoch in range(epochs)]


def _is(component: Any, expected: type, default: str | None = None) -> bool:
    """Whether the class of a model's component is the expected one or a subclass."""
    if not isinstance(component, Mapping):
        return False
    cls = registered(str(component.get('type', default)), MODELS)  # does not import modules named by a config
    return isinstance(cls, type) and issubclass(cls, expected)
