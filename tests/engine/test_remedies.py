"""The advice to a training that diverged works exactly as it is given."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mstkit.engine.hooks.non_finite_hook import NonFiniteLossError
from mstkit.engine.launch.command_line import config_from
from mstkit.engine.launch.launch import build_runner
from tests.programs import load_program

from . import running, toy
from .test_resume_changes import Rates


class Diverge(Hook):
    """Spoils the weights before an iteration."""

    priority = 'HIGHEST'

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == self.iteration:
            runner.model.body[0].weight.data.fill_(float('nan'))


def settings(warm_up: int) -> dict:
    changes = toy.settings(train_cfg__max_epochs=6)
    changes['param_scheduler'][0]['end'] = changes['param_scheduler'][1]['begin'] = warm_up
    changes['param_scheduler'][1]['end'] = 6
    changes['custom_hooks'].append(dict(type='NonFiniteLossHook'))
    return changes


def file_of(folder: Path, config: dict) -> Path:
    path = folder / 'toy.py'
    path.write_text(''.join(f'{name} = {value!r}\n' for name, value in config.items()))
    return path


def diverged(folder: Path, config: dict, iteration: int) -> str:
    runner = running.build(folder, **config)
    runner.register_hook(Diverge(iteration))
    with pytest.raises(NonFiniteLossError) as error:
        runner.train()
    return str(error.value)


def options_in(message: str) -> list[str]:
    """What stands in brackets: the words for the command line."""
    return re.findall(r'\((--[^()]*?)(?:, half of the present one)?\)', message)


def build(config: Path, folder: Path, words: str, monkeypatch):
    train = load_program('tools/train.py')
    monkeypatch.setattr(sys, 'argv', ['train.py', str(config), '--work-dir', str(folder), *shlex.split(words)])
    args = train.parse_args()
    return build_runner(config_from(args, resume=args.resume, accept_changes=args.accept_changes))


def used(runner) -> list[float]:
    hook = Rates()
    runner.register_hook(hook)
    runner.train()
    return [groups[0][0] for groups in hook.seen]


def test_going_on_from_the_last_checkpoint(tmp_path, monkeypatch):
    """Each way is what the message calls it, from the very next step."""
    config = settings(warm_up=2)
    message = diverged(tmp_path / 'run', config, iteration=6)
    assert f'The last good checkpoint is {tmp_path / "run" / "epoch_1.pth"}. What helps: go on from it' in message
    assert options_in(message) == [
        '--resume --cfg-options optim_wrapper.optimizer.lr=0.025',
        '--resume --accept-changes --cfg-options param_scheduler.0.end=4 param_scheduler.1.begin=4',
        '--resume --cfg-options optim_wrapper.clip_norm=1.5',
    ]
    file = file_of(tmp_path, config)
    before = used(build(file, tmp_path / 'whole', '', monkeypatch))
    halved, longer, clipped = options_in(message)
    saved = {path.name: path.read_bytes() for path in (tmp_path / 'run').glob('*.pth')}

    def go_on(words: str):
        folder = tmp_path / f'again{len(list(tmp_path.iterdir()))}'
        folder.mkdir()
        for name, content in saved.items():
            (folder / name).write_bytes(content)
        return build(file, folder, words, monkeypatch)

    assert used(go_on('--resume')) == before[4:]
    rates = used(go_on(halved))
    assert rates[:4] == pytest.approx([rate / 2 for rate in before[4:8]]) and len(rates) == 20
    assert (
        used(go_on(longer))
        == used(build(file, tmp_path / 'long', longer.replace('--resume --accept-changes', ''), monkeypatch))[4:]
    )
    assert go_on(clipped).train() is not None


def test_after_the_warm_up_a_longer_one_is_no_remedy(tmp_path):
    message = diverged(tmp_path, settings(warm_up=1), iteration=13)
    assert 'warm-up' not in message and 'fp16' not in message


def test_without_a_checkpoint_the_run_starts_again(tmp_path, monkeypatch):
    config = settings(warm_up=2)
    message = diverged(tmp_path / 'run', config, iteration=2)
    assert 'No checkpoint had been written yet. What helps: start again, with the same command' in message
    assert 'resume' not in message and 'accept' not in message and 'that checkpoint' not in message
    halved = options_in(message)[0]
    assert halved == '--cfg-options optim_wrapper.optimizer.lr=0.025'
    runner = build(file_of(tmp_path, config), tmp_path / 'run', halved, monkeypatch)
    assert len(used(runner)) == 24 and (tmp_path / 'run' / 'epoch_6.pth').exists()


def test_fp16_is_named_where_it_is_used(tmp_path):
    from mstkit.engine.hooks.divergence_advice import what_helps

    runner = running.build(tmp_path, optim_wrapper__precision='fp32')
    assert 'fp16' not in what_helps(runner)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.optim_wrapper.cast_dtype = torch.float16  # which is chosen on a GPU only
    assert '(--cfg-options optim_wrapper.precision=fp32)' in what_helps(runner)
