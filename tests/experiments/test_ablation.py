"""From the command line to cells: their folders, configs and command lines, and what is refused before any starts."""

from __future__ import annotations

import json
import shlex

import pytest
from mmengine.config import Config

from mstkit.errors import UsageError
from mstkit.experiments import FINISHED

from .toy_ablation import CONFIG, make

LR = 'optim_wrapper.optimizer.lr'


def test_cells_go_seed_by_seed_each_in_its_own_folder(tmp_path):
    plan = make(tmp_path, 'model.masker=none,mst', seeds=(0, 2))
    assert [cell.name for cell in plan.cells] == ['none, seed 0', 'mst, seed 0', 'none, seed 2', 'mst, seed 2']
    assert plan.cells[3].folder == tmp_path / 'work' / 'mst' / 'seed2'
    assert list(plan.configs) == ['none', 'mst']
    assert [cell.hides_nothing for cell in plan.cells[:2]] == [True, False]
    assert {cell.length for cell in plan.cells} == {2}
    assert not (tmp_path / 'work').exists(), 'a plan writes nothing'


def test_a_cells_config_stands_alone(tmp_path):
    """What the printed command reads is the base config, the overrides and the choice, and nothing else."""
    plan = make(tmp_path, 'model.masker=random-matched', f'{LR}=0.1', cfg_options={'train_dataloader.batch_size': 9})
    plan.write_configs()
    (cell,) = plan.cells
    written, expected = Config.fromfile(cell.config), Config.fromstring(CONFIG, '.py')
    expected.model.masker = dict(type='RandomMasker', prob=0.0125)
    expected.optim_wrapper.optimizer.lr = 0.1
    expected.train_dataloader.batch_size = 9
    expected.default_hooks.knn.required = True  # rather no cell than one without accuracies
    assert written.to_dict() == expected.to_dict()
    assert cell.config.read_text().startswith(f'# {tmp_path / "base.py"} with model.masker=random-matched, {LR}=0.1;')


def test_options_are_passed_on(tmp_path):
    plan = make(tmp_path, 'model.masker=mst', seeds=(4,), epochs=7, amp=True, auto_scale_lr=True)
    (cell,) = plan.cells
    words = shlex.split(cell.command('tools/train.py', {'OMP_NUM_THREADS': '2'}))
    assert words[:4] == ['OMP_NUM_THREADS=2', 'python', 'tools/train.py', str(cell.config)]
    assert words[4:8] == ['--seed', '4', '--work-dir', str(cell.folder)]
    assert words[8:] == ['--epochs', '7', '--auto-scale-lr', '--amp']
    assert cell.length == 7


def test_the_length_can_be_varied(tmp_path):
    plan = make(tmp_path, 'train_cfg.max_epochs=4,8')
    assert [cell.length for cell in plan.cells] == [4, 8]
    lengths = [config.param_scheduler[-1].end for config in plan.configs.values()]
    assert lengths == [4, 8], 'schedules follow'


@pytest.mark.parametrize(
    ('vary', 'more', 'message'),
    [
        (['model.masker=mts'], {}, 'Did you mean mst'),
        (['model.maskr=mst'], {}, r'Did you mean model\.masker'),
        (['model.masker=mst'], dict(k=7), r'--k 7: .*base\.py measures k-NN with 1, 20'),
        (['model.masker=mst'], dict(text=CONFIG.replace('KNNHook', 'PanelHook')), 'no KNNHook'),
        (['model.masker=mst'], dict(cfg_options={'model.masker.num': 3}), r'--cfg-options model\.masker\.num'),
        (['train_cfg.max_epochs=1,2'], dict(epochs=3), '--epochs 3'),
        (['model.masker=mst'], dict(epochs=0), '--epochs is a whole number'),
        (['model.masker=mst'], dict(data_root='nowhere'), 'nowhere'),
        (['model.masker=mst'], dict(text=CONFIG.replace("'BuiltinScenes'", "'ImageFolder', data_root='gone'")), 'gone'),
    ],
)
def test_mistakes_are_found_before_anything_starts(tmp_path, vary, more, message):
    with pytest.raises(UsageError, match=message):
        make(tmp_path, *vary, **more)
    assert not (tmp_path / 'work').exists()


def test_a_folder_with_other_cells_is_refused(tmp_path):
    """A finished cell of other settings must not be taken for one of these, nor a stranger's run be gone on with."""
    (cell,) = make(tmp_path, 'model.masker=mst').cells
    cell.write(status=FINISHED)
    assert make(tmp_path, 'model.masker=none,mst', seeds=(0, 1)), 'more choices and seeds are no other settings'
    with pytest.raises(UsageError, match='other settings'):
        make(tmp_path, 'model.masker=mst', epochs=3)
    (cell.folder / 'cell.json').unlink()
    (cell.folder / 'epoch_1.pth').touch()
    with pytest.raises(UsageError, match=r'a run without cell\.json'):
        make(tmp_path, 'model.masker=mst')
    (cell.folder / 'cell.json').write_text('{"status": "')
    with pytest.raises(UsageError, match='not a record of a cell'):
        make(tmp_path, 'model.masker=mst')


def test_a_failed_cell_may_be_mended(tmp_path):
    (cell,) = make(tmp_path, 'model.masker=mst').cells
    cell.write(status='failed', seconds=1)
    (again,) = make(tmp_path, 'model.masker=mst', cfg_options={LR: 0.5}).cells
    assert again.fingerprint != cell.fingerprint
    assert json.loads((cell.folder / 'cell.json').read_text())['choice'] == {'model.masker': 'mst'}
