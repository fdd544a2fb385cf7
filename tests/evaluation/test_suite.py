from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mstkit.errors import UsageError
from mstkit.evaluation import EvaluatedNetwork
from mstkit.evaluation.evaluators import KNNEvaluator, LowShotEvaluator
from mstkit.evaluation.suite import SuiteResult, build_suite, known_evaluations, run_suite, settings_by_evaluation
from mstkit.evaluation.suite_files import file_beside, is_work_dir, write_beside, write_results
from mstkit.evaluation.suite_table import markdown_table, number, plain_table
from mstkit.registry import EVALUATORS
from mstkit.visualization.dot_plot import draw_dots

from .evaluated_networks import evaluated_of, make_folders


@pytest.fixture
def broken() -> Iterator[str]:
    """The name of an evaluation that fails."""

    class Broken:
        def check(self, evaluated: EvaluatedNetwork) -> None:
            pass

        def __call__(self, evaluated: EvaluatedNetwork) -> dict[str, float]:
            raise ZeroDivisionError('no luck')

    EVALUATORS.register_module(name='broken', module=Broken)
    yield 'broken'
    EVALUATORS.module_dict.pop('broken')


def result_of(name: str = 'a', **values: object) -> SuiteResult:
    given = dict(source='a.pth', branch='', fingerprint='f', train='t', val='v', seed=0) | values
    return SuiteResult(name, **given)


def test_a_suite_is_built_from_names_and_settings() -> None:
    assert {'cluster', 'knn', 'lowshot'} <= set(known_evaluations())
    suite = build_suite(['lowshot', 'knn', 'knn'], {'knn.ks': [3, 5], 'lowshot.runs': 2, 'knn.temperature': 0.1})
    assert list(suite) == ['lowshot', 'knn']
    knn, lowshot = suite['knn'], suite['lowshot']
    assert isinstance(knn, KNNEvaluator) and isinstance(lowshot, LowShotEvaluator)
    assert (knn.ks, knn.temperature, lowshot.runs) == ((3, 5), 0.1, 2)
    assert build_suite(['knn'], {'knn.ks': 7})['knn'].ks == (7,)  # type: ignore[attr-defined]
    assert settings_by_evaluation({'a.b': 1, 'a.c': 2}) == {'a': {'b': 1, 'c': 2}}


@pytest.mark.parametrize(
    ('names', 'settings', 'says'),
    [
        ([], {}, 'no evaluation was named; there are .*cluster'),
        (['knm'], {}, "no evaluation 'knm', only .*cluster, depth, finetune, keypoints, knn.* Did you mean knn"),
        (['knn'], {'ks': 3}, "'ks' names no setting"),
        (['knn'], {'knn.k': 3}, "knn has no setting 'k', only ks, temperature.* Did you mean ks"),
        (['knn'], {'lowshot.runs': 3}, "lowshot.runs is set, but the suite has no evaluation 'lowshot', only knn"),
        (['knn'], {'knn.ks': [0]}, r'ks\[0\] is 0'),
        (['knn'], {'knn.temperature': 'hot'}, "knn.temperature is 'hot'"),
        (['cluster'], {'cluster.restarts': -1}, 'cluster.restarts is -1'),
    ],
)
def test_mistakes(names: list[str], settings: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        build_suite(names, settings)


def test_more_neighbors_than_images_are_refused_if_they_were_asked_for(tmp_path: Path) -> None:
    evaluated = evaluated_of(make_folders(tmp_path))
    with pytest.raises(UsageError, match='asks for 25 neighbors, but train has 24 images'):
        KNNEvaluator(ks=[3, 25]).check(evaluated)
    found = KNNEvaluator()(evaluated)
    assert set(found) == {'k10_top1', 'k20_top1', 'k24_top1'}
    assert next(iter(found)) == 'k20_top1'
    assert next(iter(KNNEvaluator(ks=[3, 5])(evaluated))) == 'k5_top1'


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path, broken: str) -> None:
    evaluated, seen = evaluated_of(make_folders(tmp_path)), []
    suite = build_suite(['cluster', broken, 'knn'])
    result = run_suite(suite, evaluated, result_of(), lambda result: seen.append(len(result.metrics)))
    assert list(result.metrics) == ['cluster', 'knn']
    assert result.failed == {'broken': 'ZeroDivisionError: no luck'}
    assert seen == [1, 1, 2]
    assert result.headlines == {'cluster': ['accuracy'], 'knn': ['k20_top1']}
    assert result.metrics['knn'] == KNNEvaluator()(evaluated)


def results() -> list[SuiteResult]:
    one = result_of(
        'one',
        metrics={'knn': {'k20_top1': 51.234, 'k10_top1': 50.0, 'lr1/top1': 7.0}, 'few': {'x': 3.14159, 'x_std': 0.25}},
    )
    two = result_of('t|wo', metrics={'knn': {'k20_top1': 60.0}}, failed={'few': 'RuntimeError: why', 'linear': 'gone'})
    return [one, two]


def test_tables() -> None:
    assert markdown_table(results()).splitlines() == [
        r'| evaluation | metric | one | t\|wo |',
        '| --- | --- | ---: | ---: |',
        '| knn | k20_top1 | 51.23 | 60.00 |',
        '| knn | k10_top1 | 50.00 | – |',
        '| few | x | 3.14 ± 0.25 | failed |',
        '| linear |  | – | failed |',
    ]
    assert plain_table(results()).splitlines() == [
        'evaluation  metric            one    t|wo',
        'knn         k20_top1        51.23   60.00',
        'knn         k10_top1        50.00       –',
        'few         x         3.14 ± 0.25  failed',
        'linear                          –  failed',
    ]
    values = (0.0, 0.00031415926, 0.5, -12.346, 100.0)
    assert [number(value) for value in values] == ['0.00', '0.0003142', '0.5', '-12.35', '100.00']


def test_files_beside_a_checkpoint_grow_with_every_suite(tmp_path: Path) -> None:
    checkpoint = tmp_path / 'epoch_3.pth'
    assert not is_work_dir(tmp_path)
    (tmp_path / '20260101_000000' / 'vis_data').mkdir(parents=True)
    assert is_work_dir(tmp_path)
    first = result_of(branch='teacher', metrics={'knn': {'a': 1.0}}, failed={'linear': 'x', 'few': 'y'})
    path = write_beside(checkpoint, first)
    assert path == file_beside(checkpoint, first)
    assert path.parent == tmp_path / 'evaluation'
    assert path.name.startswith('epoch_3-teacher-')
    second = result_of(branch='teacher', metrics={'linear': {'b': 2.0}}, failed={'knn': 'z'})
    assert write_beside(checkpoint, second) == path
    content = json.loads(path.read_text())
    assert content['metrics'] == {'knn': {'a': 1.0}, 'linear': {'b': 2.0}}
    assert content['failed'] == {'few': 'y', 'knn': 'z'}
    assert {'source', 'branch', 'train', 'val', 'date', 'seed', 'fingerprint'} <= set(content)
    # Other weights: what was measured about the old ones goes.
    write_beside(checkpoint, result_of(branch='teacher', fingerprint='g', metrics={'few': {'c': 3.0}}))
    content = json.loads(path.read_text())
    assert content['metrics'] == {'few': {'c': 3.0}}
    assert content['failed'] == {}
    # Other images, another seed or another branch: another file.
    for change in (dict(val='w'), dict(seed=1), dict(branch='student')):
        assert file_beside(checkpoint, result_of(**({'branch': 'teacher'} | change))) != path
    path.write_text('{"metrics"')
    write_beside(checkpoint, first)
    assert json.loads(path.read_text())['metrics'] == {'knn': {'a': 1.0}}


def test_results_are_a_list(tmp_path: Path) -> None:
    write_results(results(), tmp_path / 'results.json')
    one, two = json.loads((tmp_path / 'results.json').read_text())
    assert one['metrics']['few'] == {'x': 3.14159, 'x_std': 0.25}
    assert two['failed']['linear'] == 'gone'


def test_the_image_has_a_dot_for_every_number(tmp_path: Path) -> None:
    """Their colors are in it, and one without numbers is not."""
    rows = {'knn: top-1': {'a': 40.0, 'b': 60.0}, 'linear: top-1': {'b': 70.0}}
    draw_dots(rows, ['a', 'b'], tmp_path / 'x.png', deviations={'knn: top-1': {'a': 3.0}})

    def count(image: str, color: tuple[int, int, int]) -> int:
        pixels = np.asarray(Image.open(tmp_path / image).convert('RGB')).astype(int)
        return int((np.abs(pixels - color).sum(axis=2) < 30).sum())

    blue, orange = (0, 0x72, 0xB2), (0xD5, 0x5E, 0)
    both = [count('x.png', color) for color in (blue, orange)]
    draw_dots({'knn: top-1': {'b': 60.0}}, ['a', 'b'], tmp_path / 'y.png')
    fewer = [count('y.png', color) for color in (blue, orange)]
    assert both[0] > fewer[0] > 0  # the legend keeps its mark
    assert both[1] > fewer[1] > 0
    with pytest.raises(UsageError, match='xyz: give a name that ends with one of'):
        draw_dots(rows, ['a', 'b'], tmp_path / 'x.xyz')
