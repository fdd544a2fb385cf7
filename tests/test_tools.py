"""The commands of the README, on the real configs at a reduced size."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import DictAction
from mmengine.logging import MessageHub
from mmpretrain.visualization import UniversalVisualizer
from PIL import Image

from mstkit.engine.launch.launch import build_runner, load_config
from mstkit.errors import UsageError

from . import warm
from .programs import ROOT, forget_runs_of_this_second, run_on_rank, run_program

DEMO = 'configs/demo/mst_vit-nano_scenes.py'
FOLDER = 'configs/mst/mst_vit-tiny_folder.py'
IBOT = 'configs/ibot/ibot_vit-tiny_folder.py'
MOBY = 'configs/moby/moby_vit-tiny_folder.py'
SMALL = [
    'model.backbone.arch.embed_dims=48',
    'model.backbone.arch.num_layers=2',
    'model.backbone.arch.num_heads=3',
    'model.neck.out_dim=32',
    'model.neck.hidden_dim=32',
    'model.decoder.channels=8',
    'model.backbone.drop_path_rate=0.1',
    'train_dataloader.batch_size=8',
]
FEW_SCENES = [  # each is drawn
    'train_dataloader.dataset.num_images=32',
    'default_hooks.knn.train_dataset.num_images=40',
    'default_hooks.knn.val_dataset.num_images=20',
]
SMALL_DEMO = [*SMALL, *FEW_SCENES, 'default_hooks.checkpoint.interval=1']


def run(path: str, *words: object) -> str:
    """What a program said that ended well."""
    result = run_program(path, *words)
    assert result.returncode == 0, f'{result.stdout[-3000:]}\n{result.stderr[-3000:]}'
    return result.stdout


def options(*words: str) -> dict:
    """``key=value`` words as the command line parses them."""
    return {key: DictAction._parse_iterable(value) for key, value in (word.split('=', 1) for word in words)}


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)['state_dict']


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    """Two classes of images with a train and a val part, a gray one and a broken one among them."""
    root, random = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for split, count in (('train', 12), ('val', 5)):
        for label in ('left', 'right'):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                size = (int(random.integers(70, 100)), int(random.integers(70, 100)), 3)
                Image.fromarray(random.integers(0, 255, size, dtype=np.uint8)).save(folder / f'{i}.jpg')
    Image.new('L', (80, 90), 100).save(root / 'train' / 'left' / 'gray.png')
    return root


def test_demo_prints_its_line_last_and_leaves_panels(tmp_path):
    out = run(
        'tools/demo.py', '--images', 'scenes', '--work-dir', tmp_path / 'demo', '--epochs', '1', '--cfg-options',
        *SMALL_DEMO, 'randomness.seed=3',
    )  # fmt: skip
    last = out.strip().splitlines()[-1]
    assert last.startswith('demo: k-NN top-1 random-init ')
    numbers = [float(part.split()[-1]) for part in last.removeprefix('demo: k-NN top-1 ').split(', ')]
    assert all(0 <= number <= 100 for number in numbers)
    records = [json.loads(line) for line in (tmp_path / 'demo' / 'knn.jsonl').read_text().splitlines()]
    first, final = (round(r['branches']['student'][f'k{r["k"]}_top1'], 1) for r in (records[0], records[-1]))
    assert numbers[:2] == [first, final]
    assert len(list((tmp_path / 'demo' / 'panels').glob('*.png'))) == 2
    assert str(tmp_path / 'demo' / 'panels') in out
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').touch()
    refused = run_program('tools/demo.py', '--work-dir', tmp_path / 'mine')
    assert refused.returncode == 2
    assert 'not the folder of an earlier demo' in refused.stderr
    assert (tmp_path / 'mine' / 'thesis.txt').exists()


@pytest.mark.usefixtures('laid_out')
def test_ones_own_images_then_knn_of_the_checkpoint(tmp_path, images):
    """Train on a folder, measure the file with its own tool and with test.py: three times the same accuracy."""
    work_dir = tmp_path / 'run'
    small = [*SMALL, 'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
    small += ['default_hooks.knn.num_workers=0', 'default_hooks.knn.ks=[1,5]', 'default_hooks.knn.headline_k=5']
    out = run(
        'tools/train.py', FOLDER, '--data-root', images, '--work-dir', work_dir, '--epochs', '2',
        '--cfg-options', *small,
    )  # fmt: skip
    assert 'epochs: 100 -> 2' in out
    assert '25 images in 2 classes' in out
    assert 'global batch 8 (8 x 1 process)' in out
    (log,) = (path.read_text() for path in work_dir.glob('*/*.log'))
    assert 'idle threads ' in log, 'how they wait, and who chose it'
    assert 'ImageFolder: 25 images in 2 classes' in log
    assert 'global batch 8 = 8 per device x 1 processes x 1 accumulated; lr 0.001' in log
    recorded = json.loads((work_dir / 'knn.jsonl').read_text().splitlines()[-1])['branches']
    run(
        'tools/evaluation/knn.py', work_dir / 'epoch_2.pth', '--train', images / 'train',
        '--val', images / 'val', '--k', '1', '5', '--json', tmp_path / 'knn.json', '--num-workers', '0',
    )  # fmt: skip
    measured = json.loads((tmp_path / 'knn.json').read_text())
    run(
        'tools/test.py', FOLDER, work_dir / 'epoch_2.pth', '--data-root', images,
        '--work-dir', tmp_path / 'test', '--out', tmp_path / 'test.json', '--cfg-options', *small,
    )  # fmt: skip
    tested = json.loads((tmp_path / 'test.json').read_text())
    for branch in ('student', 'teacher'):
        for name in ('k1_top1', 'k5_top1'):
            assert str(recorded[branch][name]) in json.dumps(measured), measured
            assert recorded[branch][name] == tested[branch][name]


def test_killed_and_resumed_is_bit_identical(tmp_path):
    """The real model, with drop path, mask and batch normalization, killed at a moment of the clock."""
    command = ['tools/train.py', DEMO, '--epochs', '4', '--cfg-options', *SMALL_DEMO]
    command += ["model.neck.batch_norm='global_only'", 'randomness.seed=5']
    run(*command, '--work-dir', tmp_path / 'whole')
    killed = tmp_path / 'killed'
    process = subprocess.Popen(
        [warm.python(), *command, '--work-dir', str(killed)],
        cwd=ROOT,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (killed / 'epoch_2.pth').exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):  # the training itself: what was started may only stand for it
        os.kill(json.loads((killed / '.training.lock').read_text())['pid'], signal.SIGKILL)
    assert process.wait() in (0, -signal.SIGKILL)
    assert (killed / 'epoch_2.pth').exists()
    out = run(*command, '--work-dir', killed, '--resume')
    one, two = weights(tmp_path / 'whole' / 'epoch_4.pth'), weights(killed / 'epoch_4.pth')
    assert 'resumed' in out or process.returncode == 0
    assert one.keys() == two.keys()
    different = [name for name in one if not torch.equal(one[name], two[name])]
    assert different == []
    lines = [(d / 'knn.jsonl').read_text() for d in (tmp_path / 'whole', killed)]
    assert lines[0] == lines[1]


def test_a_run_does_not_write_where_another_of_the_same_second_does(monkeypatch):
    monkeypatch.setattr(time, 'strftime', lambda *_: '_20260101_000000')
    names = ['demo_20260101_000000', 'demo_20260101_000001']
    for name in names:
        MessageHub.get_instance(name)
        UniversalVisualizer.get_instance(name)
    forget_runs_of_this_second()
    for kind in (MessageHub, UniversalVisualizer):
        assert [kind.check_instance_created(name) for name in names] == [False, True]
        del kind._instance_dict[names[1]]


def test_two_cpu_processes_equal_one(tmp_path, run_two):
    """Half the batch each: same losses, center and weights, in a model without batch normalization or masks."""
    common = [*SMALL_DEMO, 'model.masker=none', 'model.decoder.batch_norm=False', 'model.backbone.drop_path_rate=0.0']
    # SGD: Adam turns the last bit of a small gradient into a whole step.
    common += ['optim_wrapper.precision=fp32', 'default_hooks.knn.save_best=False', 'default_hooks.logger.interval=1']
    common += ['optim_wrapper.optimizer.type=SGD', 'optim_wrapper.optimizer.lr=0.05']
    command = [DEMO, '--epochs', '2', '--work-dir']
    run('tools/train.py', *command, tmp_path / 'one', '--cfg-options', *common)
    halved = [word for word in common if 'batch_size' not in word] + ['train_dataloader.batch_size=4']
    for rank in run_two(run_on_rank, 'tools/train.py', *command, tmp_path / 'two', '--cfg-options', *halved):
        assert rank.returncode == 0, rank
    one, two = weights(tmp_path / 'one' / 'epoch_2.pth'), weights(tmp_path / 'two' / 'epoch_2.pth')
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-5, msg=partial('{}: {}'.format, name))
    assert one['objectives.ce.head.center'].abs().max() > 0
    losses = []
    for which in ('one', 'two'):
        scalars = next((tmp_path / which).glob('*/vis_data/scalars.json')).read_text().splitlines()
        losses.append([record['loss'] for record in map(json.loads, scalars) if 'loss' in record])
    assert len(losses[0]) == 8
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)  # the mean over ranks, as it is logged


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        (['model.masker.type=RandomMasker', 'model.masker.prob=0.15'], 'RandomMasker(prob=0.15)'),
        (['model.masker.type=RandomMasker', 'model.masker.ratio=0.5'], 'RandomMasker(ratio=0.5)'),
        (['model.masker.num=2'], 'AttentionGuidedMasker(num=2, prob=0.1)'),
        (['model.masker=none'], 'None'),
    ],
)
def test_maskers_are_swapped_from_the_command_line(tmp_path, words, expected):
    config, notes = load_config(ROOT / DEMO, options(*SMALL_DEMO, *words), work_dir=str(tmp_path / 'run'))
    assert repr(build_runner(config).model.masker) == expected
    if 'RandomMasker' in expected:
        assert any('num' in note for note in notes), 'what was dropped is said'


def mistakes(images: Path, tmp: Path) -> list[tuple[str, list[str], str | None, str]]:
    """Config, overrides, data root, and what the message has to name."""
    empty, textual = tmp / 'empty', tmp / 'texts'
    empty.mkdir()
    textual.mkdir()
    (textual / 'readme.txt').write_text('no image')
    return [
        (DEMO, ['model.masker.type=RandomMaskr'], None, 'RandomMaskr.*Did you mean RandomMasker'),
        (DEMO, ['model.backbone.type=MaskedVisionTransformr'], None, 'Did you mean MaskedVisionTransformer'),
        (
            DEMO,
            ['model.backbone.type=ResNet', 'model.backbone.depth=18'],
            None,
            'ResNet cannot be pre-trained with masks',
        ),
        (DEMO, ['model.masker.num=0'], None, 'num is 0: give a whole number of at least 1'),
        (DEMO, ['model.masker.prob=1.5'], None, r'prob is 1\.5: give a number in \[0, 1\]'),
        (
            DEMO,
            ['train_dataloader.dataset.pipeline.1.global_crops.size=50'],
            None,
            '50 px is not divisible by 8.*48 or 56',
        ),
        (DEMO, ['default_hooks.knn.ks=[0,20]'], None, '0'),
        (DEMO, ['default_hooks.knn.headline_k=7'], None, '7'),
        (FOLDER, [], str(tmp / 'nowhere'), 'nowhere'),
        (FOLDER, [], str(empty), 'empty'),
        (FOLDER, [], str(textual), 'texts'),
        (FOLDER, [], None, 'data/images.*--data-root'),
        (DEMO, [], str(images), 'built-in|BuiltinScenes'),
        (
            DEMO,
            ['model.masker.type=AttMaskHigh', 'model.masker.ratio=1.5'],
            None,
            r'ratio is 1\.5: give a number in \[0, 1\]',
        ),
        (DEMO, ['model.masker.type=AttMaskLow', 'model.masker.ratio=(0.5,0.1)'], None, 'give the smaller number first'),
        (
            DEMO,
            ['model.masker.type=AttMaskHint', 'model.masker.show_max=0.01'],
            None,
            'leaves none of 36 patches visible',
        ),
        (DEMO, ['model.masker.type=AttMaskHigh', 'model.masker.layer=-9'], None, 'one of -4 to -1'),
        (IBOT, ['model.masker=none'], str(images), 'there is no masker: give one'),
        (MOBY, ['train_dataloader.batch_size=3'], str(images), '256 of MoBYHead is not a multiple.*255 or 258'),
    ]


@pytest.mark.parametrize('index', range(19))
def test_mistakes_get_one_message_and_leave_nothing(tmp_path, images, index):
    path, words, data_root, message = mistakes(images, tmp_path)[index]
    work_dir = tmp_path / 'run'
    with pytest.raises(UsageError, match=message) as caught:
        few = FEW_SCENES if path == DEMO else ()
        config, _ = load_config(ROOT / path, options(*few, *words), data_root=data_root, work_dir=str(work_dir))
        build_runner(config)
    assert '\n' not in str(caught.value)
    assert not work_dir.exists()


def test_a_mistake_on_the_command_line_exits_with_two(tmp_path):
    command = ['tools/train.py', DEMO, '--work-dir', str(tmp_path / 'run'), '--cfg-options', 'model.masker.num=-1']
    result = subprocess.run([warm.python(), *command], cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith('error: ')
    assert 'Traceback' not in result.stderr
    assert not (tmp_path / 'run').exists()


def test_resuming_from_another_models_checkpoint_is_refused(tmp_path):
    def small(*words):
        return options(*SMALL_DEMO, *words)

    config, _ = load_config(ROOT / DEMO, small(), work_dir=str(tmp_path / 'first'), epochs=1)
    build_runner(config).train()
    first = tmp_path / 'first' / 'epoch_1.pth'
    for words, message in ((['model.neck.out_dim=16'], 'last_layer'), (['model.masker=none'], 'mask_token')):
        with pytest.raises(UsageError, match=message):
            second = dict(work_dir=str(tmp_path / 'second'), resume=str(first), epochs=1)
            config, _ = load_config(ROOT / DEMO, small(*words), **second)
            build_runner(config)
    assert not (tmp_path / 'second').exists()
