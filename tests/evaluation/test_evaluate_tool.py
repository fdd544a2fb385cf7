from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from mstkit.errors import exit_cleanly
from mstkit.evaluation import EvaluatedNetwork
from mstkit.evaluation.evaluators import ClusterEvaluator, KNNEvaluator
from mstkit.evaluation.image_hits import read_hits
from mstkit.networks import open_networks
from mstkit.registry import EVALUATORS
from tests.programs import load_program

from .checkpoints import save_checkpoint
from .evaluated_networks import make_folders

OWN = """
from mstkit.registry import EVALUATORS

@EVALUATORS.register_module(name='own', force=True)
class Own:
    def check(self, evaluated):
        pass

    def __call__(self, evaluated):
        if 'student' in evaluated.network.name:
            raise RuntimeError('the student is at home')
        return {'images': float(len(evaluated.labels('val')))}
"""


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_program('tools/evaluation/evaluate.py')


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folders(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In a folder that a training has logged to."""
    folder = tmp_path_factory.mktemp('run')
    (folder / 'last_checkpoint').write_text('epoch_1.pth')
    return save_checkpoint(folder / 'epoch_1.pth')


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module with an evaluation of one's own, which fails on students."""
    (tmp_path / 'own_evaluation.py').write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield 'own_evaluation'
    EVALUATORS.module_dict.pop('own', None)
    sys.modules.pop('own_evaluation', None)


def run(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, 'argv', ['evaluate.py', *map(str, words), '--num-workers', '0', '--device', 'cpu'])
    try:
        exit_cleanly(tool.main)()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_comparison_and_the_same_again_from_the_cache(tool, data, checkpoint, tmp_path, monkeypatch, capsys) -> None:
    words: tuple[object, ...] = (checkpoint, f'random:{checkpoint}', '--train', data / 'train', '--val', data / 'val')
    words += ('--suite', 'knn, lowshot,cluster', '--work-dir', tmp_path / 'new')
    words += ('--set', 'knn.ks=3,5', 'lowshot.shots=1,5', 'lowshot.draws=random', 'lowshot.runs=2')
    assert run(tool, monkeypatch, *words) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / 'new' / 'results.json').read_text())
    assert [result['branch'] for result in results] == ['student', 'teacher', '']
    networks = [*open_networks(str(checkpoint)), *open_networks(f'random:{checkpoint}')]
    page = (tmp_path / 'new' / 'results.md').read_text()
    for network, result in zip(networks, results, strict=True):
        evaluated = EvaluatedNetwork(network, data / 'train', data / 'val', num_workers=0)
        assert result['metrics']['knn'] == pytest.approx(KNNEvaluator(ks=(3, 5))(evaluated))
        assert result['metrics']['cluster'] == pytest.approx(ClusterEvaluator()(evaluated))
        assert len(result['metrics']['lowshot']) == 4
        assert result['failed'] == {}
        assert result['settings']['knn'] == {'ks': [3, 5]}
        shown = f'{result["metrics"]["knn"]["k5_top1"]:.2f}'
        for text in (page, printed):
            assert shown in text and network.name in text
    assert 'python evaluate.py' in page
    with Image.open(tmp_path / 'new' / 'results.png') as image:
        assert min(image.size) > 200
    beside = sorted((checkpoint.parent / 'evaluation').glob('*.json'))
    assert [json.loads(file.read_text())['metrics'] for file in beside] == [one['metrics'] for one in results[:2]]

    def refuse(*_: object) -> None:
        raise AssertionError('an image was read')

    monkeypatch.setattr('mstkit.datasets.image_reader.read_image', refuse)
    assert run(tool, monkeypatch, *words) == 0
    again = json.loads((tmp_path / 'new' / 'results.json').read_text())
    assert [one['metrics'] for one in again] == [one['metrics'] for one in results]


def test_a_failure_is_recorded_and_leaves_with_1(tool, data, checkpoint, own, tmp_path, monkeypatch, capsys) -> None:
    words = (checkpoint, '--train', data / 'train', '--val', data / 'val', '--work-dir', tmp_path / 'w')
    assert run(tool, monkeypatch, *words, '--suite', 'own,knn', '--import', own) == 1
    student, teacher = json.loads((tmp_path / 'w' / 'results.json').read_text())
    assert student['failed'] == {'own': 'RuntimeError: the student is at home'}
    assert list(student['metrics']) == ['knn']
    assert teacher['failed'] == {} and teacher['metrics']['own'] == {'images': 9.0}
    page = (tmp_path / 'w' / 'results.md').read_text()
    assert '| own | images | failed | 9.00 |' in page
    assert 'RuntimeError: the student is at home' in page
    assert 'failed' in capsys.readouterr().out


def test_mistakes_exit_with_2_before_anything_is_written(tool, data, checkpoint, tmp_path, monkeypatch, capsys) -> None:
    train, val = ('--train', data / 'train'), ('--val', data / 'val')
    other = make_folders(tmp_path / 'other', classes=('dark', 'light', 'blue'))
    (tmp_path / 'empty').mkdir()
    work = tmp_path / 'w'
    cases = [
        ((checkpoint, *train, *val, '--suite', 'knn,clusters'), "no evaluation 'clusters', only"),
        ((checkpoint, *train, *val, '--suite', 'clusters'), 'Did you mean cluster'),
        ((checkpoint, *train, *val, '--suite', 'knn', '--set', 'knn.kk=3'), "no setting 'kk'"),
        ((checkpoint, *train, *val, '--suite', 'knn', '--set', 'cluster.split=val'), 'has no evaluation'),
        ((checkpoint, *train, *val, '--suite', 'knn', '--set', 'knn.ks=25'), 'asks for 25 neighbors'),
        ((checkpoint, *train, *val, '--suite', 'knn', '--set', 'knn.last_blocks=3'), 'last_blocks is 3'),
        ((checkpoint, *train, *val, '--suite', 'lowshot'), "class 'dark' has 8 train images"),
        ((checkpoint, *train, *val, '--suite', 'knn', '--import', 'nowhere'), '--import nowhere'),
        ((checkpoint, *train, *val, '--suite', 'knn', '--batch-size', 0), '--batch-size 0'),
        ((checkpoint, *train, '--val', other / 'val', '--suite', 'knn'), 'only in val: blue'),
        ((checkpoint, *train, '--val', tmp_path / 'empty', '--suite', 'knn'), 'holds no images'),
        ((checkpoint, *train, '--val', tmp_path / 'none', '--suite', 'knn'), 'does not exist'),
        ((tmp_path / 'none.pth', *train, *val, '--suite', 'knn'), 'there is no file'),
        (('time:vit', *train, *val, '--suite', 'knn'), 'FILE.pth'),
        ((checkpoint, *train, *val, '--suite', 'knn', '--branch', 'bough'), 'bough'),
    ]
    for words, says in cases:
        assert run(tool, monkeypatch, *words, '--work-dir', work) == 2, words
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert message.startswith('error: ') and says in message, message
    assert not work.exists()
    (tmp_path / 'file').write_text('')
    assert run(tool, monkeypatch, checkpoint, *train, *val, '--suite', 'knn', '--work-dir', tmp_path / 'file') == 2
    assert 'cannot be written' in capsys.readouterr().err


def test_several_networks_of_one_name_are_told_apart(tool, data, tmp_path, monkeypatch, capsys) -> None:
    """And a checkpoint that lies in no work dir gets no folder beside it."""
    files = []
    for seed in range(2):
        folder = tmp_path / str(seed) / 'run'
        folder.mkdir(parents=True)
        files.append(save_checkpoint(folder / 'last.pth', seed))
    torch.manual_seed(0)
    words = (*files, files[0], '--train', data / 'train', '--val', data / 'val', '--branch', 'teacher')
    assert run(tool, monkeypatch, *words, '--suite', 'cluster', '--work-dir', tmp_path / 'w') == 0
    results = json.loads((tmp_path / 'w' / 'results.json').read_text())
    assert len(results) == 2
    assert len({result['name'] for result in results}) == 2
    assert not any((file.parent / 'evaluation').exists() for file in files)


def test_hits_of_each_val_image_are_kept(tool, data, checkpoint, tmp_path, monkeypatch, capsys) -> None:
    words: tuple[object, ...] = (checkpoint, '--train', data / 'train', '--val', data / 'val', '--hits', tmp_path / 'h')
    words += ('--work-dir', tmp_path / 'w', '--suite')
    assert run(tool, monkeypatch, *words, 'knn') == 2
    assert 'give a single network (--branch chooses one)' in capsys.readouterr().err
    assert run(tool, monkeypatch, *words, 'knn,cluster', '--branch', 'teacher') == 2
    assert '--hits: cluster cannot say which val images are right' in capsys.readouterr().err
    assert run(tool, monkeypatch, *words, 'knn,finetune', '--branch', 'teacher', '--set', 'finetune.epochs=1') == 0
    (result,) = json.loads((tmp_path / 'w' / 'results.json').read_text())
    for name in ('knn', 'finetune'):
        found = read_hits(tmp_path / 'h' / f'{name}.npz')
        assert len(found.images) == 9 and found.accuracy == pytest.approx(result['metrics'][name][found.metric])
