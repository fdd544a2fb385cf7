"""Several CPU processes, by the same commands."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from mstkit.engine.parallel.distributed import init_processes, rank_zero_speaks
from mstkit.errors import UsageError
from tests import warm
from tests.programs import load_program

from . import running, toy
from .test_resume import ROOT


def test_two_processes_equal_one(tmp_path, free_port):
    """Half the batch on each of two processes: the same weights and teacher as one process."""
    # Adam turns the last bit of a gradient into far more than that; SGD does not.
    sgd = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.01)
    settings = dict(model__dropout=0.0, optim_wrapper__optimizer=sgd)
    running.train(tmp_path / 'one', **settings)
    config = toy.settings(train_dataloader__batch_size=2, **settings)
    config['custom_imports'] = dict(imports=['tests.engine.toy'])
    path = tmp_path / 'toy.py'
    path.write_text(''.join(f'{name} = {value!r}\n' for name, value in config.items()))
    result = subprocess.run(
        ['bash', ROOT / 'tools' / 'dist_train.sh', path, '2', '--work-dir', tmp_path / 'two'],
        cwd=ROOT,
        env={**os.environ, 'PYTHON': warm.python(), 'PORT': str(free_port), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    one, two = (torch.load(tmp_path / which / 'epoch_3.pth', weights_only=True) for which in ('one', 'two'))
    assert one['meta']['iter'] == two['meta']['iter'] == 12
    for name in ('body.0.weight', 'body.0.bias', 'last_layer.weight', 'teacher'):
        torch.testing.assert_close(one['state_dict'][name], two['state_dict'][name], rtol=1e-5, atol=1e-6)


def test_a_launcher_that_did_not_launch_is_named(monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    if torch.cuda.is_available():
        pytest.skip("on GPUs mmengine's own set-up runs")
    with pytest.raises(UsageError, match=r'--launcher pytorch was given, but .RANK. is not set'):
        init_processes('pytorch')
    with pytest.raises(UsageError, match="launcher is 'ssh': give 'none', 'pytorch', 'slurm' or 'mpi'"):
        init_processes('ssh')
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize('rank', ['0', '1'])
def test_rank_zero_speaks_first(monkeypatch, capsys, rank):
    waited: list[float] = []
    monkeypatch.setenv('RANK', rank)
    monkeypatch.setattr('mstkit.engine.parallel.distributed.time.sleep', waited.append)
    expected = UsageError if rank == '0' else SystemExit
    with pytest.raises(expected) as caught, rank_zero_speaks():
        raise UsageError('the mistake')
    if rank == '0':
        assert waited == []
    else:
        assert isinstance(caught.value, SystemExit)
        assert caught.value.code == 2
        assert len(waited) == 1
        assert capsys.readouterr().err == 'error on rank 1: the mistake\n'


def test_batch_norm_on_cpu_processes_is_said(tmp_path, monkeypatch):
    """And SyncBatchNorm, which needs a GPU, is left out."""
    runner = running.build(tmp_path, model__batch_norm=True)
    said: list[str] = []
    monkeypatch.setattr(runner.logger, 'warning', lambda message, *_: said.append(message))
    monkeypatch.setattr(type(runner), 'distributed', property(lambda self: True))
    monkeypatch.setattr(type(runner), 'world_size', property(lambda self: 2))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    seen: dict = {}

    def wrap(self, settings, model):
        seen.update(settings, sync_bn=self.cfg.get('sync_bn'))
        return model

    monkeypatch.setattr('mmengine.runner.Runner.wrap_model', wrap)
    runner.cfg.sync_bn = 'torch'
    runner.wrap_model(None, runner.model)
    assert (seen['device_ids'], seen['sync_bn'], runner.cfg.sync_bn) == (None, None, 'torch')
    assert len(said) == 1 and 'not synchronized over the 2 CPU processes' in said[0]


@pytest.mark.parametrize(
    ('code', 'said'),
    [
        (-9, 'rank 1 (process 77) was killed by SIGKILL, which the system does when memory runs out.'),
        (-11, 'rank 1 (process 77) was killed by SIGSEGV.'),
        (1, 'rank 1 (process 77) ended with exit code 1: its error is above, marked [rank1].'),
    ],
)
def test_the_rank_that_went_first_is_named(monkeypatch, capsys, code, said):
    torchrun = load_program('tools/torchrun.py')
    first = ProcessFailure(local_rank=1, pid=77, exitcode=code, error_file='')
    second = ProcessFailure(local_rank=0, pid=78, exitcode=-15, error_file='')
    first.timestamp, second.timestamp = 1, 2

    def fails(_) -> None:
        raise ChildFailedError('train.py', {0: second, 1: first})

    monkeypatch.setattr(torchrun, 'run', fails)
    monkeypatch.setattr(sys, 'argv', ['torchrun.py', '2', 'train.py'])
    with pytest.raises(SystemExit) as caught:
        torchrun.main()
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and said in error and 'The other ranks cannot continue' in error
