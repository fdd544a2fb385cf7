"""Numbers of recipes that papers and their code give, and the commands at the head of every config."""

from __future__ import annotations

import functools
import math
import re
import shlex
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATA_SAMPLERS, MODELS, DefaultScope
from timm.scheduler import CosineLRScheduler

from mstkit.engine.optim.param_schedules import lr_curve
from mstkit.engine.optim.step_counts import StepCounter
from mstkit.errors import UsageError

from .docs.pages import commands
from .models.tokenizers import write_patches

ROOT = Path(__file__).resolve().parent.parent / 'configs'
CONFIGS = sorted(path for path in ROOT.rglob('*.py') if '_base_' not in path.relative_to(ROOT).parts)
FINE_TUNING = ROOT / 'downstream' / 'mmpretrain'


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def read(path: Path) -> Config:
    return Config.fromfile(path)


def head_command(path: Path) -> list[str]:
    """The words of the command in a config's first lines; none where it has no command of its own."""
    docstring = path.read_text(encoding='utf-8').split('"""')[1].replace('\\\n', ' ')
    found = re.search(r'^Command: (.*)$', docstring, re.MULTILINE)
    return shlex.split(found[1]) if found else []


def fits_the_learning_rate(words: list[str]) -> bool:
    """Whether processes x batch x accumulation of a training is what the lr belongs to, or is made to fit it."""
    script, path = words[1], ROOT.parent / words[2]
    processes = int(words[3]) if script == 'tools/dist_train.sh' else 1
    nodes = [int(word.removeprefix('NNODES=')) for word in words if word.startswith('NNODES=')]
    config = read(path)
    options = dict(word.split('=', 1) for word in words if re.match(r'[a-z][\w.]+=', word))
    batch = int(options.get('train_dataloader.batch_size', config.train_dataloader.batch_size))
    batch *= int(options.get('optim_wrapper.accumulative_counts', config.optim_wrapper.get('accumulative_counts', 1)))
    return '--auto-scale-lr' in words or sum(nodes or [1]) * processes * batch == config.auto_scale_lr.base_batch_size


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_the_command_at_the_head_has_the_batch_of_the_learning_rate(path):
    words = head_command(path)
    if path.parent.name == 'ablations':
        assert words == []  # tools/ablate.py runs them
        return
    if words[:2] == ['make', 'demo']:
        words = ['python', 'tools/train.py', f'configs/{name(path)}']
    assert words[2] == f'configs/{name(path)}'
    assert words[:2] in (['python', 'tools/train.py'], ['bash', 'tools/dist_train.sh'])
    assert fits_the_learning_rate(words)


@pytest.mark.parametrize(
    ('page', 'command'),
    [(page, line) for page, line in commands() if re.search(r'(tools/train\.py|dist_train\.sh) configs/', line)],
)
def test_so_have_those_of_the_documentation(page, command):
    words = shlex.split(command, comments=True)
    environment = [word for word in words if re.match(r'[A-Z_]+=', word)]
    words = [*words[len(environment) :], *environment]
    if (ROOT.parent / words[2]).is_file():  # otherwise one that the page tells to write
        assert fits_the_learning_rate(words), page


def timms(steps: int, lr: float, **settings: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = CosineLRScheduler(optimizer, t_initial=steps, cycle_limit=1, **settings)
    return [schedule._get_lr(step)[0] for step in range(steps)]


def curve(config: Config, steps_per_epoch: int) -> list[float]:
    with DefaultScope.overwrite_default_scope('mstkit'):
        counter = StepCounter(steps_per_epoch, config.train_cfg.max_epochs)
        return list(lr_curve(config.param_scheduler, counter, config.optim_wrapper.optimizer.lr))


@pytest.mark.parametrize(
    ('recipe', 'epochs'), [('deit-s_500e_cifar10', 500), ('deit-s_500e_cifar100', 500), ('deit-s_1000e_flowers', 1000)]
)
def test_attmask_fine_tunes_at_deits_learning_rate(recipe, epochs):
    """lr 7.5e-6 x 900/512, timm's cosine by the epoch, 5 epochs of warm-up from 1e-6, and an end of 1e-5."""
    config = Config.fromfile(FINE_TUNING / f'{recipe}.py')
    assert config.train_cfg.max_epochs == epochs
    ours = curve(config, 2)
    theirs = timms(epochs, 7.5e-6 * 6 * 150 / 512, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6)
    assert ours == pytest.approx([value for value in theirs for _ in range(2)], rel=1e-9)
    assert sum(ours) / len(ours) == pytest.approx(1.155e-5, rel=0.01)
    assert ours[-1] == pytest.approx(1e-5, rel=1e-3)
    assert config.train_dataloader.batch_size * 6 == config.auto_scale_lr.base_batch_size == 900
    assert '--branch' in head_command(FINE_TUNING / f'{recipe}.py')  # the teacher, as in its code


def test_attmask_decays_all_but_vectors():
    config = Config.fromfile(FINE_TUNING / 'deit-s_500e_cifar10.py')
    config.model.backbone.arch = dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=96)
    config.model.head.in_channels = 48
    with DefaultScope.overwrite_default_scope('mstkit'):
        model = MODELS.build(config.model)
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    decays = {id(p): group['weight_decay'] for group in wrapper.optimizer.param_groups for p in group['params']}
    for key, parameter in model.named_parameters():
        assert decays[id(parameter)] == (0.05 if parameter.ndim > 1 else 0.0), key
    assert {group['lr'] for group in wrapper.optimizer.param_groups} == {7.5e-6 * 900 / 512}


@pytest.mark.parametrize(('images', 'each'), [(2040, 298), (50_000, 8320), (100, 16)])
def test_attmask_repeats_augmentation(monkeypatch, images, each):
    """Of each image three versions, on neighboring processes; as many samples as DeiT's sampler hands out."""
    sampler = Config.fromfile(FINE_TUNING / 'deit-s_500e_cifar10.py').train_dataloader.sampler
    ranks = []
    for rank in range(6):
        monkeypatch.setattr('mmpretrain.datasets.samplers.repeat_aug.get_dist_info', lambda rank=rank: (rank, 6))
        with DefaultScope.overwrite_default_scope('mstkit'):
            built = DATA_SAMPLERS.build(dict(sampler, dataset=range(images), seed=3))
        built.set_epoch(2)
        ranks.append(list(built))
        assert len(built) == len(ranks[-1]) == each
    together = [index for position in zip(*ranks, strict=True) for index in position]
    groups = [together[i : i + 3] for i in range(0, len(together) - 2, 3)]
    assert all(len(set(group)) == 1 for group in groups)
    assert len(set(together)) == -(-len(together) // 3)


def test_a_sampler_for_nobody_is_refused(monkeypatch):
    monkeypatch.setattr('mmpretrain.datasets.samplers.repeat_aug.get_dist_info', lambda: (0, 6))
    with DefaultScope.overwrite_default_scope('mstkit'):
        with pytest.raises(UsageError, match='5 images for 6 processes'):
            DATA_SAMPLERS.build(dict(type='RoundedRepeatAugSampler', dataset=range(5), seed=0))
        with pytest.raises(UsageError, match='num_repeats is 0'):
            DATA_SAMPLERS.build(dict(type='RoundedRepeatAugSampler', dataset=range(50), seed=0, num_repeats=0))


def test_simmims_fine_tuning():
    """1.25e-3 per 512 images at a batch of 2048, timm's cosine over all steps, both ends at 2.5e-7 per 512 images."""
    config = Config.fromfile(FINE_TUNING / 'swin-t_100e_imagenet.py')
    scale = 2048 / 512
    ends = dict(lr_min=2.5e-7 * scale, warmup_lr_init=2.5e-7 * scale)
    assert curve(config, 3) == pytest.approx(timms(300, 1.25e-3 * scale, warmup_t=60, **ends), rel=1e-9)
    assert config.optim_wrapper.clip_grad == dict(max_norm=5.0)


def fine_tuned(recipe: str) -> tuple[Config, dict[str, dict]]:
    """A config of a ViT with two narrow layers, and the group of the optimizer of each trained parameter."""
    config = Config.fromfile(FINE_TUNING / f'{recipe}.py')
    config.model.backbone.arch = dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=96)
    config.model.head.in_channels = 48
    if config.model.backbone.get('frozen_stages'):
        config.model.backbone.frozen_stages, config.model.neck.input_features = 2, 48
    with DefaultScope.overwrite_default_scope('mstkit'):
        model = MODELS.build(config.model)
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    groups = {id(p): group for group in wrapper.optimizer.param_groups for p in group['params']}
    return config, {key: groups[id(p)] for key, p in model.named_parameters() if id(p) in groups}


@pytest.mark.parametrize(
    ('recipe', 'lr', 'batch', 'warmup'),
    [
        ('mae_vit-b_100e_imagenet', 5e-4 * 1024 / 256, 1024, 5),
        ('simmim_vit-b_100e_imagenet', 1.25e-3 * 2048 / 512, 2048, 20),
        ('beit_vit-b_100e_imagenet', 4e-3, 1024, 20),
    ],
)
def test_fine_tuning_of_masked_image_modeling(recipe, lr, batch, warmup):
    """Decay 0.65 per layer from the head down; only matrices are decayed, tokens and positions that are added not."""
    config, groups = fine_tuned(recipe)
    depths = {'backbone.patch_embed': 0, 'backbone.cls_token': 0, 'backbone.pos_embed': 0}
    depths |= {'backbone.layers.0': 1, 'backbone.layers.1': 2, 'backbone.ln2': 3, 'head': 3}
    for key, group in groups.items():
        (depth,) = {value for start, value in depths.items() if key.startswith(start)}
        assert group['lr'] == pytest.approx(lr * 0.65 ** (3 - depth), rel=1e-9), key
        matrix = not key.endswith(('bias', 'cls_token', 'pos_embed')) and '.ln' not in key and 'gamma' not in key
        assert group['weight_decay'] == (0.05 if matrix else 0.0), key
    assert sum('bias_table' in key for key in groups) == (0 if recipe.startswith('mae') else 2)
    assert config.auto_scale_lr.base_batch_size == batch and config.train_cfg.max_epochs == 100
    if recipe.startswith('simmim'):  # timm's cosine, which counts from the start of the warm-up
        ends = dict(lr_min=2.5e-7 * 4, warmup_lr_init=2.5e-7 * 4)
        assert curve(config, 4) == pytest.approx(timms(400, lr, warmup_t=4 * warmup, **ends), rel=1e-9)
    else:
        assert curve(config, 4)[4 * warmup] == pytest.approx(lr, rel=0.01)
    assert config.model.backbone.out_type == 'avg_featmap' and config.model.backbone.drop_path_rate == 0.1
    assert [one.alpha for one in config.model.train_cfg.augments] == [0.8, 1.0]


def test_maes_linear_probe():
    """LARS at 0.1 per 256 images; nothing but the classifier is trained, on a batch norm without parameters."""
    config, groups = fine_tuned('mae_vit-b_90e_linear')
    assert set(groups) == {'head.fc.weight', 'head.fc.bias'}
    assert {key: group.get('lars_exclude', False) for key, group in groups.items()} == {
        'head.fc.weight': False,
        'head.fc.bias': True,
    }
    assert {(group['lr'], group['momentum'], group['weight_decay']) for group in groups.values()} == {(6.4, 0.9, 0.0)}
    assert config.train_cfg.max_epochs == 90 and config.auto_scale_lr.base_batch_size == 16384
    assert max(curve(config, 4)) == pytest.approx(0.1 * 16384 / 256, rel=1e-3) and curve(config, 4)[-1] < 0.01
    assert not config.model.get('train_cfg')


@pytest.mark.parametrize(
    ('path', 'base', 'batch', 'epochs', 'end', 'steps'),
    [
        ('mae/mae_vit-b_800e.py', 1.5e-4, 4096, 800, 0.0, 25),
        ('localmim/localmim_vit-b_1600e.py', 2e-4, 2048, 1600, 1e-6, 2),
        ('bootmae/bootmae_vit-b_800e.py', 1.5e-4, 4096, 800, 1e-4, 2),
    ],
)
def test_mae_and_localmim_pre_train_at_their_learning_rates(path, base, batch, epochs, end, steps):
    """A rate per 256 images; 40 epochs from 0, then half a cosine to the end over the others; betas and decay."""
    config = read(ROOT / path)
    peak, warm = base * batch / 256, 40
    theirs = []
    for step in range(epochs * steps):
        epoch = step / steps
        rise = 0.5 * (1 + math.cos(math.pi * (epoch - warm) / (epochs - warm)))
        theirs.append(peak * epoch / warm if epoch < warm else end + (peak - end) * rise)
    assert curve(config, steps) == pytest.approx(theirs, abs=peak * (2e-3 if steps == 25 else 0.02))
    assert config.optim_wrapper.optimizer.betas == (0.9, 0.95) and config.optim_wrapper.clip_norm is None
    assert config.auto_scale_lr.base_batch_size == batch


def test_msn_pre_trains_at_its_learning_rate():
    """2e-4 to 1e-3 in 15 epochs, then a cosine made for 1,000; neither prototypes nor vectors are decayed."""
    config = read(ROOT / 'msn' / 'msn_vit-s_800e.py')
    peak, epochs, warm, steps = 1e-3, 800, 15, 25
    theirs = []
    for step in range(epochs * steps):
        epoch = step / steps
        fall = 0.5 * (1 + math.cos(math.pi * (epoch - warm) / (1.25 * epochs - warm)))
        theirs.append(2e-4 + (peak - 2e-4) * epoch / warm if epoch < warm else 1e-6 + (peak - 1e-6) * fall)
    assert curve(config, steps) == pytest.approx(theirs, abs=peak * 5e-3)
    assert config.optim_wrapper.clip_norm == 3.0 and config.optim_wrapper.clip_mode == 'global'
    assert config.auto_scale_lr.base_batch_size == 1024
    config.model.backbone.arch = dict(embed_dims=48, num_layers=1, num_heads=3, feedforward_channels=96)
    with DefaultScope.overwrite_default_scope('mstkit'):
        model = MODELS.build(config.model)
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    decays = {id(p): group['weight_decay'] for group in wrapper.optimizer.param_groups for p in group['params']}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            spared = parameter.ndim == 1 or 'last_layer' in key
            assert decays[id(parameter)] == (0.0 if spared else 0.04), key


def test_simmim_pre_trains_at_its_learning_rate():
    """2e-4 per 512 images at 2048, timm's cosine over all steps from 1e-6 to 1e-5 per 512 images; clipped at 5."""
    config = read(ROOT / 'simmim' / 'simmim_swin-b_100e.py')
    scale = 2048 / 512
    theirs = timms(300, 2e-4 * scale, warmup_t=30, lr_min=1e-5 * scale, warmup_lr_init=1e-6 * scale)
    assert curve(config, 3) == pytest.approx(theirs, rel=1e-9)
    assert config.optim_wrapper.clip_norm == 5.0 and config.optim_wrapper.clip_mode == 'global'
    assert config.auto_scale_lr.base_batch_size == 2048


def test_simmims_vit_pre_trains_at_its_learning_rate():
    """1e-4 per 512 images at 2048, from 5e-7 per 512 in 10 epochs, a tenth from epoch 700 on; clipped at 5."""
    config = read(ROOT / 'simmim' / 'simmim_vit-b_800e.py')
    peak, start, steps = 1e-4 * 2048 / 512, 5e-7 * 2048 / 512, 25
    theirs = [start + (peak - start) * min(step / (10 * steps), 1) for step in range(700 * steps)]
    ours = curve(config, steps)
    assert ours[: 700 * steps] == pytest.approx(theirs, abs=peak * 5e-3)
    assert ours[700 * steps :] == pytest.approx([peak / 10] * (100 * steps), rel=1e-9)
    assert config.optim_wrapper.clip_norm == 5.0 and config.optim_wrapper.clip_mode == 'global'
    assert config.auto_scale_lr.base_batch_size == 2048


@pytest.mark.parametrize(
    'path',
    [
        'mae/mae_vit-tiny_folder',
        'mae/mae_vit-b_800e',
        'localmim/localmim_vit-b_1600e',
        'simmim/simmim_swin-b_100e',
        'simmim/simmim_vit-b_800e',
        'maskfeat/maskfeat_vit-b_300e',
        'beit/beit_vit-b_300e',
        'data2vec/data2vec_vit-b_800e',
        'dbot/dbot_vit-b_800e',
        'cmae/cmae_vit-b_300e',
        'bootmae/bootmae_vit-b_800e',
    ],
)
def test_what_masked_autoencoders_decay(tmp_path, path):
    """All but vectors; of SimMIM's Swin neither [MASK] nor the position biases, of its ViT and BEiT's both.

    Of those two no class token.

    Of MAE both tokens too, as in their code.

    Of MaskFeat neither positions nor tokens, as in mmpretrain's config.
    """
    config = Config.fromfile(ROOT / f'{path}.py')
    if config.model.backbone.type == 'MaskedSwinTransformer':
        config.model.backbone.arch = dict(embed_dims=24, depths=[1, 1, 1, 1], num_heads=[1, 2, 3, 6])
    else:
        config.model.backbone.arch = dict(embed_dims=48, num_layers=4, num_heads=3, feedforward_channels=96)
    for part in ('decoder', 'feature_decoder'):
        if config.model.type in ('MAE', 'CMAE', 'LocalMIM', 'DBOT', 'BootMAE') and part in config.model:
            config.model[part].update(embed_dims=24, num_layers=1, num_heads=2)
    if config.model.type == 'BEiT':
        config.model.tokenizer = str(tmp_path / 'tokenizer.pth')
        write_patches(config.model.tokenizer)
    with DefaultScope.overwrite_default_scope('mstkit'):
        model = MODELS.build(config.model)
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    decays = {id(p): group['weight_decay'] for group in wrapper.optimizer.param_groups for p in group['params']}
    for key, parameter in model.named_parameters():
        vit = path in ('simmim/simmim_vit-b_800e', 'beit/beit_vit-b_300e', 'data2vec/data2vec_vit-b_800e')
        spared = (parameter.ndim == 1 and not (vit and key == 'mask_token')) or (vit and key == 'backbone.cls_token')
        spared |= 'relative_position_bias_table' in key and not vit
        spared |= config.model.type == 'MaskFeat' and key in ('backbone.pos_embed', 'backbone.cls_token')
        if parameter.requires_grad:
            assert decays[id(parameter)] == (0.0 if spared else 0.05), key


def test_the_knn_bank_is_what_is_trained_on():
    """A network that has seen a fifth of ImageNet is judged with that fifth, as AttMask does."""
    subsets = []
    for path in (path for path in CONFIGS if 'downstream' not in path.parts):
        config = read(path)
        if 'knn' not in config.default_hooks:
            continue
        train, bank = config.train_dataloader.dataset, config.default_hooks.knn.train_dataset
        different = {key for key in {*train, *bank} if train.get(key) != bank.get(key)}
        assert different == {'pipeline'}, name(path)
        subsets += [path] if 'max_per_class' in train else []
    assert [path.stem for path in subsets] == [path.stem for path in CONFIGS if '20pct' in path.stem]
    assert len(subsets) == 4


@pytest.mark.parametrize(('variant', 'drop_path', 'warmup'), [('', 0.2, 1000), ('_ms-480-800', 0.1, 500)])
def test_coco_1x_is_what_its_first_lines_say(variant, drop_path, warmup):
    """One scale: mmdet's 1x config for Swin-T. Several: the Swin paper's own detection code."""
    path = ROOT / 'downstream' / 'mmdet' / f'mask-rcnn_swin-t_fpn_1x_coco{variant}.py'
    config = read(path)
    assert config.model.backbone.drop_path_rate == drop_path
    first, second = config.param_scheduler
    assert first == dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=warmup)
    assert (second.milestones, second.end, config.optim_wrapper.optimizer.lr) == ([8, 11], 12, 1e-4)
    docstring = ' '.join(path.read_text(encoding='utf-8').split('"""')[1].split())
    assert str(drop_path) in docstring and f'{warmup} iterations' in docstring
