"""What docs/en/how_a_step_goes.md leads through is what a step runs through."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

import torch

from mstkit import models
from mstkit.models import heads
from mstkit.registry import MODELS
from mstkit.structures import Progress

from ..models.builders import mst
from .pages import ROOT, spans

PAGE = ROOT / 'docs' / 'en' / 'how_a_step_goes.md'


def called_by(*parts: Callable[[], object]) -> set[CodeType]:
    """Every function of mstkit that runs meanwhile."""
    seen: set[CodeType] = set()

    def note(frame: Any, event: str, argument: object) -> None:
        if event == 'call' and frame.f_code.co_filename.startswith(f'{ROOT}/mstkit/'):
            seen.add(frame.f_code)

    before = sys.getprofile()
    for part in parts:
        sys.setprofile(note)
        try:
            part()
        finally:
            sys.setprofile(before)
    return seen


def code_of(method: str) -> CodeType:
    """Of 'Class.method', as the class has it."""
    owner, name = method.split('.')
    cls = MODELS.get(owner) or next(vars(room)[owner] for room in (models, heads) if owner in vars(room))
    return inspect.unwrap(getattr(cls, name)).__code__


def test_a_step_runs_through_every_file_and_function_of_the_page():
    model = mst('swin')
    views = [torch.randn(2, 3, size, size) for size in (224, 224, 96)]
    seen = called_by(
        lambda: model.set_progress(Progress(3, 10, 5, rank_seed=1, iteration=3)),
        lambda: model.loss(views),
        model.after_step,
    )
    files = {code.co_filename.removeprefix(f'{ROOT}/') for code in seen}
    named = spans(PAGE)
    modules = {name for name in named if re.fullmatch(r'mstkit/[\w/]+\.py', name)}
    assert modules - {'mstkit/models/algorithms/mst.py'} <= files  # which assembles the parts, before the step
    methods = {name for name in named if re.fullmatch(r'[A-Z]\w+\.[a-z]\w*', name)}
    assert [method for method in methods if code_of(method) not in seen] == []
    assert len(modules) >= 15 and len(methods) >= 15
    losses = {name for name in named if name.startswith('loss_')}
    assert losses == {f'loss_{name}' for name in model.objectives}
