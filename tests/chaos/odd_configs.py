"""Odd values anywhere in a config: the training answers in one line, or it trains."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mstkit.engine.launch.launch import read_config
from tests.chaos.forked_runs import ForkedRun
from tests.chaos.outcomes import Outcome, timed
from tests.chaos.small_runs import RUNS, SmallRun, broken_files
from tests.programs import ROOT

# As they are written on a command line.
VALUES = ('-1', '0', '1', '3', '0.5', '-0.5', '1e30', 'nan', 'inf', 'True', 'None', 'text', '[]', '[1,2]', '(0.9,0.1)')
ANSWERED = (2, 3)  # exit status
LONGEST = 60.0  # seconds: what trains longer trains
# What the small trainings set, so that they are small, and where files lie.
KEPT = ('data_root', 'work_dir', 'num_workers', 'arch', 'img_size')


def leaves(node: Any, path: str = '') -> Iterator[str]:
    """The places of a config's values, as ``--cfg-options`` names them, lists and their entries among them."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if isinstance(key, str) and key not in KEPT and not key.startswith('_'):
                yield from leaves(value, f'{path}.{key}' if path else key)
    elif path:
        yield path
        if isinstance(node, list):
            for index, value in enumerate(node):
                yield from leaves(value, f'{path}.{index}')


def vary_configs(images: Path, folder: Path, count: int, seed: int = 0, runs: Sequence[SmallRun] = RUNS[:3]) -> Outcome:
    """Trains with one value of the config replaced, every place of all configs equally likely.

    The training has to end with 2 or 3 and a last line that begins with ``error:``, without a traceback, or with 0, or
    to be still at work after a minute; every file has to be whole.

    Args:
        images: of the trainings.
        folder: for their work dirs.
        count: of trainings.
        seed: of places and values.
        runs: the kinds of trainings.
    """
    outcome = Outcome('configs', facts=dict(trained=0, refused=0))
    dice = random.Random(seed)
    places = []
    for run in runs:
        config = read_config(str(ROOT / 'configs' / run.config)).to_dict()
        places += [(run, leaf) for leaf in leaves(json.loads(json.dumps(config, default=str)))]
    with timed(outcome):
        for number in range(count):
            (run, leaf), value = dice.choice(places), dice.choice(VALUES)
            place = folder / f'{number:03d}'
            place.mkdir()
            training = ForkedRun([*run.words(images, place / 'run'), f'{leaf}={value}'], place / 'log')
            ended = training.wait(LONGEST)
            training.kill()
            said, code = training.said(), training.codes[0]
            outcome.facts['trained'] += code == 0 or not ended
            outcome.facts['refused'] += code == 2
            last = (said.strip().splitlines() or [''])[-1]
            fault = None
            if ended and code and (code not in ANSWERED or not last.startswith('error:') or 'Traceback' in said):
                fault = f'ended with {code}: {said[-700:]}'
            elif broken := (broken_files(place / 'run') if (place / 'run').exists() else []):
                fault = f'not whole: {", ".join(broken)}'
            print(f'  {run.name}, {leaf}={value}: {code if ended else "at work"}, {last[:150]}', flush=True)
            outcome.count(fault and f'{run.name}, {leaf}={value} ({place}): {fault}')
    return outcome
