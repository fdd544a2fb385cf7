"""What a run shows: on real runs of the demo, in a pipe, on a terminal, and of two processes."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger

from mstkit.engine.launch.launch import build_runner
from mstkit.engine.screen.console import Screen, chosen_screen, is_notice
from mstkit.errors import UsageError
from mstkit.utils.log_marks import ON_SCREEN
from tests import warm
from tests.programs import ROOT, run_on_rank

from . import toy

DEMO = 'configs/demo/mst_vit-nano_scenes.py'
SMALL = [
    'model.backbone.arch.embed_dims=48',
    'model.backbone.arch.num_layers=2',
    'model.backbone.arch.num_heads=3',
    'model.neck.out_dim=32',
    'model.neck.hidden_dim=32',
    'model.decoder.channels=8',
    'train_dataloader.batch_size=8',
    'train_dataloader.dataset.num_images=32',
    'default_hooks.knn.train_dataset.num_images=40',
    'default_hooks.knn.val_dataset.num_images=20',
    'default_hooks.logger.interval=2',
    'default_hooks.checkpoint.interval=1',
]
STEP = re.compile(r'epoch \d+/\d+ \d+/\d+  loss [\d.]+  lr \S+  k-NN [\d.]+ \(.+?\)  [\d.e+]+ images/s  [\d:]+ left')
LOGGED = (
    'System environment',
    'Config:',
    'paramwise_options -- ',
    'Hooks will be executed',
    'global batch 8 = ',
    'schedules: the lr reaches',
    'idle threads ',
    'features epoch 1',
    'Epoch(train)',
    'Saving checkpoint',
)


def command(work_dir: Path, *more: str) -> list[str]:
    return ['tools/train.py', DEMO, '--work-dir', str(work_dir), '--epochs', '2', *more, '--cfg-options', *SMALL]


def in_a_pipe(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [warm.python(), *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )


def log_of(work_dir: Path) -> str:
    return ''.join(path.read_text() for path in sorted(work_dir.glob('*/*.log')))


@pytest.fixture(scope='module')
def piped(tmp_path_factory) -> tuple[Path, list[str]]:
    """A run, and the lines that it shows in a pipe."""
    work_dir = tmp_path_factory.mktemp('piped') / 'run'
    done = in_a_pipe(command(work_dir))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    return work_dir, done.stdout.splitlines()


def test_at_most_fifteen_lines_before_the_first_loss(piped):
    work_dir, lines = piped
    first = next(place for place, line in enumerate(lines) if STEP.fullmatch(line))
    assert first <= 15
    text = '\n'.join(lines[:first])
    for words in (
        f'{DEMO}\n',
        'changed   epochs: 16 -> 2',
        'MSTAlgorithm: 1 ce (CrossView) + 0.6 restore (ImageRestoration)',
        'MaskedVisionTransformer, width 48, depth 2, heads 3',
        'AttentionGuidedMasker(num=8, prob=0.1), guided by TeacherGuide',
        '32 images in 10 classes (BuiltinScenes), views 2 x 48 px + 2 x 24 px',
        '2 epochs of 4 iterations, global batch 8 (8 x 1 process)',
        'AdamW, lr 0.001, reached at step 4 of 8',
        'cpu (',
        '1 process, ',
        'k-NN every 4 epochs, 20 images by 40',
        'random, from scratch',
        f'{work_dir} (log: ',
    ):
        assert words in text, words


def test_steps_and_results_are_a_line_each(piped):
    work_dir, lines = piped
    assert len([line for line in lines if STEP.fullmatch(line)]) == 4  # of 8 steps, every second
    assert [line for line in lines if 'checkpoint' in line] == [
        f'checkpoint: {work_dir}/{name}.pth' for name in ('epoch_1', 'best_knn', 'epoch_2')
    ]
    assert len([line for line in lines if line.startswith('k-NN epoch ')]) == 2
    assert len([line for line in lines if line.startswith('panels of epoch ')]) == 2
    assert len(lines) < 30


def test_the_log_file_has_everything(piped):
    work_dir, lines = piped
    log = log_of(work_dir)
    for words in LOGGED:
        assert words in log, words
        assert not any(words in line for line in lines), words
    assert log.count('paramwise_options -- ') > 30
    for line in lines:
        assert STEP.fullmatch(line) or line in log, line  # of a step it has a longer line


def test_the_whole_log_is_one_word_away(tmp_path):
    shown = in_a_pipe(command(tmp_path / 'option', '--screen', 'full'))
    assert shown.returncode == 0, shown.stderr
    for words in LOGGED:
        assert words in shown.stdout, words
    assert not any(STEP.fullmatch(line) for line in shown.stdout.splitlines())
    again = in_a_pipe(command(tmp_path / 'variable'), MSTKIT_SCREEN='full').stdout
    assert 'Epoch(train)' in again and 'epochs: 16 -> 2' in again.splitlines()[0]


def test_which_screen(monkeypatch):
    assert chosen_screen({}) == 'short'
    monkeypatch.setenv('MSTKIT_SCREEN', 'full')
    assert chosen_screen({}) == 'full'
    assert chosen_screen({'screen': 'short'}) == 'short'
    with pytest.raises(UsageError, match=r"screen .*'long'.*short.*full"):
        chosen_screen({'screen': 'long'})
    monkeypatch.setenv('MSTKIT_SCREEN', 'none')
    with pytest.raises(UsageError, match='environment variable MSTKIT_SCREEN'):
        chosen_screen({})


def on_a_terminal(words: list[str]) -> str:
    """What a program writes to a terminal of 80 columns."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [warm.python(), *words],
        cwd=ROOT,
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        env={**os.environ, 'TERM': 'xterm'},
    )
    os.close(theirs)
    found = b''
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        found += piece
    os.close(ours)
    assert process.wait(timeout=60) == 0, found[-2000:]
    return found.decode()


def what_remains(text: str) -> list[str]:
    """The lines that a terminal shows in the end; a drawing that is not erased before it is written over is torn."""
    lines = []
    for line in text.replace('\r\n', '\n').split('\n'):
        *erased, last = re.split(r'\r\x1b\[K', line)
        assert '\r' not in ''.join(erased) + last
        lines.append(last)
    return lines


NOISY = """
import warnings
from mmengine.hooks import Hook
from mstkit.registry import HOOKS

@HOOKS.register_module()
class NoisyHook(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.logger.warning(f'a long warning of step {runner.iter}, ' + 'as it is ' * 20)
        runner.logger.warning('"X" will be deprecated in future')
        warnings.warn_explicit('np.y is deprecated', DeprecationWarning, np_file, 3)
        warnings.warn(f'of user code at {runner.iter}', stacklevel=1)
        print('printed by', 'a hook', runner.iter)

import numpy
np_file = numpy.__file__
warnings.simplefilter('always')
"""


def test_a_terminal_has_one_line_that_is_rewritten(tmp_path):
    noisy = tmp_path / 'noisy_hook.py'
    noisy.write_text(NOISY)
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{ROOT / DEMO}'\ncustom_imports = dict(imports=['noisy_hook'])\n"
        "custom_hooks = [dict(type='ProgressHook'), dict(type='NoisyHook')]\n"
    )
    words = command(tmp_path / 'run')
    words[1] = str(config)
    program = tmp_path / 'program.py'
    program.write_text(
        f'import sys, runpy\nsys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\nsys.argv = {words!r}\n'
        f'runpy.run_path({str(ROOT / "tools/train.py")!r}, run_name="__main__")\n'
    )
    text = on_a_terminal([str(program)])
    drawn = re.findall(r'\r\x1b\[K(epoch [^\r\n]*)', text)
    assert len(drawn) >= 8, 'after each step, and again below each warning'
    assert all(len(one) < 80 for one in drawn)
    assert 'left' in drawn[-1] or len(drawn[-1]) == 79
    lines = what_remains(text)
    assert not any(STEP.match(line) for line in lines), 'nothing of it stays'
    for step in range(8):
        assert f'warning: a long warning of step {step}, {"as it is " * 20}' in lines
        assert f'printed by a hook {step}' in lines
        assert len([line for line in lines if f'of user code at {step} (UserWarning, ' in line]) == 1
    assert 'deprecated' not in text
    log = log_of(tmp_path / 'run')
    assert 'np.y is deprecated (DeprecationWarning, ' in log and '"X" will be deprecated in future' in log
    assert re.search(r'k-NN epoch 2, (train|val): \d+/\d+', text), 'bars of measurements come and go in the same place'
    assert not any(re.search(r'k-NN epoch 2, (train|val): ', line) for line in lines)
    assert [line for line in lines if line.startswith('k-NN epoch 2: student ')]


def shown_on_rank(rank: int, folder: str) -> Any:
    return run_on_rank(
        rank, 'tools/train.py', DEMO, '--work-dir', folder, '--epochs', '1',
        '--cfg-options', *SMALL, 'train_dataloader.batch_size=4', 'default_hooks.knn.save_best=False',
    )  # fmt: skip


def test_of_two_processes_one_speaks(tmp_path, run_two):
    first, second = run_two(shown_on_rank, str(tmp_path / 'run'))
    assert first.returncode == second.returncode == 0
    assert 'global batch 8 (4 x 2 processes)' in first.stdout
    assert [line for line in first.stdout.splitlines() if line.startswith('epoch 1/1 ')]
    assert (second.stdout, second.stderr) == ('', '')


def test_resuming_says_in_a_line_from_what(piped, tmp_path):
    work_dir, _ = piped
    done = in_a_pipe([*command(tmp_path / 'run', '--resume', str(work_dir / 'epoch_1.pth'))])
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if 'resumed' in line]
    assert lines == [f'  weights   resumed from {work_dir}/epoch_1.pth, epoch 1 of 2, iteration 4 of 8']
    assert 'optimizer state of' in log_of(tmp_path / 'run')


def test_what_is_said_before_there_is_a_log_file_comes_into_it(tmp_path, capsys):
    settings = toy.settings(log_level='INFO')
    settings['train_dataloader']['dataset'] = dict(type='ToyVectors', length=18)
    logger = MMLogger.get_current_instance()
    before = list(logger.handlers)
    screen = Screen({})
    with screen.gathering():
        logger.log(logging.ERROR, 'an early error')
        logger.warning('an early warning')
    assert logger.handlers == before
    assert capsys.readouterr().out == 'error: an early error\nwarning: an early warning\n'
    log = MMLogger(f'screen{tmp_path}', log_file=str(tmp_path / 'a.log'))
    screen.attach(log)
    log.info('not shown')
    log.info('shown', extra=ON_SCREEN)
    assert capsys.readouterr().out == 'shown\n'
    text = (tmp_path / 'a.log').read_text()
    assert [text.index(words) for words in ('an early error', 'an early warning', 'not shown', 'shown')]


def test_a_quiet_log_level_is_a_quiet_screen(tmp_path, capfd):
    build_runner(Config(dict(toy.settings(), work_dir=str(tmp_path), experiment_name='quiet_screen'))).train()
    assert capfd.readouterr() == ('', '')


def test_a_screen_that_nobody_reads_does_not_end_a_run(monkeypatch):
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, 'stdout', Broken())
    screen = Screen({})
    screen.speaks = True
    screen.show('a line')


@pytest.mark.parametrize(
    ('text', 'notice'),
    [
        ('"HardDiskBackend" is an alias and will be Deprecated in future.', True),
        ('Setting MKL_NUM_THREADS environment variable for each process to be 1 in default', True),
        ('The prefix is not set in metric class IoUMetric.', True),
        ('k-NN is off: there is no folder val', False),
        ('unreadable image, replaced by another: a.png', False),
    ],
)
def test_notices_of_other_packages_are_told_from_warnings(text, notice):
    assert is_notice(text) is notice


def test_streams_and_warnings_are_given_back():
    before = sys.stdout, sys.stderr, warnings.showwarning
    screen = Screen({})
    with pytest.raises(KeyError), screen.listening():
        assert sys.stdout is not before[0]
        raise KeyError
    assert (sys.stdout, sys.stderr, warnings.showwarning) == before
