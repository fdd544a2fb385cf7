"""A suite of evaluations by name with their settings, which are checked before any evaluation runs."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from mmengine.logging import print_log

from mstkit.errors import UsageError, nearest
from mstkit.evaluation.evaluated_network import EvaluatedNetwork
from mstkit.evaluation.image_hits import JudgesImages, Judgment
from mstkit.registry import EVALUATORS


class Evaluator(Protocol):
    """Interface of the classes in :data:`mstkit.registry.EVALUATORS`; see :mod:`mstkit.evaluation.evaluators`."""

    def check(self, evaluated: EvaluatedNetwork) -> None:
        """Raises UsageError if the network or its images do not allow this evaluation."""

    def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
        """Runs the evaluation and returns its metrics by name."""


@runtime_checkable
class HasHeadlines(Protocol):
    """An evaluation that names its main metrics; of any other evaluation it is the first metric."""

    def headlines(self) -> list[str]:
        """Names among those of the metrics."""


@dataclass
class SuiteResult:
    """The results of all evaluations of one network.

    Attributes:
        name: of the network.
        source, branch: the checkpoint or model name, and the branch; the branch is empty if there is only one.
        fingerprint: of its weights.
        train, val: the folders of images.
        seed: of all random choices.
        settings: non-default settings by evaluation and name.
        metrics: numbers by evaluation and name.
        headlines: the names of the main metrics by evaluation.
        failed: error messages by evaluation.
        date: when the suite began, in ISO format.
    """

    name: str
    source: str
    branch: str
    fingerprint: str
    train: str
    val: str
    seed: int
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    headlines: dict[str, list[str]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    date: str = field(default_factory=lambda: datetime.now().astimezone().isoformat(timespec='seconds'))

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON data."""
        return asdict(self)


def known_evaluations() -> list[str]:
    """The names of all evaluations."""
    return sorted(EVALUATORS.module_dict)


def build_suite(names: Sequence[str], settings: Mapping[str, Any] | None = None) -> dict[str, Evaluator]:
    """Builds evaluations.

    Args:
        names: of the evaluations, in the order in which they will run.
        settings: values by ``evaluation.setting``, such as ``{'knn.ks': [10, 20]}``.

    Returns:
        The evaluations by name.

    Raises:
        UsageError: an evaluation or a setting is unknown, or a value is refused.
    """
    known = known_evaluations()
    if not names:
        raise UsageError(f'no evaluation was named; there are {", ".join(known)}.')
    for name in names:
        if name not in known:
            raise UsageError(
                f'there is no evaluation {name!r}, only {", ".join(known)}.{nearest(name, known)} Your own '
                'evaluations have to be imported first.'
            )
    given = settings_by_evaluation(settings or {})
    for name in given:
        if name not in names:
            raise UsageError(
                f'{name}.{next(iter(given[name]))} is set, but the suite has no evaluation {name!r}, only '
                f'{", ".join(names)}.{nearest(name, names)}'
            )
    return {name: _build(name, given.get(name, {})) for name in dict.fromkeys(names)}


def settings_by_evaluation(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Turns ``{'knn.ks': [10]}`` into ``{'knn': {'ks': [10]}}``; raises UsageError for a name without a dot."""
    found: dict[str, dict[str, Any]] = {}
    for path, value in settings.items():
        name, dot, setting = path.partition('.')
        if not (name and dot and setting):
            raise UsageError(f'{path!r} names no setting: give evaluation.setting=value, such as knn.ks=10,20.')
        found.setdefault(name, {})[setting] = value
    return found


def _build(name: str, settings: dict[str, Any]) -> Evaluator:
    kind: Any = EVALUATORS.module_dict[name]
    known = [setting for setting in inspect.signature(kind).parameters]
    for setting in settings:
        if setting not in known:
            raise UsageError(
                f'{name} has no setting {setting!r}, only {", ".join(known) or "none"}.{nearest(setting, known)}'
            )
    try:
        return kind(**settings)
    except UsageError:
        raise
    except (TypeError, ValueError) as error:
        given = ', '.join(f'{name}.{setting}={value!r}' for setting, value in settings.items())
        raise UsageError(f'{given or name}: {error}.') from error


def run_suite(
    suite: Mapping[str, Evaluator],
    evaluated: EvaluatedNetwork,
    result: SuiteResult,
    after_each: Callable[[SuiteResult], object] | None = None,
    on_hits: Callable[[str, Judgment], object] | None = None,
) -> SuiteResult:
    """Runs each evaluation on one network; if one fails, its error is recorded and the others still run.

    Args:
        suite: from :func:`build_suite`, already checked with ``check(evaluated)``.
        evaluated: the network and its images.
        result: filled in place.
        after_each: called with ``result`` after each evaluation.
        on_hits: called with the name of each evaluation that says which val images are right, and what it says.

    Returns:
        ``result``.
    """
    for name, evaluator in suite.items():
        try:
            if on_hits is not None and isinstance(evaluator, JudgesImages):
                judgment = evaluator.judge(evaluated)
                found = judgment.metrics
                on_hits(name, judgment)
            else:
                found = evaluator(evaluated)
            metrics = {key: float(value) for key, value in found.items()}
            if not metrics:
                raise ValueError('it returned no metrics')
            headlines = evaluator.headlines() if isinstance(evaluator, HasHeadlines) else [next(iter(metrics))]
            result.headlines[name] = list(headlines)
            result.metrics[name] = metrics
        except Exception as error:
            trace = '' if isinstance(error, UsageError) else f'\n{traceback.format_exc()}'
            result.failed[name] = str(error) if isinstance(error, UsageError) else f'{type(error).__name__}: {error}'
            print_log(f'{name} of {result.name} failed: {result.failed[name]}{trace}', logger='current', level=40)
        if after_each is not None:
            after_each(result)
    return result
