"""Arguments of every registered component, generated: one line that names them, or a finite step."""

from __future__ import annotations

import math
import os
from pathlib import Path

from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from mstkit import datasets, engine, evaluation, models, visualization  # noqa: F401  registers every component
from tests.chaos.outcomes import Outcome, timed
from tests.components import ALL, make_files, small_defaults
from tests.generated_values import fault_with


def vary(images: Path, folder: Path, count: int, seed: int) -> Outcome:
    """Tries at least so many sets of arguments, equally many of each component.

    Args:
        images: not used; files of its own are read.
        folder: to work in.
        count: how many.
        seed: of the values.
    """
    here = folder / 'arguments'
    make_files(here)
    DefaultScope.get_instance('chaos', scope_name='mstkit')
    MMLogger.get_current_instance().setLevel('ERROR')  # a paragraph for every initialized tensor
    each = math.ceil(count / len(ALL))
    os.chdir(here)
    with timed(Outcome('arguments')) as outcome, small_defaults():
        for name in ALL:
            tried, fault = fault_with(name, each, seed)
            outcome.count(fault, tried)
            print(f'  {name}: {tried} tried', flush=True)
        outcome.facts['components'] = len(ALL)
    return outcome
