"""benchmarks/learning.py trains ours and the peers for a budget of time, judges both alike, and makes the table."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mstkit.engine.launch.launch import read_config
from mstkit.errors import UsageError
from tests.programs import load_program

DINO = 'configs/dino/dino_vit-tiny_folder.py'
SMALL = [
    'model.backbone.arch.embed_dims=24',
    'model.backbone.arch.feedforward_channels=48',
    'model.backbone.arch.num_layers=1',
    'model.neck.hidden_dim=16',
    'model.neck.out_dim=16',
    'train_dataloader.batch_size=8',
]


@pytest.fixture(scope='module')
def learning():
    return load_program('benchmarks/learning.py')


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    """Two classes that differ in color."""
    root, generator = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for split, count in (('train', 20), ('val', 6)):
        for label, color in enumerate(((200, 60, 60), (60, 60, 200))):
            (root / split / str(label)).mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(np.array(color) + generator.normal(0, 25, (64, 64, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / str(label) / f'{index}.png')
    return root


def test_a_config_of_ours_is_trained_and_judged(learning, images, monkeypatch, tmp_path, capsys):
    file, weights = tmp_path / 'out.json', tmp_path / 'weights.pth'
    other = tmp_path / 'others'
    other.symlink_to(images)
    words = ['run', DINO, '--data-root', images, '--seconds', 1, '--workers', 0, '--out', file, '--save', weights]
    words += ['--judge-root', images, other]
    monkeypatch.setattr(sys, 'argv', ['learning.py', *map(str, words), '--cfg-options', *SMALL])
    learning.main()
    found = json.loads(file.read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == found
    assert found['images'] == 8 * found['steps'] > 0 and found['seconds'] >= 1
    assert set(found['judged']) == {images.name, 'others'}
    judged = found['judged']['others']
    assert judged == found['judged'][images.name]  # the same images
    assert set(judged['before']) == set(judged['after']) == {'student', 'teacher'}
    assert judged['before']['student'] == judged['before']['teacher']  # the teacher starts as a copy
    for when in ('before', 'after'):
        for numbers in judged[when].values():
            assert 50 <= numbers['knn'] <= 100 and 50 <= numbers['linear'] <= 100 and numbers['rank'] >= 1
    saved = torch.load(weights, weights_only=True)
    assert any(name.startswith('backbone.') for name in saved['state_dict'])


def test_schedules_follow_the_share_of_the_budget(learning):
    from contest.our_learner import POINTS, learning_rate_factors

    config = read_config(DINO)
    factors = learning_rate_factors(list(config.param_scheduler), config.train_cfg.max_epochs)
    assert len(factors) == POINTS
    top = factors.index(max(factors))
    assert max(factors) == pytest.approx(1.0) and 0 < top < POINTS / 4
    assert factors[0] < 0.01 and factors[-1] < 0.01
    middle = (top + POINTS) // 2
    assert factors[middle] == pytest.approx(0.5, abs=0.01)  # half of a cosine


def test_the_judge_tells_features_with_the_classes_from_features_without(learning, images):
    from contest.judged_features import Judge

    class Color(nn.Module):
        def forward(self, views):
            return views.mean(dim=(2, 3))

    class Noise(nn.Module):
        def forward(self, views):
            generator = torch.Generator().manual_seed(len(views))
            return torch.randn(len(views), 3, generator=generator)

    judge = Judge(images)
    color, noise = (judge(network(), torch.device('cpu'), torch.float32) for network in (Color, Noise))
    assert color['knn'] == color['linear'] == 100
    assert noise['knn'] < 90 and noise['linear'] < 90
    assert color['rank'] < 3 < math.inf


def result(method: str, seed: int, knn: float, linear: float) -> dict:
    return dict(
        method=method,
        seed=seed,
        images=1000,
        judged=dict(
            half=dict(
                before=dict(student=dict(knn=10.0, linear=20.0)),
                after=dict(student=dict(knn=knn, linear=linear)),
            )
        ),
    )


def test_the_table_has_means_deviations_and_the_ratio_to_the_best_peer(learning, tmp_path):
    for seed in (0, 1):
        for method, knn in ((DINO, 16.0 + 2 * seed), ('lightly:simclr', 13.0), ('lightly:mae', 11.0)):
            (tmp_path / f'{Path(method).stem}_{seed}.json').write_text(json.dumps(result(method, seed, knn, 30.0)))
    table = learning.table_of(learning.read_learned(tmp_path))
    assert table.startswith('Judged by half:\n\n| method |') and table.count('Judged by') == 1
    assert '| dino_vit-tiny_folder | 2 | 1,000 | student | 10.0 ± 0.0 | 17.0 ± 1.4 | 7.0 ± 1.4 |' in table
    assert 'Gain in k-NN: dino_vit-tiny_folder (student) 7.00, lightly:simclr (student) 3.00, ratio 2.33.' in table
    with pytest.raises(UsageError, match='holds no results'):
        learning.read_learned(tmp_path / 'empty')


def test_the_figure_has_a_panel_for_each_judge_and_the_best_branch_of_each_method(learning, monkeypatch, tmp_path):
    for seed, knn in ((0, 16.0), (1, 18.0)):
        numbers = result(DINO, seed, knn, 30.0)
        numbers['judged']['half']['before']['teacher'] = dict(knn=10.0, linear=20.0)
        numbers['judged']['half']['after']['teacher'] = dict(knn=12.0, linear=20.0)
        (tmp_path / f'dino_{seed}.json').write_text(json.dumps(numbers))
    (tmp_path / 'mae.json').write_text(json.dumps(result('lightly:mae', 0, 21.0, 30.0)))
    drawn = []
    monkeypatch.setattr('contest.learned_figure.save_figure', lambda figure, path: drawn.append(figure))
    words = learning.parse_args(['plot', str(tmp_path), 'out.png', '--titles', 'half=fifty classes'])
    learning.draw_learned(learning.read_learned(Path(words.folder)), words.image, dict(words.titles))
    (axes,) = drawn[0].axes
    assert axes.get_title() == 'fifty classes'
    assert [label.get_text() for label in axes.get_yticklabels()] == ['lightly:mae', 'dino_vit-tiny_folder']
    lines = [[list(map(float, values)) for values in line.get_data()] for line in axes.get_lines()]
    assert [[10.0, 17.0], [1.0, 1.0]] in lines and [[16.0, 18.0], [1.0, 1.0]] in lines
    assert [[10.0, 21.0], [0.0, 0.0]] in lines
    with pytest.raises(SystemExit):
        learning.parse_args(['plot', str(tmp_path), 'out.png', '--titles', 'fifty classes'])


def test_what_has_a_file_is_not_trained_again(learning, images, monkeypatch, tmp_path):
    for seed in (0, 1):
        (tmp_path / f'dino_vit-tiny_folder_seed{seed}.json').write_text(json.dumps(result(DINO, seed, 16.0, 30.0)))
    started: list[list[str]] = []

    def failing(commands, seconds, at_once):
        assert seconds is None
        started.extend(commands)
        return [1] * len(commands)

    monkeypatch.setattr(learning, 'take_turns', failing)
    words = ['compare', DINO, '--data-root', str(images), '--seeds', '0,1,2', '--out', str(tmp_path)]
    words += ['--judge-root', 'here', 'there']
    with pytest.raises(UsageError, match='seed 2 failed'):
        learning.compare(learning.parse_args(words))
    [only] = started
    assert only[only.index('--seed') + 1] == '2' and '--seconds' in only
    where = only.index('--judge-root')
    assert only[where + 1 : where + 3] == ['here', 'there']


def test_methods_of_a_seed_take_turns(learning, images, monkeypatch, tmp_path):
    rounds: list[tuple[int, float | None, int]] = []

    def ending(commands, seconds, at_once):
        rounds.append((len(commands), seconds, at_once))
        for words in commands:
            method, seed, file = (words[words.index(word) + 1] for word in ('run', '--seed', '--out'))
            assert '--save' not in words or method == DINO
            Path(file).write_text(json.dumps(result(method, int(seed), 12.0, 30.0)))
        return [0] * len(commands)

    monkeypatch.setattr(learning, 'take_turns', ending)
    (tmp_path / 'lightly-mae_seed0.json').write_text(json.dumps(result('lightly:mae', 0, 12.0, 30.0)))
    words = ['compare', DINO, 'lightly:mae', 'lightly:dino', '--data-root', str(images), '--out', str(tmp_path)]
    words += ['--seeds', '0,1', '--save', 'weights']
    with pytest.raises(UsageError, match='--slice 20 is a time above 0, and goes with --clock cpu'):
        learning.compare(learning.parse_args([*words, '--slice', '20']))
    learning.compare(learning.parse_args([*words, '--slice', '20', '--clock', 'cpu']))
    assert rounds == [(2, 20.0, 1), (3, 20.0, 1)]
    rounds.clear()
    learning.compare(learning.parse_args([*words, '--seeds', '0,1,2']))
    assert rounds == [(1, None, 1)] * 3
    rounds.clear()
    with pytest.raises(UsageError, match='--at-once 2 is a number from 1 on, and above 1 goes with --slice'):
        learning.compare(learning.parse_args([*words, '--at-once', '2']))
    for file in tmp_path.glob('*_seed0.json'):
        file.unlink()
    learning.compare(learning.parse_args([*words, '--slice', '20', '--clock', 'cpu', '--at-once', '2']))
    assert rounds == [(3, 20.0, 2)]


def test_programs_run_one_at_a_time_and_to_their_ends(tmp_path):
    from contest.time_slices import take_turns

    log = tmp_path / 'log'
    # Each writes its name while it runs, and one has a process of its own that writes as well.
    write = 'import sys, time\nfor _ in range(30): open(sys.argv[1], "a").write(sys.argv[2]); time.sleep(0.02)\n'
    child = f'import subprocess, sys\nsys.exit(subprocess.call([sys.executable, "-c", {write!r}, *sys.argv[1:]]) + 3)\n'
    commands = [[sys.executable, '-c', code, str(log), name] for code, name in ((write, 'a'), (child, 'b'))]
    assert take_turns(commands, 0.15) == [0, 3]
    written = log.read_text()
    assert sorted(written) == ['a'] * 30 + ['b'] * 30
    changes = sum(one != other for one, other in itertools.pairwise(written))
    assert 2 <= changes < 20, written  # by turns, and not mixed


def test_every_program_runs_beside_every_other(monkeypatch):
    from contest import time_slices

    # With four, two at a time: a pair is followed by the other two, and each pair comes once in a round.
    assert time_slices.parties([0, 1, 2, 3], 2) == [(0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2)]
    assert time_slices.parties([4, 6, 8], 2) == [(4, 6), (6, 8), (4, 8)]
    assert time_slices.parties([5, 7], 1) == [(5,), (7,)] and time_slices.parties([3], 2) == [(3,)]

    running: set[int] = set()
    together: list[frozenset[int]] = []

    class Program:
        """Ends in its fourth turn, with its own number."""

        def __init__(self, words, start_new_session):
            assert start_new_session
            self.pid, self.turns = words[0], 0
            running.add(self.pid)

        def wait(self, timeout):
            assert 0 <= timeout <= 60
            self.turns += 1
            together.append(frozenset(running))
            if self.turns < 4:
                raise subprocess.TimeoutExpired('a program', timeout)
            running.discard(self.pid)
            return self.pid

    def killpg(pid, sent):
        {signal.SIGSTOP: running.discard, signal.SIGCONT: running.add}[sent](pid)

    monkeypatch.setattr(time_slices.subprocess, 'Popen', Program)
    monkeypatch.setattr(time_slices.os, 'killpg', killpg)
    assert time_slices.take_turns([[10], [11], [12]], 60, at_once=2) == [10, 11, 12]
    assert not running and len(together) == 12 and max(map(len, together)) == 2
    pairs = [sum(found == {*pair} for found in together) for pair in ((10, 11), (11, 12), (10, 12))]
    assert pairs == [2, 2, 2], together  # the first to end is waited for first: the other is alone by then


def test_what_takes_turns_is_ended_with_it(tmp_path, monkeypatch):
    from contest import time_slices

    class Interrupted(subprocess.Popen):
        def wait(self, timeout=None):
            if timeout is not None:
                raise KeyboardInterrupt
            return super().wait(timeout)

    started: list[subprocess.Popen] = []

    def popen(*words, **options):
        started.append(Interrupted(*words, **options))
        return started[-1]

    monkeypatch.setattr(time_slices.subprocess, 'Popen', popen)
    with pytest.raises(KeyboardInterrupt):
        time_slices.take_turns([[sys.executable, '-c', 'import time; time.sleep(60)']], 0.1)
    assert started[0].returncode == -9


def test_mistakes_are_answered(learning, images, tmp_path):
    words = ['compare', DINO, '--data-root', str(images), '--seeds', 'a', '--out', str(tmp_path)]
    with pytest.raises(UsageError, match='--seeds a'):
        learning.compare(learning.parse_args(words))
    with pytest.raises(UsageError, match='two folders of the same name'):
        learning.judges_of([str(images), str(images)])
    args = learning.parse_args(['run', 'lightly:nothing', '--data-root', str(images)])
    if importlib.util.find_spec('lightly'):
        with pytest.raises(UsageError, match='lightly:nothing is not known; there are lightly:dino'):
            learning.learner_of(args)
    else:
        with pytest.raises(UsageError, match='pip install lightly'):
            learning.learner_of(args)


@pytest.mark.parametrize('name', ['dino', 'simclr', 'ibot', 'mae', 'lejepa'])
def test_a_step_of_each_peer(learning, images, name, monkeypatch):
    pytest.importorskip('lightly')
    from contest import lightly_learner

    monkeypatch.setattr(lightly_learner, 'DEPTH', 1)
    kind = lightly_learner.PEERS[name]
    monkeypatch.setattr(kind, 'batch', 8)
    learner = kind(str(images), seed=0, workers=0, device='cpu', dtype='float32')
    before = {key: tensor.clone() for key, tensor in learner.student.state_dict().items()}
    batches = learner.batches()
    losses = [float(learner.step(next(batches), share)) for share in (0.05, 0.5)]
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    moved = [key for key, tensor in learner.student.state_dict().items() if not torch.equal(tensor, before[key])]
    assert any('blocks.0.attn.qkv' in key for key in moved)
    features = learner.networks()['student'](torch.zeros(2, 3, 64, 64))
    assert features.shape == (2, 192)


KEPT = Path(__file__).parents[1] / 'benchmarks' / 'results' / 'learning'


def test_the_page_of_results_has_the_tables_of_the_results_that_are_kept(learning):
    page = (KEPT.parents[2] / 'docs' / 'en' / 'results.md').read_text(encoding='utf-8')
    table = learning.table_of(learning.read_learned(KEPT))
    rows = [row for row in table.splitlines() if row.startswith('| ') and '---' not in row]
    assert len(rows) > 3
    assert [row for row in rows if row not in page] == []


def test_results_that_are_kept_name_no_place():
    for file in KEPT.glob('*.json'):
        result = json.loads(file.read_text(encoding='utf-8'))
        assert file.stem == f'{Path(result["method"]).stem.replace(":", "-")}_seed{result["seed"]}'
        assert '/tmp' not in file.read_text() and not Path(result['data']).is_absolute()
        assert result['seconds'] >= result['budget'] and result['judged'].keys() >= {result['data']}
