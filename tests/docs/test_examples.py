"""The files and programs in the documentation run, and do what is said of them."""

from __future__ import annotations

import importlib
import json
import pickle
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.datasets import SampleKey
from mstkit.engine.launch.launch import build_runner, load_config
from mstkit.errors import UsageError
from mstkit.evaluation.features import check_labeled
from mstkit.evaluation.suite import build_suite
from mstkit.registry import DATASETS, MODELS

from ..evaluation.evaluated_networks import evaluated_of, make_folders
from ..models.builders import mst
from .pages import FOLDER_CONFIG, ROOT, blocks, named_files, tool


def test_the_files_are_all_looked_at():
    assert set(named_files()) == {
        'checkerboard_masker.py',
        'test_checkerboard_masker.py',
        'class_means.py',
        'test_class_means.py',
        'brightness.py',
        'test_brightness.py',
        'configs/simmim/simmim_vit-nano_scenes_brightness.py',
        'masked_conv_mixer.py',
        'test_masked_conv_mixer.py',
        'configs/mst/mst_conv-mixer_scenes.py',
        'patch_color.py',
        'test_patch_color.py',
        'configs/color/color_vit-nano_scenes.py',
        'configs/demo/mst_vit-nano_scenes_color.py',
        'configs/mst/mst_vit-tiny_folder_shuffled.py',
        'configs/mst/mst_vit-tiny_folder_checkerboard.py',
        'configs/mst/mst_vit-tiny_cifar10.py',
        'configs/mst/mst_vit-tiny_list.py',
        'configs/mst/mst_deit-s_100e_random-p15.py',
        'configs/mst/mst_vit-tiny_folder_late-attmask.py',
        'configs/mst/mst_vit-tiny_folder_growing-blocks.py',
    }


def test_the_example_masker_passes_its_own_test(inside):
    found = runpy.run_path('test_checkerboard_masker.py')
    tests = {name: value for name, value in found.items() if name.startswith('test_')}
    assert set(tests) == {'test_contract', 'test_squares', 'test_mistakes'}
    for test in tests.values():
        test()


def test_the_example_evaluation_passes_its_own_test(inside):
    found = runpy.run_path('test_class_means.py')
    tests = {name: value for name, value in found.items() if name.startswith('test_')}
    assert set(tests) == {'test_accuracy', 'test_mistakes'}
    for test in tests.values():
        test()


def test_the_example_evaluation_is_found_by_the_suite(inside, tmp_path):
    importlib.import_module('class_means')
    (evaluation,) = build_suite(['class_means'], {'class_means.last_blocks': 2}).values()
    evaluated = evaluated_of(make_folders(tmp_path))
    evaluation.check(evaluated)
    assert 100 / 3 < evaluation(evaluated)['top1'] <= 100
    with pytest.raises(UsageError, match='last_blocks is 9'):
        build_suite(['class_means'], {'class_means.last_blocks': 9})['class_means'].check(evaluated)


def test_the_example_objective_passes_its_own_test(inside):
    found = runpy.run_path('test_patch_color.py')
    tests = {name: value for name, value in found.items() if name.startswith('test_')}
    assert set(tests) == {'test_loss_is_of_hidden_patches', 'test_color_of_an_image_is_learned', 'test_mistakes'}
    for test in tests.values():
        test()


FEW = {
    'train_dataloader.dataset.num_images': 64,
    'default_hooks.knn.train_dataset.num_images': 40,
    'default_hooks.knn.val_dataset.num_images': 20,
}


def train_example(config: str, work_dir: Path, **options: Any) -> list[dict[str, Any]]:
    """Trains a config of a page on a few of the built-in scenes for an epoch; the lines of its k-NN."""
    loaded, changes = load_config(config, work_dir=str(work_dir), epochs=1, cfg_options=FEW, **options)
    build_runner(loaded, changes).train()
    return [json.loads(line) for line in (work_dir / 'knn.jsonl').read_text().splitlines()]


def test_the_example_objective_trains_alone_and_in_mst(inside, tmp_path):
    first, last = train_example('configs/color/color_vit-nano_scenes.py', tmp_path / 'alone')
    assert (first['epoch'], last['epoch']) == (0, 1)
    assert set(last['branches']) == {'student'}, 'nobody looks at a teacher'
    watched = json.loads((tmp_path / 'alone' / 'collapse.jsonl').read_text())
    assert watched['hidden_fraction'] == pytest.approx(0.6, abs=0.02)
    assert (tmp_path / 'alone' / 'panels' / 'epoch_001.png').is_file()
    config, _ = load_config('configs/demo/mst_vit-nano_scenes_color.py')
    model = MODELS.build(config.model)
    assert list(model.objectives) == ['ce', 'restore', 'color']
    assert model.objectives['color'].weight == 0.5


def test_the_example_backbone_passes_its_own_test(inside):
    found = runpy.run_path('test_masked_conv_mixer.py')
    tests = {name: value for name, value in found.items() if name.startswith('test_')}
    assert set(tests) == {'test_tokens_are_mmpretrains_output', 'test_a_hidden_patch_is_not_seen', 'test_mistakes'}
    for test in tests.values():
        test()


def test_the_example_backbone_trains(inside, tmp_path):
    first, last = train_example('configs/mst/mst_conv-mixer_scenes.py', tmp_path / 'run')
    assert (first['epoch'], last['epoch']) == (0, 1)
    assert set(last['branches']) == {'student', 'teacher'}
    watched = json.loads((tmp_path / 'run' / 'collapse.jsonl').read_text())
    assert watched['hidden_fraction'] == pytest.approx(10 / 36)  # 0.3 of 36 patches, rounded down


def test_the_example_target_passes_its_own_test(inside):
    found = runpy.run_path('test_brightness.py')
    tests = {name: value for name, value in found.items() if name.startswith('test_')}
    assert set(tests) == {'test_classes', 'test_a_certain_prediction_looks_like_the_image', 'test_mistakes'}
    for test in tests.values():
        test()


def test_the_example_target_is_trained_on(inside, tmp_path):
    first, last = train_example('configs/simmim/simmim_vit-nano_scenes_brightness.py', tmp_path / 'run')
    assert (first['epoch'], last['epoch']) == (0, 1)
    assert set(last['branches']) == {'student'}
    assert (tmp_path / 'run' / 'panels' / 'epoch_001.png').is_file()


def test_the_example_masker_masks_a_model(inside):
    config, _ = load_config('configs/mst/mst_vit-tiny_folder_checkerboard.py', data_root='DIR')
    assert dict(config.model.masker) == dict(type='CheckerboardMasker', cell=2)
    panel = mst(masker=dict(config.model.masker)).panel(torch.randn(2, 3, 32, 32))
    assert panel.mask is not None
    assert panel.mask.shape == (2, 4, 4)
    assert torch.equal(panel.mask[:, 2:], ~panel.mask[:, :-2])


def test_the_variant_in_the_readme_changes_the_masker_only(inside):
    changed, _ = load_config('configs/mst/mst_deit-s_100e_random-p15.py')
    base, _ = load_config('configs/mst/mst_deit-s_100e.py')
    assert dict(changed.model.masker) == dict(type='RandomMasker', prob=0.15)
    changed.model.masker = base.model.masker
    assert changed.model == base.model


def test_cifar_as_documented(inside, monkeypatch):
    config, _ = load_config('configs/mst/mst_vit-tiny_cifar10.py')
    folder = inside / 'data' / 'cifar10' / 'cifar-10-batches-py'
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ('test_batch', *(f'data_batch_{number}' for number in range(1, 6))):
        batch = dict(data=generator.integers(256, size=(4, 3072), dtype=np.uint8), labels=[0, 1, 2, 3])
        (folder / name).write_bytes(pickle.dumps(batch))
    monkeypatch.setattr('mmpretrain.datasets.cifar.CIFAR10._check_integrity', lambda self: True)

    train = DATASETS.build(config.train_dataloader.dataset)
    views = train[SampleKey(1, epoch=1)]['inputs']
    assert [tuple(view.shape) for view in views] == [(3, 32, 32)] * 2 + [(3, 16, 16)] * 4
    assert torch.equal(views[0], train[SampleKey(1, epoch=1)]['inputs'][0])
    assert not torch.equal(views[0], train[SampleKey(1, epoch=2)]['inputs'][0])
    bank, val = (DATASETS.build(config.default_hooks.knn[name]) for name in ('train_dataset', 'val_dataset'))
    assert (len(bank), len(val)) == (20, 4)
    assert check_labeled(bank, 'train') == check_labeled(val, 'val')
    assert val[0]['inputs'].shape == (3, 32, 32)
    MODELS.build(config.model).check_views(32, 16)


def test_text_list_as_documented(inside):
    config, _ = load_config('configs/mst/mst_vit-tiny_list.py')
    for name in ('train', 'val'):
        for label in (0, 1):
            Image.new('RGB', (80, 70), (90 * label, 60, 30)).save(inside / 'lists' / f'{name} {label}.png')
        lines = ['# comment', '', f'{name} 0.png 0', f'{name} 1.png 1']
        (inside / 'lists' / f'{name}.txt').write_text('\n'.join(lines))

    crops = config.train_pipeline[1]  # the base config's
    views = DATASETS.build(config.train_dataloader.dataset)[0]['inputs']
    sizes = [crops.global_crops.size] * 2 + [crops.local_crops.size] * crops.local_crops.count
    assert [view.shape[-1] for view in views] == sizes
    bank, val = (DATASETS.build(config.default_hooks.knn[name]) for name in ('train_dataset', 'val_dataset'))
    assert check_labeled(bank, 'train') == check_labeled(val, 'val') == ('0', '1')


def test_knn_of_a_documented_run_needs_no_image_size(inside):
    """The view to be measured stands in the config that the checkpoint carries."""
    config, _ = load_config(FOLDER_CONFIG, data_root='DIR')
    pipeline = tool('evaluation/knn.py').view_pipeline(config._cfg_dict, None)
    assert pipeline == config.val_pipeline


def test_a_branch_loads_into_mmpretrain_as_documented(inside, capsys):
    config, _ = load_config(FOLDER_CONFIG, data_root='DIR')
    model = MODELS.build(config.model)
    checkpoint = inside / 'work_dirs' / 'mst_vit-tiny_folder' / 'best_knn.pth'
    checkpoint.parent.mkdir(parents=True)
    torch.save(dict(meta={}, state_dict=model.state_dict()), checkpoint)
    (code,) = [body for body in blocks(ROOT / 'docs' / 'en' / 'conventions.md', 'python') if 'read_checkpoint(' in body]
    scope: dict = {}
    exec(compile(code, 'conventions.md', 'exec'), scope)
    count = len(model.backbone.state_dict())
    assert capsys.readouterr().out == f'student: loaded {count} of {count} tensors, missing 0, unexpected 0\n'
    assert torch.equal(scope['network'].pos_embed, model.backbone.pos_embed)
