"""Values that are chosen by the number of images and steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mstkit.engine.config.config_options import apply_options
from mstkit.engine.config.fitted_values import RULES, RunSize, batch, fit, momentum, prototypes, warmup
from mstkit.engine.launch.launch import load_config, read_config
from mstkit.errors import UsageError
from mstkit.experiments.variations import expand, parse_axes

ROOT = Path(__file__).resolve().parents[2]
RECIPE = 'configs/mst/mst_vit-tiny_folder.py'


def folder(path: Path, images: int) -> Path:
    for split, count in (('train', images), ('val', 4)):
        for index in range(count):
            file = path / split / str(index % 2) / f'{index}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), index % 255, np.uint8)).save(file)
    return path


@pytest.mark.parametrize(
    'images, epochs, expected',
    [
        (100, 10, 32),  # never fewer
        (2934, 100, 256),
        (2934, 22, 64),  # 64,548 samples: 1,000 steps of 64, 500 of 128
        (15000, 4, 64),
        (15000, 3, 32),  # 45,000 are not enough for 750 steps of 64
        (1_281_167, 100, 256),
        (300, 10_000, 32),  # eight steps in an epoch
    ],
)
def test_batches_leave_750_steps(images, epochs, expected):
    assert batch(RunSize(images, epochs)) == expected


def test_a_batch_is_shared_by_the_processes():
    assert batch(RunSize(2934, 100, processes=4)) == 64
    assert RunSize(2934, 100, processes=4, batch=64).steps == 2934 // 256 * 100


def test_rules_rise_with_the_size_and_stay_in_their_range():
    sizes = [RunSize(images, 20, batch=64) for images in (10, 1000, 10_000, 100_000, 10**7)]
    assert [prototypes(size) for size in sizes] == sorted(prototypes(size) for size in sizes)
    assert (prototypes(sizes[0]), prototypes(RunSize(15_000, 4)), prototypes(sizes[-1])) == (256, 1024, 4096)
    assert [momentum(size) for size in sizes] == sorted(momentum(size) for size in sizes)
    assert momentum(sizes[0]) == 0.97 and momentum(sizes[-1]) == 0.996
    assert momentum(RunSize(1024, 50, batch=64)) == 0.9875
    assert warmup(sizes[0]) == 2.0


def test_a_recipe_is_fitted_at_the_start_and_says_so(tmp_path):
    config, notes = load_config(RECIPE, data_root=str(folder(tmp_path, 48)), epochs=20)
    [note] = [note for note in notes if note.startswith('fitted to')]
    assert note.startswith('fitted to 48 images and 20 epochs (20 steps): ')
    assert 'fitted' not in config
    assert config.train_dataloader.batch_size == 32
    assert f'model.neck.out_dim={config.model.neck.out_dim}' in note


def test_the_launcher_says_how_many_processes_share_a_batch(tmp_path, monkeypatch):
    monkeypatch.setenv('SLURM_NTASKS', '4')
    root = str(folder(tmp_path, 48))
    for launcher, expected in (('slurm', 8), ('none', 32), ('pytorch', 32)):
        config, _ = load_config(RECIPE, data_root=root, epochs=20, launcher=launcher)
        assert config.train_dataloader.batch_size == expected


def test_what_a_user_gives_stays(tmp_path):
    root = str(folder(tmp_path, 48))
    options = {'model.neck.out_dim': 777, 'train_dataloader.batch_size': 16}
    config, notes = load_config(RECIPE, options, root, epochs=20)
    assert (config.model.neck.out_dim, config.train_dataloader.batch_size) == (777, 16)
    [note] = [note for note in notes if note.startswith('fitted to')]
    assert 'out_dim' not in note and 'batch_size' not in note and 'model.teacher.momentum=' in note


def test_a_replaced_component_takes_its_values_along():
    config = read_config(RECIPE)
    apply_options(config, {'model.neck.type': 'DINONeck'})
    assert 'model.neck.out_dim' in config.fitted.prototypes  # the same class, only its argument was not given
    choice = expand(parse_axes(['model.neck.out_dim=64,128'], config, {}))[0]
    assert 'model.neck.out_dim' not in choice.applied_to(config).fitted.prototypes
    assert 'model.neck.out_dim' in config.fitted.prototypes


def test_where_the_number_of_images_is_unknown_nothing_changes(tmp_path):
    root = str(folder(tmp_path, 48))
    options = {'train_dataloader.dataset.max_per_class': 3}
    config, notes = load_config(RECIPE, options, root, epochs=20)
    assert any('not known before ImageFolder is built' in note for note in notes)
    assert config.train_dataloader.batch_size == read_config(RECIPE).train_dataloader.batch_size


FITTED = [
    path
    for path in sorted((ROOT / 'configs').rglob('*.py'))
    if '_base_' not in path.parts and path.stem.endswith(('_folder', '_fruit')) and read_config(path).get('fitted')
]


@pytest.mark.parametrize('path', FITTED, ids=lambda path: path.stem)
@pytest.mark.parametrize('limit', [None, 3])
def test_a_run_of_one_epoch_keeps_a_schedule(path, limit, tmp_path):
    """Its warm-up is a part of that epoch, whether the rules know the number of images or not."""
    options = {'train_dataloader.dataset.max_per_class': limit} if limit else {}
    config, _ = load_config(path, options, str(folder(tmp_path, 48)), epochs=1)
    phases = [(one.type, one.begin, one.end) for one in config.param_scheduler]
    own = read_config(path)  # whose share of the run it keeps where the rules do not know the images
    share = round(own.param_scheduler[0].end / own.train_cfg.max_epochs, 3) if limit else 0.1
    assert phases == [('LinearLR', 0, share), ('CosineAnnealingLR', share, 1)] and 0.05 < share < 0.2


@pytest.mark.parametrize(
    'fitted, message',
    [
        (dict(batches=['train_dataloader.batch_size']), 'fitted.batches is no rule.*batch'),
        (dict(batch=['train_dataloader.batch']), 'names train_dataloader.batch, which the config does not have'),
    ],
)
def test_mistakes_in_a_config_are_answered(fitted, message):
    config = Config(dict(fitted=fitted, train_dataloader=dict(batch_size=4)))
    with pytest.raises(UsageError, match=message):
        fit(config)


def test_every_rule_is_used_by_a_recipe():
    used = {name for name, paths in read_config(RECIPE).fitted.items() if paths}
    assert used == set(RULES)
