"""Numbers that are not finite, and settings at their ends: a run stops within a step, or stays finite."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from PIL import Image
from torch import Tensor

from mstkit.engine.runner import mst_runner
from tests.chaos.forked_runs import ForkedRun
from tests.chaos.outcomes import Outcome, timed
from tests.chaos.small_runs import RUNS, broken_files

MISTAKE, STOPPED = 2, 3  # exit status
ITERATIONS = 36  # of a run


class Inject(Hook):
    """Puts a number into a part of the model in one iteration.

    Args:
        where: ``'weight'``, ``'gradient'`` or ``'images'``, after their normalization.
        number: that is put there.
        iteration: counted from 1.
        seed: of the place.
    """

    priority = 'HIGHEST'

    def __init__(self, where: str, number: float, iteration: int, seed: int) -> None:
        self.where, self.number, self.iteration, self.dice = where, number, iteration, random.Random(seed)

    def before_train(self, runner: Any) -> None:
        """Watches the preprocessor or a parameter."""
        self.due = False
        parameters = [one for one in runner.model.parameters() if one.requires_grad]
        self.victim = self.dice.choice(parameters)
        if self.where == 'gradient':
            self.victim.register_hook(lambda gradient: self._spoiled(gradient) if self.due else gradient)
        elif self.where == 'images':
            runner.model.data_preprocessor.register_forward_hook(self._spoil_images)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Puts it into a weight, or says that the others are due."""
        self.due = runner.iter + 1 == self.iteration
        if self.due and self.where == 'weight':
            with torch.no_grad():
                self.victim.copy_(self._spoiled(self.victim))

    def _spoiled(self, values: Tensor) -> Tensor:
        values = values.clone()
        values.view(-1)[self.dice.randrange(values.numel())] = self.number
        return values

    def _spoil_images(self, module: Any, inputs: Any, output: dict[str, Any]) -> None:
        if self.due:
            views = output['inputs']
            views[0] = self._spoiled(views[0])


def prepared(inject: Inject) -> Callable[[], None]:
    """A function that gives the hook to whatever run follows in this process, without its config."""
    guard = mst_runner.guard_training

    def with_it(*given: Any) -> tuple[dict[str, Any], list[Any]]:
        named, others = guard(*given)
        return named, [*others, inject]

    def prepare() -> None:
        setattr(mst_runner, 'guard_training', with_it)  # noqa: B010  (mypy takes it for a function of one kind)

    return prepare


# Of any method: settings that may be refused, but must not end in a traceback or in numbers that are not finite.
ENDS: dict[str, tuple[str, ...]] = {
    'constant images': (),
    'batch of one': ('train_dataloader.batch_size=1',),
    'learning rate 1e6': ('optim_wrapper.optimizer.lr=1e6', 'optim_wrapper.clip_norm=None'),
    'fp16': ('optim_wrapper.precision=fp16',),
}
OF_MASKS = {'all hidden': ('model.masker.ratio=1.0',), 'none hidden': ('model.masker.ratio=0.0',)}
OF_PROTOTYPES = {'more prototypes than images': ('model.neck.out_dim=4096',)}


def inject(images: Path, folder: Path, count: int, seed: int = 0) -> Outcome:
    """Runs trainings with a number that is not finite somewhere, in turns with settings at their ends.

    The first have to end with 3, at the latest one step after, with the last checkpoint named, all checkpoints finite
    and a ``non_finite.json``. The others may end with 0 or 3 and finite checkpoints, or with 2.

    Args:
        images: of the trainings.
        folder: for their work dirs.
        count: of trainings.
        seed: of the places and the moments.
    """
    outcome = Outcome('numbers', facts=dict(injected=0, noticed_in_that_step=0, noticed_a_step_later=0, refused=0))
    dice = random.Random(seed)
    constant = folder / 'constant'
    shutil.copytree(images, constant)
    for file in constant.rglob('*.png'):
        Image.new('RGB', (48, 48), (90, 90, 90)).save(file)
    with timed(outcome):
        for number in range(count):
            run = RUNS[number // 2 % 3]  # each kind with both
            place = folder / f'{number:03d}'
            place.mkdir()
            if number % 2 == 0:
                where, value = dice.choice(('weight', 'gradient', 'images')), dice.choice((float('nan'), float('inf')))
                iteration = dice.randint(1, ITERATIONS)
                hook = Inject(where, value, iteration, seed + number)
                training = ForkedRun(run.words(images, place / 'run'), place / 'log', prepare=prepared(hook))
                hangs = not training.wait()
                name = f'{value} in the {where} of iteration {iteration}'
                fault = _noticed(training, place, iteration, outcome)
            else:
                ends = {**ENDS, **(OF_MASKS if run.name == 'MAE' else OF_PROTOTYPES if run.name == 'MST' else {})}
                name = dice.choice(sorted(ends))
                chosen = constant if name == 'constant images' else images
                training = ForkedRun([*run.words(chosen, place / 'run'), *ends[name]], place / 'log')
                hangs = not training.wait()
                fault = _legal(training, place, outcome)
            training.kill()
            fault = 'it hangs' if hangs else fault
            outcome.count(fault and f'{run.name}, {name} ({place}): {fault}')
    return outcome


def _noticed(training: ForkedRun, place: Path, iteration: int, outcome: Outcome) -> str | None:
    outcome.facts['injected'] += 1
    said = training.said()
    if 'Traceback' in said or training.codes.get(0) != STOPPED:
        return f'ended with {training.codes}: {said[-500:]}'
    if fault := _spoiled_files(place / 'run'):
        return fault
    found = re.search(r'no longer finite.*?at iteration (\d+)', said)
    if found is None:
        return f'no word of it: {said[-500:]}'
    late = int(found[1]) - iteration
    if late not in (0, 1) and iteration < ITERATIONS:
        return f'noticed at iteration {found[1]}: {said[-500:]}'
    outcome.facts['noticed_a_step_later' if late else 'noticed_in_that_step'] += 1
    last, record = place / 'run' / 'last_checkpoint', place / 'run' / 'non_finite.json'
    if last.exists() and last.read_text() not in said:
        return f'it does not name {last.read_text()}: {said[-500:]}'
    if not record.exists() or json.loads(record.read_text())['iteration'] != int(found[1]):
        return f'{record} is missing or of another iteration'
    return None


def _legal(training: ForkedRun, place: Path, outcome: Outcome) -> str | None:
    said, code = training.said(), training.codes.get(0)
    outcome.facts['refused'] += code == MISTAKE
    if 'Traceback' in said or code not in (0, MISTAKE, STOPPED):
        return f'ended with {training.codes}: {said[-500:]}'
    return _spoiled_files(place / 'run')


def _spoiled_files(work_dir: Path) -> str | None:
    """Files that are not whole, and checkpoints with numbers that are not finite."""
    if broken := broken_files(work_dir):
        return f'not whole: {", ".join(broken)}'
    for file in work_dir.glob('*.pth'):
        weights = torch.load(file, weights_only=True)['state_dict']
        for name, value in weights.items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                return f'{name} in {file.name} is not finite'
    return None
