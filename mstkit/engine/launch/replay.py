"""Repeats the steps of a run that stopped with numbers that are not finite, and says where they came from."""

from __future__ import annotations

import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mstkit.engine.checkpoints.non_finite_file import FORMAT, KEYS
from mstkit.engine.hooks.step_dissection import FoundIt, NotFound, StepDissection
from mstkit.engine.launch.launch import build_runner, set_environment
from mstkit.engine.parallel.distributed import process_count
from mstkit.errors import UsageError
from mstkit.interop.literal_config import parse_config_text

UNUSED_HOOKS = ('checkpoint', 'non_finite', 'knn', 'panels', 'logger')


def read_record(file: str | Path) -> dict[str, Any]:
    """The content of the file that a run leaves when it stops because of numbers that are not finite.

    Raises:
        UsageError: another file, or one of another version.
    """
    try:
        found = json.loads(Path(file).read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UsageError(f'{file} cannot be read as the record of a run that diverged: {error}') from error
    if not isinstance(found, dict) or found.get('format') != FORMAT or not found.keys() >= KEYS:
        raise UsageError(f'{file} is no record of a run that diverged: give the non_finite.json of its work dir.')
    return found


def replay(file: str | Path, launcher: str = 'none') -> str:
    """Repeats a run from its last good checkpoint, or from its start, to the step in which it was noticed.

    Nothing is written. The steps are those of the run, to the bit, where the machine, the number of threads and the
    images are the same.

    Args:
        file: ``non_finite.json`` in the work dir of the run.
        launcher: the program that started the processes.

    Returns:
        What was found, in several lines.

    Raises:
        UsageError: no such file, its checkpoint is gone, or another number of processes.
    """
    record = read_record(file)
    if process_count(launcher) != record['processes']:
        raise UsageError(
            f'{file} is of a run with {record["processes"]} processes, whose steps {process_count(launcher)} cannot '
            f'repeat: mstkit torchrun {record["processes"]} replay {file}'
        )
    checkpoint = record['checkpoint']
    if checkpoint is not None and not Path(checkpoint).exists():
        beside = Path(file).parent / Path(checkpoint).name  # the folder was moved
        if not beside.exists():
            raise UsageError(f'{checkpoint}, from which the steps are repeated, is gone.')
        checkpoint = str(beside)
    with tempfile.TemporaryDirectory() as folder:
        config = _config_of(record, checkpoint, folder, launcher)
        runner = build_runner(config)
        dissection = StepDissection(record['iteration'])
        runner.register_hook(dissection)
        start = f'from {checkpoint}' if checkpoint else 'from the start of the run'
        try:
            runner.train()
        except FoundIt as found:
            return f'{start}: {found}'
        except NotFound:
            pass
        finally:
            dissection.release()
    return (
        f'{start}: all numbers are finite up to iteration {record["iteration"]}, where the run had {record["reason"]}. '
        'So it was not the step as it is repeated here: a fault of the machine, other images, another number of '
        'threads, or operators that do not give the same result each time.'
    )


def _config_of(record: dict[str, Any], checkpoint: str | None, folder: str, launcher: str) -> Config:
    settings = dict(parse_config_text(record['config']))
    hooks = dict(settings.get('default_hooks') or {})
    hooks.update(dict.fromkeys(name for name in UNUSED_HOOKS if name in hooks or name in ('checkpoint', 'non_finite')))
    settings.update(
        default_hooks=hooks,
        work_dir=folder,
        experiment_name=f'replay_{uuid.uuid4().hex}',  # not the run's, whose record it would share
        launcher=launcher,
        resume=checkpoint is not None,
        load_from=checkpoint or settings.get('load_from'),
        accept_changes=True,  # the hooks
        log_level='CRITICAL',
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None,
        randomness={**(settings.get('randomness') or {}), 'seed': record['seed']},
    )
    config = Config(settings)
    set_environment(config)
    return config
