"""A mistake gets one sentence that names it, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from mstkit.engine.config.data_root import check_data_roots, set_data_root
from mstkit.engine.launch.launch import build_runner, load_config
from mstkit.errors import UsageError
from mstkit.registry import MODELS
from mstkit.utils.build_errors import build_guard, check_registered
from tests import warm
from tests.programs import ROOT, run_program

from . import running, toy
from .test_resume import toy_config


def written(folder: Path, **changes) -> Path:
    path = folder / 'config.py'
    path.write_text(''.join(f'{name} = {value!r}\n' for name, value in toy.settings(**changes).items()))
    return path


@pytest.mark.parametrize(
    'options, message',
    [
        ({'model.type': 'ToyDistillr'}, "no model called 'ToyDistillr'. Did you mean ToyDistiller"),
        ({'model.widht': 3}, "ToyDistiller has no argument 'widht'. Did you mean width.*It takes: width, dropout"),
        ({'optim_wrapper.clip_norms': 3}, "DistillationOptimWrapper has no argument 'clip_norms'. Did you mean clip_n"),
        ({'optim_wrapper.optimizer.type': 'AdmaW'}, "no optimizer called 'AdmaW'. Did you mean .*AdamW"),
        ({'optim_wrapper.type': 'DistilationOptimWrapper'}, 'DistillationOptimWrapper'),
        ({'optim_wrapper.precision': 'fp8'}, 'fp8'),
        ({'param_scheduler.0.type': 'LinearRL'}, 'LinearLR'),
        ({'train_dataloader.dataset.type': 'ToyVector'}, "no dataset called 'ToyVector'. Did you mean ToyVectors"),
        ({'train_dataloader.sampler.type': 'EpochSamplr'}, 'EpochSampler'),
        ({'train_dataloader.batchsize': 8}, 'batchsize'),
        ({'train_dataloader.batch_size': 32}, r'16 images, fewer than one batch of 32.*batch_size=16'),
        ({'custom_hooks.0.type': 'ProgresHook'}, "no hook called 'ProgresHook'. Did you mean ProgressHook"),
        ({'custom_hooks.0.type': 'NonFiniteLossHook'}, 'ProgressHook'),
        ({'default_hooks.chekpoint.interval': 2}, 'has no type'),
        ({'train_cfg.max_epochs': 0}, 'max_epochs'),
        ({'auto_scale_lr.base_batch_size': None, 'auto_scale_lr.enable': True}, 'base_batch_size'),
        ({'load_from': 'nowhere.pth'}, 'nowhere.pth'),
    ],
)
def test_config_mistakes(tmp_path, options, message):
    work_dir = tmp_path / 'work'
    with pytest.raises(UsageError, match=message) as caught:
        config, _ = load_config(written(tmp_path), options, work_dir=str(work_dir))
        build_runner(config)
    assert '\n' not in str(caught.value)
    assert not work_dir.exists()


@pytest.mark.parametrize('junk', [b'', b'not a checkpoint', b'PK\x03\x04'])
def test_junk_is_not_a_checkpoint(tmp_path, junk):
    (tmp_path / 'junk.pth').write_bytes(junk)
    for resume in (True, False):
        with pytest.raises(UsageError, match=r'junk\.pth'):
            running.build(tmp_path / 'work', resume=resume, load_from=str(tmp_path / 'junk.pth'))
    assert not (tmp_path / 'work').exists()


def test_a_checkpoint_is_never_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'executed'),)

    torch.save({'state_dict': {'a': Evil()}}, tmp_path / 'evil.pth')
    with pytest.raises(UsageError, match=r'evil\.pth'):
        running.build(tmp_path / 'work', resume=True, load_from=str(tmp_path / 'evil.pth'))
    assert not (tmp_path / 'executed').exists()


@pytest.mark.parametrize(
    'text, message',
    [(None, 'no config file'), ('a = (', 'SyntaxError'), ("_base_ = './missing.py'", 'missing.py'), ('1 / 0', 'Zero')],
)
def test_unreadable_configs(tmp_path, text, message):
    path = tmp_path / 'broken.py'
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_config(path)


def test_data_root_reaches_every_data_set(tmp_path):
    config: dict[str, Any] = dict(
        train_dataloader=dict(
            dataset=dict(type='RepeatDataset', times=2, dataset=dict(type='ImageNet', data_root='a'))
        ),
        custom_hooks=[dict(type='KNNHook', train_dataset=dict(type='ToyVectors'), val_dataset=dict(type='ImageNet'))],
        model=dict(type='ToyDistiller'),
    )
    changed = set_data_root(config, str(tmp_path))
    assert changed == [
        'train_dataloader.dataset.dataset',
        'custom_hooks.0.train_dataset',
        'custom_hooks.0.val_dataset',
    ]
    assert config['train_dataloader']['dataset']['dataset']['data_root'] == str(tmp_path)
    assert 'data_root' not in config['train_dataloader']['dataset'] and 'data_root' not in config['model']
    check_data_roots(config)


def test_missing_data_roots_are_named(tmp_path):
    with pytest.raises(UsageError, match='nowhere'):
        set_data_root({}, 'nowhere')
    train = dict(train_dataloader=dict(dataset=dict(type='ToyVectors', data_root='data/none')))
    with pytest.raises(UsageError, match=r"train_dataloader\.dataset: the folder 'data/none'.*--data-root"):
        check_data_roots(train)
    hook = dict(type='KNNHook', train_dataset=dict(type='ToyVectors', data_root='data/none'))
    check_data_roots(dict(custom_hooks=[hook]))
    with pytest.raises(UsageError, match='data/none'):
        check_data_roots(dict(custom_hooks=[dict(hook, required=True)]))


def test_built_in_images_have_no_root(tmp_path):
    config = dict(train_dataloader=dict(dataset=dict(type='BuiltinScenes')))
    with pytest.raises(UsageError, match=r'generates its own images.*configs/mst/mst_vit-tiny_folder\.py'):
        set_data_root(config, str(tmp_path))


def test_load_config_lays_the_command_line_over_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    settings = dict(toy.settings(), visualizer=visualizer)
    path = tmp_path / 'mine.py'
    path.write_text(''.join(f'{name} = {value!r}\n' for name, value in settings.items()))
    config, notes = load_config(path, data_root=str(tmp_path), seed=7, resume='auto', auto_scale_lr=True, amp=True)
    assert config.work_dir == 'work_dirs/mine'
    assert config.randomness.seed == config.train_dataloader.sampler.seed == 7
    assert config.train_dataloader.dataset.data_root == str(tmp_path)
    assert (config.resume, config.load_from) == (True, None)
    assert config.auto_scale_lr == dict(base_batch_size=8, enable=True)
    assert config.optim_wrapper.precision == 'auto'
    assert config.env_cfg.dist_cfg.backend == ('nccl' if torch.cuda.is_available() else 'gloo')
    assert notes == [f'data root {tmp_path} for train_dataloader.dataset']
    config, _ = load_config(path, {'train_dataloader.sampler.seed': 3}, resume='x.pth')
    assert (config.train_dataloader.sampler.seed, config.load_from) == (3, 'x.pth')
    assert not (tmp_path / 'work_dirs').exists()


def test_guard_keeps_the_cause():
    with pytest.raises(UsageError) as caught, build_guard():
        MODELS.build(dict(type='ToyDistiller', width='x'))
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(RuntimeError), build_guard():
        raise RuntimeError('not a mistake in a config')


@pytest.mark.parametrize('name', ['', ' ', '.', 'os', 'no such'])
def test_words_that_can_be_no_name(name):
    with (
        pytest.raises(UsageError, match=r'there is none of it|is not in the|cannot be built|there is no'),
        build_guard(),
    ):
        MODELS.build(dict(type=name))
    with pytest.raises(UsageError, match=f'there is no model called {name!r}'):
        check_registered(dict(type=name), MODELS)


def test_a_part_without_a_type_is_shown():
    with pytest.raises(UsageError) as caught, build_guard():
        MODELS.build(dict(ratio=0.5, typ='RandomMasker'), default_args=dict(shuffled=True))
    part = "{'ratio': 0.5, 'typ': 'RandomMasker'}"
    assert str(caught.value) == f'a part of the config has no type: {part}. Is a key in it misspelt?'


def test_what_torch_refuses_of_a_foreign_component():
    neck = dict(type='NonLinearNeck', in_channels=-1, hid_channels=4, out_channels=4)
    with (
        pytest.raises(UsageError, match=r'NonLinearNeck cannot be built: RuntimeError: .*negative dimension'),
        build_guard(),
    ):
        MODELS.build(neck)


def test_the_tool_exits_with_two_and_one_line(tmp_path):
    config = toy_config(tmp_path)
    words = ('--work-dir', tmp_path / 'work', '--cfg-options', 'model.type=ToyDistillr')
    result = run_program('tools/train.py', config, *words)
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("error: there is no model called 'ToyDistillr'.")
    assert 'Traceback' not in result.stderr
    assert not (tmp_path / 'work').exists()


def test_two_processes_exit_with_two_and_one_line(tmp_path, free_port):
    options = ['--work-dir', tmp_path / 'work', '--cfg-options', 'optim_wrapper.clip_norm=-1']
    result = subprocess.run(
        ['bash', ROOT / 'tools' / 'dist_train.sh', toy_config(tmp_path), '2', *options],
        cwd=ROOT,
        env={**os.environ, 'PYTHON': warm.python(), 'PORT': str(free_port), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith('error')]
    assert len(errors) == 1 and 'clip_norm' in errors[0], result.stderr
    assert not (tmp_path / 'work').exists()
