"""Every config is parsed; every pre-training model is built from it and stepped once at a small size."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from mstkit.datasets import MultiCrop
from mstkit.evaluation.features import pooled_features
from mstkit.models import ForeignModel, TrainedModel, interface_of
from mstkit.registry import DATASETS, HOOKS, MODELS, TRANSFORMS
from mstkit.structures import Progress

from .models.tokenizers import write_patches

ROOT = Path(__file__).resolve().parent.parent / 'configs'
# Those in downstream/ have tests/test_downstream_configs.py.
CONFIGS = sorted(p for p in ROOT.rglob('*.py') if not {'_base_', 'downstream'} & set(p.relative_to(ROOT).parts))
METHODS = {'mst': 'MST', 'demo': 'MST', 'dino': 'DINO', 'ibot': 'iBOT', 'attmask': 'AttMask', 'moby': 'MoBY'}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Of another library's algorithms, by their folder: nothing is read before the tests run.
FOREIGN = [path for path in CONFIGS if path.parent.name == 'mmpretrain']
OURS = [path for path in CONFIGS if path not in FOREIGN]
METAFILES = sorted(ROOT.rglob('metafile.yml'))


def test_the_configs_are_found():
    """A config that this test does not see would not be tested."""
    assert ROOT / 'mst' / 'mst_swin-t_100e.py' in OURS
    assert ROOT / 'mmpretrain' / 'mae_vit-tiny_folder.py' in FOREIGN
    assert len({path.parent for path in CONFIGS}) >= 8


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_models_of_another_library_are_in_one_folder(path):
    """Those of the others answer our hooks by themselves."""
    assert issubclass(MODELS.get(Config.fromfile(path).model.type), TrainedModel) == (path in OURS)


def test_every_folder_of_configs_is_in_the_format_of_openmmlab():
    """It has a page and a metafile, which the index of the project imports."""
    folders = {path.parent for path in ROOT.rglob('*.py') if '_base_' not in path.parts}
    assert len(folders) >= 25
    assert [name(folder) for folder in sorted(folders) if not (folder / 'README.md').is_file()] == []
    assert [name(folder) for folder in sorted(folders) if not (folder / 'metafile.yml').is_file()] == []
    index = yaml.safe_load((ROOT.parent / 'model-index.yml').read_text(encoding='utf-8'))
    assert index == {'Import': [f'configs/{name(path)}' for path in METAFILES]}


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_first_lines_say_what_it_is(path):
    config = Config.fromfile(path)
    text = path.read_text(encoding='utf-8')
    assert text.startswith('"""')
    docstring = text.split('"""')[1]
    folder = path.relative_to(ROOT).parts[0]
    method = f"{folder}'s {config.model.type.split('.')[-1]}" if path in FOREIGN else METHODS.get(folder, folder)
    assert method.lower() in docstring.lower()
    assert 'reproduced here' in docstring or re.search(r'docs/en/results(_\w+)?\.md', docstring)
    assert config.train_cfg.max_epochs >= 1
    if path.parent.name != 'ablations':
        assert f'configs/{name(path)}' in docstring or 'make demo' in docstring, 'its command'


def reduced(model: Config) -> Config:
    """The same parts, with fewer channels and prototypes."""
    backbone = model.backbone
    if backbone.type == 'MaskedSwinTransformer':
        stages = 4 if isinstance(backbone.arch, str) else len(backbone.arch['depths'])
        backbone.arch = dict(embed_dims=24, depths=[1, 1, 1, 2][-stages:], num_heads=[1, 2, 3, 6][:stages])
    elif backbone.type == 'MaskedVisionTransformer':
        layers = 12 if isinstance(backbone.arch, str) else backbone.arch['num_layers']
        backbone.arch = dict(embed_dims=48, num_layers=min(layers, 3), num_heads=3, feedforward_channels=96)
    if model.get('layers'):
        model.layers = [1, 2, -2, -1][-len(model.layers) :]
    for neck in (model.get('neck'), model.get('patch_neck'), model.get('predictor')):
        if neck is not None and neck.type == 'DINONeck':
            neck.update(out_dim=64, hidden_dim=32, bottleneck_dim=16)
        elif neck is not None:
            neck.update(hid_channels=32, out_channels=16)
    if model.get('decoder') and model.decoder.type == 'CNNImageDecoder':
        model.decoder.channels = 8
    further = [one.get('decoder') for one in model.get('objectives', {}).values() if one]
    for decoder in (model.get('decoder'), model.get('feature_decoder'), *further):
        if decoder and decoder.get('type', 'ViTDecoder') in ('ViTDecoder', 'CrossAttentionDecoder'):
            decoder.update(embed_dims=24, num_layers=1, num_heads=2)
        elif decoder and decoder.type == 'ConvDecoder':
            decoder.update(embed_dims=48, num_layers=2)
    if (model.get('target') or {}).get('top'):
        model.target.top = min(model.target.top, 3)
    return model


def small_model(path: Path, folder: Path) -> tuple[Config, MultiCrop, Any]:
    """A config, its views, and its model at a small size; a tokenizer is written into the folder."""
    config = Config.fromfile(path)
    if config.model.get('tokenizer'):
        config.model.tokenizer = str(folder / 'tokenizer.pth')
        write_patches(config.model.tokenizer)
    pipeline = [TRANSFORMS.build(step) for step in config.train_dataloader.dataset.pipeline]
    crops = next(step for step in pipeline if isinstance(step, MultiCrop))
    model = MODELS.build(reduced(config.model))
    model.init_weights()
    return config, crops, model.train()


@pytest.mark.parametrize('path', OURS, ids=name)
def test_model_is_built_and_stepped(tmp_path, path):
    config, crops, model = small_model(path, tmp_path)
    local = crops.local_crops.size if crops.local_crops.count else None
    model.check_views(crops.global_crops.size, local)
    model.check_view_count([crop.size for crop, _ in crops.views])
    model.set_progress(Progress(0, 10, 5))
    views = [torch.randn(2, 3, crop.size, crop.size) for crop, _ in crops.views[:4]]
    losses = model.loss(views)
    head = config.model.get('head', {}).get('type')
    keys, layers = getattr(type(model), 'FLAT_KEYS', ()), config.model.get('layers', ())
    predicting = 'objectives.predict.decoder' in keys or 'objectives.local1.decoder' in keys
    contrasting = head == 'MoBYHead' or config.model.type == 'CMAE'
    wanted = {'loss_ce': head == 'DINOHead', 'loss_contrast': contrasting}
    wanted |= {'loss_feature': config.model.type == 'BootMAE', 'loss_hide': config.model.type == 'CLMAE'}
    restoring = not predicting and config.model.get('decoder')
    wanted |= {'loss_patch': config.model.get('patch_head'), 'loss_restore': restoring}
    wanted |= {'loss_predict': predicting and not layers, **{f'loss_local{i + 1}': True for i in range(len(layers))}}
    wanted |= {f'loss_{name}': part for name, part in config.model.get('objectives', {}).items()}
    # A method without any of these keys has objectives of its own.
    terms = {term for term, part in wanted.items() if part} or {f'loss_{name}' for name in model.objectives}
    assert set(losses) == terms
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    # data2vec predicts its teacher's features, CMAE finds them; in MAE with hard patches it guides the mask.
    asking = any(one.needs_teacher for one in model.objectives.values())
    taught = not predicting or asking or model.guided_by_teacher
    assert (model.teacher is not None) is taught or not any(wanted.values())
    if model.teacher is None:
        return
    before = next(model.teacher.backbone.parameters()).clone()
    with torch.no_grad():
        next(model.backbone.parameters()).add_(1)
    model.after_step()
    model.set_progress(Progress(1, 10, 5))
    model.loss(views)  # MoBY's teacher moves at the start of an iteration
    assert not torch.equal(before, next(model.teacher.backbone.parameters()))


@pytest.mark.parametrize('path', FOREIGN, ids=name)
def test_a_model_of_another_library_is_built_and_stepped(path):
    """With the batch that its own pipeline makes; its backbone is what k-NN measures."""
    config = Config.fromfile(path)
    if config.model.backbone.get('arch') == 'deit-small':  # a layer of it is enough
        config.model.backbone.arch = dict(embed_dims=384, num_layers=1, num_heads=6, feedforward_channels=96)
        config.model.neck.hid_channels = 64
    pipeline = [TRANSFORMS.build(step) for step in config.train_dataloader.dataset.pipeline[1:]]  # nothing is loaded
    samples = []
    for number in range(4):
        sample = dict(img=np.random.default_rng(number).integers(0, 255, (90, 80, 3), np.uint8), sample_idx=number)
        for step in pipeline:
            sample = step(sample)
        samples.append(sample)
    with DefaultScope.overwrite_default_scope('mstkit'):
        model = MODELS.build(config.model)
        model.init_weights()
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    model.train()
    losses = model(**model.data_preprocessor(default_collate(samples), True), mode='loss')
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in trained)
    stepped = {id(parameter) for group in wrapper.optimizer.param_groups for parameter in group['params']}
    assert stepped == {id(parameter) for parameter in trained}
    asked = interface_of(model)
    assert isinstance(asked, ForeignModel)
    (backbone,) = asked.branches().values()
    backbone.eval()
    features = pooled_features(backbone, torch.randn(2, 3, 64, 64))
    assert features.ndim == 2 and features.shape[0] == 2 and torch.isfinite(features).all()


def test_no_two_ablations_train_alike():
    """A switch that changes nothing measures nothing: the gradients of one step tell all of them apart."""
    found = {}
    for path in (ROOT / 'mst' / 'mst_deit-s_100e.py', *sorted((ROOT / 'mst' / 'ablations').glob('*.py'))):
        model = reduced(Config.fromfile(path).model)
        model.backbone.update(arch={**model.backbone.arch, 'num_layers': 1}, drop_path_rate=0.0)
        if model.decoder is not None:
            model.decoder.channels = 2
        torch.manual_seed(0)
        built = MODELS.build(model)
        built.init_weights()
        built.set_progress(Progress(0, 10, 5))
        generator = torch.Generator().manual_seed(1)
        views = [torch.randn(2, 3, size, size, generator=generator) for size in (224, 224, 96)]
        sum(built.loss(views).values()).backward()
        found[path.stem.removeprefix('mst_deit-s_100e_')] = built.backbone.patch_embed.projection.weight.grad
    alike = {(a, b) for a, b in combinations(found, 2) if (found[a] - found[b]).norm() < 1e-3 * found[a].norm()}
    # Every patch is a candidate where num is 1: the same row in two tables of the paper.
    assert alike == {('num1-p05', 'random-p05')}


@pytest.mark.parametrize('path', METAFILES, ids=name)
def test_a_metafile_lists_what_is_in_its_folder(path):
    """In OpenMMLab's format; numbers are ours or are not there."""
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    collections = {one['Name']: one for one in content['Collections']}
    assert all(one['Paper']['Title'] and one['Paper']['URL'].startswith('https://') for one in collections.values())
    assert all((ROOT.parent / one['README']).is_file() for one in collections.values())
    listed = {ROOT.parent / model['Config']: model for model in content['Models']}
    assert set(listed) == set(path.parent.glob('*.py'))
    for config, model in listed.items():
        assert model['Name'] == config.stem
        assert model['In Collection'] in collections
        trained = Config.fromfile(config).train_cfg
        length = ('Iterations', 'max_iters') if 'max_iters' in trained else ('Epochs', 'max_epochs')
        assert model['Metadata'][length[0]] == trained[length[1]]
    readme = (path.parent / 'README.md').read_text(encoding='utf-8')
    assert all(config.name in readme for config in listed)


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_hooks_and_data_sets_are_known(path):
    config = Config.fromfile(path)
    for hook in [*config.default_hooks.values(), *config.get('custom_hooks', [])]:
        assert HOOKS.get(hook['type']) is not None, hook
    knn = config.default_hooks.knn
    for dataset in (config.train_dataloader.dataset, knn.train_dataset, knn.val_dataset):
        assert DATASETS.get(dataset['type']) is not None
        for step in dataset['pipeline']:
            TRANSFORMS.build(step)


def test_ablations_are_deltas():
    """One line each: nothing of the base is repeated."""
    for path in (ROOT / 'mst' / 'ablations').glob('*.py'):
        code = path.read_text(encoding='utf-8').split('"""')[2].split('\n')
        lines = [line for line in code if line.strip()]
        assert lines[0] == "_base_ = '../mst_deit-s_100e.py'", path
        assert len(lines) == 2, path
