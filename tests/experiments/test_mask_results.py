"""The file of what an ablation of masks has measured: read back, joined with others, or refused."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest

from mstkit.commands import compare_masks_command
from mstkit.errors import UsageError
from mstkit.evaluation.image_hits import ImageHits
from mstkit.experiments.mask_results import MaskResults, TrainedCell, join_results, read_results, write_results

from .test_mask_benchmark import benchmark, data, run  # noqa: F401  (data is a fixture)

IMAGES = tuple(f'class/{number}.png' for number in range(13))


def results(seeds=(0,), config='mae', flip=0, **more) -> MaskResults:
    hits = {
        (measure, network, seed): ImageHits(
            more.get('images', IMAGES), np.random.default_rng([seed, len(network), flip]).random(13) < 0.5, 'top1'
        )
        for seed in seeds
        for network in ('block', 'random', 'random init')
        for measure in ('knn', 'linear')
    }
    trained = {(name, seed): TrainedCell(0.75, 3.5 + seed) for name in ('block', 'random') for seed in seeds}
    settings = dict(block='b', random='r', knn='k', linear='l') | more.get('settings', {})
    twins = more.get('twins', {'block': 'random'})
    return MaskResults(config, ('block', 'random', 'random init'), twins, settings, hits, trained)


def same(one: MaskResults, other: MaskResults) -> bool:
    return (
        (one.config, one.networks, one.twins, one.settings, one.trained)
        == (other.config, other.networks, other.twins, other.settings, other.trained)
        and set(one.hits) == set(other.hits)
        and all(
            (found.images, found.metric) == (other.hits[key].images, other.hits[key].metric)
            and np.array_equal(found.hits, other.hits[key].hits)
            for key, found in one.hits.items()
        )
    )


def test_what_is_written_is_read(tmp_path):
    # Cells that are trained but not measured, unknown shares, and names beyond ASCII.
    for number, found in enumerate(
        [
            results(),
            results((0, 1)),
            MaskResults('mae', ('block',), {}, {}, {}, {('block', 3): TrainedCell(None, None)}),
            results(images=tuple(f'Äpfel/{number}.png' for number in range(13))),
        ]
    ):
        file = tmp_path / f'{number}.json'
        write_results(file, found)
        back = read_results(file)
        assert same(found, back)


def test_a_file_of_hits_of_different_images_is_not_written(tmp_path):
    one, other = results((0,)), results((1,), images=IMAGES[::-1])
    mixed = MaskResults('mae', one.networks, one.twins, one.settings, {**one.hits, **other.hits}, {})
    with pytest.raises(UsageError, match='different validation images'):
        write_results(tmp_path / 'mixed.json', mixed)
    assert not (tmp_path / 'mixed.json').exists()


@pytest.mark.parametrize(
    'change',
    [
        lambda content: content.pop('networks'),
        lambda content: content.update(format=2),
        lambda content: content.update(format='1'),
        lambda content: content.update(networks=[]),
        lambda content: content['images'].extend('abcdefgh'),
        lambda content: content['networks']['block']['0']['right'].update(knn='####'),
        lambda content: content['networks']['block']['0']['right'].update(other='AAA='),
        lambda content: content['networks']['block'].update(first=content['networks']['block']['0']),
        lambda content: content['networks']['block']['0'].update(seconds='long'),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change):
    file = tmp_path / 'ablation_hits.json'
    write_results(file, results())
    read_results(file)
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r'ablation_hits\.json is no file of results of masks'):
        read_results(file)


@pytest.mark.parametrize('text', ['', '[]', '{"format": 1}', '[' * 100000])
def test_another_file_is_refused(tmp_path, text):
    file = tmp_path / 'other.json'
    file.write_text(text)
    with pytest.raises(UsageError, match='is no file of results of masks'):
        read_results(file)
    with pytest.raises(UsageError, match='is no file of results of masks'):
        read_results(tmp_path / 'missing.json')


def test_seeds_are_joined_in_order_and_configs_stand_beside_each_other():
    (joined,) = join_results({'b': results((1, 3)), 'a': results((0,)), 'c': results((3,))})
    assert joined.seeds == [0, 1, 3] and joined.method == ''
    assert joined.accuracies('block', 'knn') == results((0, 1, 3)).accuracies('block', 'knn')
    assert [cell.seconds for cell in joined.cells('block')] == [4.5, 6.5, 3.5]
    methods = join_results({'a': results(), 'b': results(config='ibot')})
    assert [one.method for one in methods] == ['mae', 'ibot']


@pytest.mark.parametrize(
    ('other', 'says'),
    [
        (results((1,), settings={'block': 'other'}), 'what block was made with is not the same in both'),
        (results((1,), settings={'knn': 'other'}), 'what knn was made with is not the same'),
        (results((1,), twins={'block': 'block~random'}), 'the twin of block is not the same'),
        (results((1,), images=IMAGES[::-1]), 'the list of validation images is not the same'),
        (results((0,), flip=1), 'knn of block with seed 0 is not the same'),
    ],
)
def test_what_does_not_belong_together_is_refused(other, says):
    with pytest.raises(UsageError, match=f'one and two do not belong together: {says}'):
        join_results({'one': results((0,)), 'two': other})


def test_seeds_of_two_machines_give_the_page_of_one(tmp_path, data, monkeypatch, capsys):  # noqa: F811
    for name, seeds in (('one', (0,)), ('two', (1,)), ('both', (0, 1))):
        (tmp_path / name).mkdir()
        whole = benchmark(tmp_path / name, data, seeds=seeds)
        for job in whole.evaluations:
            job.folder.parent.mkdir(parents=True, exist_ok=True)
            (job.folder.parent / 'allowed').touch()  # else a measurement of block fails
        run(whole, tmp_path / name)
    files = [tmp_path / name / 'work' / 'ablation_hits.json' for name in ('one', 'two')]
    assert not any(str(tmp_path) in file.read_text() for file in files)
    out = tmp_path / 'out'
    monkeypatch.setattr(sys, 'argv', ['compare-masks', *map(str, files), '--out', str(out)])
    compare_masks_command.main()
    assert 'mst better, block and attmask-high not told apart' in capsys.readouterr().out
    folders = (out, tmp_path / 'both' / 'work')
    rows = [list(csv.DictReader((folder / 'ablation_differences.csv').open())) for folder in folders]
    assert rows[0] == rows[1] and len(rows[0]) == 6
    joined, both = (read_results(folder / 'ablation_hits.json') for folder in folders)
    assert joined.seeds == both.seeds == [0, 1] and joined.networks == both.networks
    assert joined.settings == both.settings
    assert (out / 'ablation_differences.png').stat().st_size > 1000
    page = (out / 'ablation.md').read_text()
    assert page.startswith('# Masks compared in base\n\nMasks against random ones')
    assert '\n| random init | ' in page and 'With 2 seeds' in page


def test_the_command_refuses_a_file_given_twice_and_one_without_measurements(tmp_path, monkeypatch, capsys):
    file = tmp_path / 'ablation_hits.json'
    write_results(file, MaskResults('mae', ('block',), {}, {}, {}, {}))
    for words, says in (([file, file], 'given twice'), ([file], 'no measurement is finished')):
        monkeypatch.setattr(sys, 'argv', ['compare-masks', *map(str, words), '--out', str(tmp_path / 'out')])
        with pytest.raises(SystemExit) as stop:
            compare_masks_command.main()
        assert stop.value.code == 2 and says in capsys.readouterr().err
