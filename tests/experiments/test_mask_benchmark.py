"""Several methods in one plan with measurements: order, resuming, and what the page says, without any training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mstkit.errors import UsageError
from mstkit.evaluation.image_hits import ImageHits, write_hits
from mstkit.experiments import FAILED, FINISHED, failures, run_jobs
from mstkit.experiments.cell_evaluations import CellEvaluation, check_measures, evaluations_of
from mstkit.experiments.mask_benchmark import Benchmark, results_of
from mstkit.experiments.mask_comparison import MaskComparison, caveat, compare_masks, overall
from mstkit.experiments.paired_bootstrap import Difference
from mstkit.models.maskers.random_twins import random_twin
from mstkit.report.report_sources import read_sources

from .toy_ablation import CONFIG, make, program

# In place of tools/evaluation/evaluate.py: `mst` has more images right than its twin, `block` as many as its own.
MEASURE = """
import sys
from pathlib import Path
import numpy as np
words = sys.argv[1:]
out, name = Path(words[words.index('--hits') + 1]), words[words.index('--suite') + 1]
seed = int(words[words.index('--seed') + 1])
with open(out / 'calls.txt', 'a') as calls:
    calls.write(' '.join(words) + '\\n')
if name == 'linear' and 'block' in words[0] and not (out.parent / 'allowed').exists():
    print('error: linear of block: no head')
    sys.exit(1)
random = np.random.default_rng(seed)
right = random.random(400) < 0.5
better = right | (random.random(400) < 0.3)
hits = better if words[0].endswith('mst/seed%d/epoch_2.pth' % seed) else right
if words[0].startswith('random:'):
    hits = random.random(400) < 0.1
lines = np.frombuffer('\\n'.join(f'{i}.png' for i in range(400)).encode(), np.uint8)
np.savez_compressed(out / f'{name}.npz', images=lines, hits=np.packbits(hits), count=np.array(400),
                    metric=np.array('k20_top1'))
"""


@pytest.fixture
def data(tmp_path) -> Path:
    for place in ('train/a', 'train/b', 'val/a', 'val/b'):
        (tmp_path / 'images' / place).mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(tmp_path / 'images' / place / '0.png')
    return tmp_path / 'images'


def benchmark(tmp_path: Path, data: Path, measures=('knn', 'linear'), names=('',), seeds=(0, 1), **more) -> Benchmark:
    (tmp_path / 'evaluate.py').write_text(MEASURE)
    text = CONFIG.replace(
        'train_dataset=scenes, val_dataset=scenes',
        f"train_dataset=dict(type='ImageFolder', data_root='{data}', split='train', pipeline=[]), "
        f"val_dataset=dict(type='ImageFolder', data_root='{data}', split='val', pipeline=[])",
    )
    work = tmp_path / 'work'
    plans = [
        make(
            tmp_path, text=text, masks=['block', 'mst', 'attmask-high'], seeds=seeds, random_twin=random_twin,
            name=name, work_dir=work / name,
        )
        for name in names
    ]  # fmt: skip
    jobs = [
        job
        for plan in plans
        for job in evaluations_of(plan, measures, more.get('settings', {}), 20, tmp_path / 'evaluate.py')
    ]
    return Benchmark(plans, jobs, work, 20)


def run(whole: Benchmark, tmp_path: Path) -> list[str]:
    said: list[str] = []
    whole.write_configs()
    run_jobs(whole.jobs, program(tmp_path), 2, lambda: None, said.append)  # a page for each job takes seconds
    whole.write_report()
    return said


def calls(job: CellEvaluation) -> int:
    file = job.folder / 'calls.txt'
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_from_the_plan_to_the_page_and_what_failed_again(tmp_path, data):
    whole = benchmark(tmp_path, data)
    names = [job.name for job in whole.jobs]
    assert names[:6] == [
        'random init, seed 0, knn', 'random init, seed 0, linear',
        'block, seed 0', 'block, seed 0, knn', 'block, seed 0, linear',
        'mst, seed 0',
    ]  # fmt: skip
    assert whole.plans[0].twins == {'block': 'random', 'mst': 'mst~random', 'attmask-high': 'random'}
    assert len(names) == 2 * (2 + 5 * 3)
    said = run(whole, tmp_path)
    assert any('no head' in line for line in said)
    assert failures(whole.jobs) == '2 of 34 jobs failed: block, seed 0, linear; block, seed 1, linear'
    page = (tmp_path / 'work' / 'ablation.md').read_text()
    first = page.split('\n\n')[1]
    assert first == (
        'Masks against random ones of the same count: k-NN: mst better, block and attmask-high not told apart; '
        'linear: mst better, attmask-high not told apart.'
    )
    assert '| block, seed 0, linear | 1 | linear of block: no head |' in page
    assert '![differences to random masks of the same count](ablation_differences.png)' in page
    assert '\n- mst, k-NN: better than random of the same count by ' in page
    assert 'With 2 seeds a bootstrap over seeds is too narrow' in page
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in page.splitlines() if line.startswith('|')]
    own = {row[0]: row for row in rows if len(row) == 7}
    assert own['choice'][1:] == ['compared with', 'k-NN, %', 'linear, %', 'hidden, %', 's per cell', 'seeds']
    assert own['mst'][1] == 'mst~random' and own['block'][3] == '–'
    assert own['random init'][1] == '–' and own['random init'][6] == '2'
    with open(tmp_path / 'work' / 'ablation_differences.csv') as file:
        found = {(row['choice'], row['measurement']): row for row in csv.DictReader(file)}
    assert float(found['mst', 'knn']['points']) > 10 and float(found['block', 'knn']['points']) == 0
    assert float(found['mst', 'knn']['p_corrected']) < 0.01 and found['mst', 'knn']['seeds'] == '0 1'
    with open(tmp_path / 'work' / 'ablation_measurements.csv') as file:
        measured = list(csv.DictReader(file))
    assert len(measured) == 24 and sum(row['status'] == FAILED for row in measured) == 2
    # The same command: only what failed runs again, and the page is that of a run without failures.
    before = {job.name: calls(job) for job in whole.evaluations}
    for job in whole.evaluations:
        (job.folder.parent / 'allowed').touch()
    again = benchmark(tmp_path, data)
    said = run(again, tmp_path)
    assert said[0] == '32 of 34 jobs are finished already' and failures(again.jobs) is None
    after = {job.name: calls(job) for job in again.evaluations}
    assert {name for name in after if after[name] > before[name]} == {'block, seed 0, linear', 'block, seed 1, linear'}
    assert (
        'linear: mst better, block and attmask-high not told apart' in (tmp_path / 'work' / 'ablation.md').read_text()
    )
    assert again.remaining() == 'everything is finished'


def test_several_methods_have_a_folder_each_and_one_page(tmp_path, data):
    whole = benchmark(tmp_path, data, ['knn'], names=('one', 'two'), seeds=(0,))
    assert whole.jobs[0].name == 'one, random init, seed 0, knn' and len({job.name for job in whole.jobs}) == 22
    assert whole.plans[1].cells[0].folder == tmp_path / 'work' / 'two' / 'block' / 'seed0'
    assert whole.remaining() == '22 to do; how long they take is known once one of each kind is finished'
    run(whole, tmp_path)
    page = (tmp_path / 'work' / 'ablation.md').read_text()
    assert page.startswith('# Masks compared in one, two\n\none: Masks against random ones')
    assert '| two | mst | mst~random |' in page and 'There is one seed' in page
    assert (tmp_path / 'work' / 'one' / 'ablation.md').read_text().startswith('# Ablation of ')
    comparisons = read_sources([tmp_path / 'work'])
    assert [one.title for one in comparisons] == ['Ablation work: one', 'Ablation work: two']
    assert [one.page for one in comparisons] == [tmp_path / 'work' / 'ablation.md', None]
    assert len(comparisons[0].groups) == 5


def test_a_cell_that_failed_is_not_measured(tmp_path, data):
    whole = benchmark(tmp_path, data, ['knn'], seeds=(0,))
    broken = whole.plans[0].cells[0]
    text = broken.config
    whole.write_configs()
    text.write_text(text.read_text().replace('lr=0.001', 'lr=2'))
    said: list[str] = []
    run_jobs(whole.jobs, program(tmp_path), 1, lambda: None, said.append)
    assert any('block, seed 0, knn: left out, because block, seed 0 failed' in line for line in said)
    assert broken.record()['status'] == FAILED
    assert [job.record().get('status') for job in whole.evaluations] == [FINISHED, None, *[FINISHED] * 4]


def test_other_settings_are_measured_beside_the_first(tmp_path, data):
    (first, *_) = benchmark(tmp_path, data, ['finetune'], seeds=(0,)).evaluations
    (other, *_) = benchmark(tmp_path, data, ['finetune'], seeds=(0,), settings={'finetune.epochs': 3}).evaluations
    assert first.folder.name == 'finetune' and other.folder.name.startswith('finetune-')
    assert other.arguments[other.arguments.index('--set') + 1] == 'finetune.epochs=3' and '--set' not in first.arguments
    (linear, *_) = benchmark(tmp_path, data, ['linear'], seeds=(0,)).evaluations
    start = linear.arguments.index('--set')
    assert linear.arguments[start + 1 : start + 3] == ['linear.preset=sweep', 'linear.held_out=0.2']
    assert '--branch' not in first.arguments and first.arguments[0].startswith('random:')


@pytest.mark.parametrize(
    ('names', 'settings', 'says'),
    [
        (['knm'], {}, "--measure knm: there is no evaluation 'knm'. Did you mean knn"),
        (['knn', 'cluster'], {}, '--measure cluster: it does not say which images are right'),
        (['knn'], {'knn.kk': 1}, "knn has no setting 'kk'"),
        (['knn'], {'finetune.epochs': 1}, 'finetune.epochs is set'),
    ],
)
def test_what_cannot_be_measured_is_refused(names, settings, says):
    with pytest.raises(UsageError, match=says):
        check_measures(names, settings)


def test_images_that_are_no_folder_are_refused(tmp_path):
    plan = make(tmp_path, 'model.masker=mst')
    with pytest.raises(UsageError, match=r'the images of .*base\.py are of BuiltinScenes'):
        evaluations_of(plan, ['knn'], {}, 20, tmp_path / 'evaluate.py')


def test_hits_of_other_images_are_not_compared(tmp_path, data):
    whole = benchmark(tmp_path, data, ['knn'], seeds=(0,))
    for number, job in enumerate(whole.evaluations):
        job.write(status=FINISHED, seconds=1.0)
        write_hits(job.hits_file, ImageHits((f'{number}.png', 'b.png'), np.array([True, False]), 'k20_top1'))
    with pytest.raises(UsageError, match='are of the same validation images'):
        compare_masks(results_of(whole.plans[0], whole.evaluations, 20))


def found(choice: str, points: float, half: float, p: float, measure: str = 'knn') -> MaskComparison:
    difference = Difference(points, points - half, points + half, p, (points, points), points - 9, points + 9, 100)
    return MaskComparison('', choice, 'random', measure, (0, 1), difference, p)


def test_verdicts_in_words():
    better, worse, same = found('a', 1.24, 0.8, 0.01), found('b', -2.0, 1.0, 0.001), found('c', -0.04, 1.0, 0.9)
    assert better.words() == (
        'better than random of the same count by 1.2 points [0.4, 2.0]; its seeds alone would not say so'
    )
    assert worse.words().startswith('worse than random of the same count by 2.0 points [−3.0, −1.0]')
    assert same.words() == 'not told apart from random of the same count (0.0 points [−1.0, 1.0])'
    single = MaskComparison('', 'a', 'random', 'knn', (0,), Difference(2, 1, 3, 0.01, (2,), None, None, 100), 0.01)
    assert single.words() == 'better than random of the same count by 2.0 points [1.0, 3.0], with one seed'
    many = [found(name, 0.1, 1, 0.5, 'linear') for name in 'abc']
    assert overall([better, worse, same, *many]) == (
        'Masks against random ones of the same count: k-NN: a better, b worse, c not told apart; '
        'linear: all 3 not told apart.'
    )
    assert overall([better, *(found(name, 0.1, 1, 0.5) for name in 'bcd')]).endswith('the other 3 not told apart.')


def test_what_few_seeds_cannot_show_is_said_of_each_number_of_them():
    two = found('a', 1.24, 0.8, 0.01)
    single = MaskComparison('', 'b', 'random', 'knn', (0,), Difference(2, 1, 3, 0.01, (2,), None, None, 100), 0.01)
    assert 'There is one seed: the interval' in caveat([single]) and 'seeds a bootstrap' not in caveat([single])
    assert 'With 2 seeds a bootstrap' in caveat([two]) and 'one seed' not in caveat([two])
    both = caveat([single, two])
    assert 'Where there is one seed, the interval is over' in both and 'With 2 seeds a bootstrap' in both
    three = MaskComparison('', 'b', 'random', 'knn', (0, 1, 2), two.difference, 0.01)
    assert 'With 2 or 3 seeds a bootstrap' in caveat([three, two])
