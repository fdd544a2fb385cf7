"""Every registered component: how each can be built, and what it is then asked to compute."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from mmengine.registry import Registry
from mmengine.structures import BaseDataElement, InstanceData
from torch import nn

from mstkit import registry as registries
from mstkit.downstream import keypoints  # registers its components, as a config's custom_imports does
from mstkit.models import Guide, Masker, Objective, Pretrainer, Target
from mstkit.models.objectives import Surroundings
from mstkit.scenes.depth_files import ensure_depth_scenes
from mstkit.scenes.figure_files import ensure_figure_scenes
from mstkit.scenes.video_files import ensure_videos
from mstkit.structures import MaskContext, Progress, TokenOutput, VisibleOutput

from .contracts import arguments
from .downstream.toy_keypoints import write_keypoints
from .evaluation.frozen import write_images
from .models.builders import NECK, SWIN, VIT, views
from .models.tokenizers import WRITERS, files

assert keypoints.__all__
CHANNELS = 16


def context() -> MaskContext:
    generator = torch.Generator().manual_seed(0)
    patches, attention = (torch.rand(size, generator=generator) for size in ((2, 16, CHANNELS), (2, 3, 16)))
    return MaskContext(torch.zeros(2, 3, 32, 32), (4, 4), patches, attention)


def hide(masker: Any) -> Any:
    masker.check_grid(16)
    masker.set_progress(Progress(3, 10, 2))
    return masker(context()).float()


def distill(head: Any) -> Any:
    logits = torch.randn(4, head.out_dim, generator=torch.Generator().manual_seed(0)).requires_grad_()
    head.set_progress(Progress(3, 10, 2))
    third = torch.full((4,), 0.25) if type(head).__name__ == 'IBOTHead' else 2
    loss = head.loss(logits, logits, third)
    head.step()
    return [loss, *torch.autograd.grad(loss, logits), head.center]


def contrast(head: Any) -> Any:
    queries = torch.randn(4, head.dim, generator=torch.Generator().manual_seed(0)).requires_grad_()
    head.check_batch(1)
    loss = head.eval().loss(queries, queries.detach())
    return [loss, *torch.autograd.grad(loss, queries)]


def step(model: Any, shown: int = 2) -> Any:
    """The losses of one step on so many views, and their gradients."""
    model.init_weights()
    model.train()
    model.set_progress(Progress(3, 10, 2))
    losses = model.loss((views(local=0) * shown)[:shown])
    sum(losses.values()).backward()
    model.after_step()
    return [losses, [p.grad for p in model.parameters() if p.grad is not None]]


def step_on_one(model: Any) -> Any:
    """As :func:`step`, on one view of each image."""
    return step(model, model.global_views)


def decode(decoder: Any) -> Any:
    tokens = torch.randn(2, 4, decoder.in_channels)
    layers = (tokens,) * max(1, decoder.student_layers)
    if decoder.visible_only:
        return decoder(VisibleOutput(tokens, tokens[:, 0], torch.arange(4).expand(2, -1), (2, 3), layers))
    return decoder(TokenOutput(tokens, tokens[:, 0], (2, 2), layers=layers))


def predict_from(target: Any) -> Any:
    return target(torch.randn(2, 3, 4 * target.patch_size, 2 * target.patch_size), (4, 2))


def tokenize(tokenizer: Any) -> Any:
    return tokenizer(torch.rand(2, 3, 16, 16), (2, 2))


def encode(backbone: Any) -> Any:
    size = 32 if 'Vision' in type(backbone).__name__ else 64
    channels = backbone.patch_embed.projection.in_channels
    return [*backbone.train().forward_tokens(torch.randn(2, channels, size, size))[:2]]


def cut(transform: Any) -> Any:
    image = np.random.default_rng(0).integers(0, 255, (20, 24, 3)).astype(np.uint8)
    return transform(dict(img=image, sample_idx=0)).get('img')


def cut_instance(transform: Any) -> Any:
    image = np.random.default_rng(0).integers(0, 255, (20, 24, 3)).astype(np.uint8)
    points = np.array([[9, 8, 2], [12, 15, 1]], np.float32)
    known = dict(img=image, sample_idx=0, box=(4, 5, 12, 14), keypoints=points, flip_indices=[1, 0])
    cropped = transform(known)
    return cropped['img'], cropped['crop_keypoints']


def find_keypoints(head: Any) -> Any:
    first = next(one for one in head.modules() if isinstance(one, nn.ConvTranspose2d | nn.Conv2d))
    features = [torch.randn(1, first.in_channels, 3, 2)]
    sample = BaseDataElement(metainfo=dict(img_shape=(24, 16)))
    sample.gt_instances = InstanceData(crop_keypoints=torch.full((1, head.num_keypoints, 3), 1.0))
    return head(features), head.loss(features, [sample])


def first_of(dataset: Any) -> Any:
    return len(dataset), dataset[0].get('img') if len(dataset) else ()


class Rows(nn.Module):
    """What optimizer wrappers and samplers are built for."""

    def __len__(self) -> int:
        return 6


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


MASKER = dict(type='RandomMasker', ratio=0.5)
HEAD = dict(type='DINOHead')
PROJECTION = dict(type='NonLinearNeck', in_channels=16, hid_channels=8, out_channels=8, with_avg_pool=False)
SMALL = dict(VIT, arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16))
METHOD: dict[str, Any] = dict(backbone=SMALL, neck=NECK, head=HEAD, teacher=dict(momentum=0.9))
MOBY = dict(
    backbone=SMALL,
    neck=PROJECTION,
    predictor={**PROJECTION, 'in_channels': 8},
    head=dict(type='MoBYHead', queue_size=4),
)
MOBY['neck'], MOBY['predictor'] = ({**one, 'norm_cfg': dict(type='BN1d')} for one in (MOBY['neck'], MOBY['predictor']))
WITHOUT_SIZE = {key: value for key, value in MOBY['predictor'].items() if key != 'in_channels'}
CONTRAST = dict(neck=WITHOUT_SIZE, predictor=WITHOUT_SIZE)
DECODER = dict(type='CNNImageDecoder', channels=4)
TOKENS: dict[str, Any] = dict(type='ViTDecoder', embed_dims=16, num_layers=1, num_heads=2)
CROSS: dict[str, Any] = dict(TOKENS, type='CrossAttentionDecoder')
CROSS_VIEW = dict(type='CrossView', neck=NECK, head=HEAD)
KEYS = {key: MOBY[key] for key in ('neck', 'predictor', 'head')}
SURROUNDINGS = Surroundings(registries.MODELS.build(SMALL), registries.MODELS.build(MASKER), {}, 'a test')
PREDICT: Any = registries.MODELS.build(
    dict(type='MaskedPrediction', target=dict(type='Pixels'), decoder=TOKENS, surroundings=SURROUNDINGS)
)
LINEAR = dict(student=dict(backbone=nn.Linear(2, 2)))
HEADS = dict(out_dim=8)
VIT_BASE = {key: value for key, value in VIT.items() if key != 'type'}
SWIN_BASE = {key: value for key, value in SWIN.items() if key != 'type'}
CROPS = dict(global_crops=dict(size=8), local_crops=dict(size=4, count=1))

# How each can be built, and, where that is cheap, what it is then asked to compute.
BASES: dict[str, tuple[dict[str, Any], Callable[[Any], Any] | None]] = {
    'MaskedVisionTransformer': (VIT_BASE, encode),
    'MaskedSwinTransformer': (SWIN_BASE, encode),
    'AttentionGuidedMasker': ({}, hide),
    'AttMaskHigh': ({}, hide),
    'AttMaskLow': ({}, hide),
    'AttMaskHint': (dict(show_max=0.5), hide),
    'BlockMasker': ({}, hide),
    'MultinomialMasker': ({}, hide),
    'RandomMasker': ({}, hide),
    'ObjectMasker': ({}, hide),
    'PartMasker': ({}, hide),
    'PreferenceMasker': ({}, hide),
    'TopShareMasker': ({}, hide),
    'MaskerSchedule': (dict(phases=[(0, None), (1, MASKER)]), hide),
    'RatioSchedule': (dict(masker=MASKER, start=0.1, end=0.5, epochs=2), hide),
    'ShuffledMasker': (dict(masker=MASKER), hide),
    'DINOHead': (HEADS, distill),
    'IBOTHead': (HEADS, distill),
    'MoBYHead': (dict(dim=8, queue_size=4), contrast),
    'DINO': (METHOD, step),
    'IBOT': (dict(METHOD, masker=MASKER, patch_head=dict(type='IBOTHead')), step),
    'MoBY': (MOBY, step),
    'MSTAlgorithm': (dict(METHOD, masker=MASKER, decoder=DECODER), step),
    'MAE': (dict(backbone=SMALL, decoder=TOKENS), step_on_one),
    'LocalMIM': (dict(backbone=SMALL, layers=(1,), scales=(2.0,), decoder=TOKENS), step_on_one),
    'DBOT': (dict(backbone=SMALL, decoder=TOKENS), step_on_one),
    'SimMIM': (dict(backbone=SMALL, mask_patch_size=8), step_on_one),
    'MaskFeat': (dict(backbone=SMALL, target=dict(type='HOG', cell_size=4)), step_on_one),
    'Data2Vec': (dict(backbone=SMALL), step_on_one),
    'Data2Vec2': (dict(backbone=SMALL, decoder=dict(groups=2, num_layers=1), masks_per_image=2), step_on_one),
    'BootMAE': (dict(backbone=SMALL, decoder=CROSS, feature_decoder=CROSS), step_on_one),
    'CMAE': (dict(backbone=SMALL, decoder=TOKENS, feature_decoder=TOKENS, **CONTRAST), step),
    'MSN': (dict(backbone=SMALL, neck=NECK), step),
    'CLMAE': (dict(backbone=SMALL, decoder=TOKENS, network=dict(num_heads=2)), step_on_one),
    'BEiT': (dict(backbone=SMALL, tokenizer='PatchTokenizer.pth'), step_on_one),
    'Pretrainer': (dict(backbone=SMALL, objectives=dict(ce=CROSS_VIEW), masker=MASKER), step),
    'CrossView': (dict(neck=NECK, head=HEAD, surroundings=SURROUNDINGS), None),
    'TargetViewContrast': (dict(decoder=TOKENS, **CONTRAST, surroundings=SURROUNDINGS), None),
    'PrototypeMatching': (dict(neck=NECK, surroundings=SURROUNDINGS), None),
    'ViewContrast': (dict(neck=CONTRAST['neck'], surroundings=SURROUNDINGS), None),
    'PatchDistillation': (dict(head=dict(type='IBOTHead'), neck=NECK, surroundings=SURROUNDINGS), None),
    'ImageRestoration': (dict(decoder=DECODER, surroundings=SURROUNDINGS), None),
    'MaskedPrediction': (dict(target=dict(type='Pixels'), decoder=TOKENS, surroundings=SURROUNDINGS), None),
    'LossPrediction': (
        dict(decoder=TOKENS, surroundings=SURROUNDINGS._replace(objectives=dict(predict=PREDICT))),
        None,
    ),
    'CurriculumMasking': (
        dict(network=dict(num_heads=2), surroundings=SURROUNDINGS._replace(objectives=dict(predict=PREDICT))),
        None,
    ),
    'MaskingTransformer': (
        dict(channels=CHANNELS, patches=4, num_layers=1, num_heads=2),
        lambda one: one(torch.randn(2, one.patches, one.visibility.in_features)),
    ),
    'LinearDecoder': (dict(in_channels=CHANNELS, out_channels=12), decode),
    'CrossAttentionDecoder': (dict(in_channels=CHANNELS, out_channels=12, num_heads=2), decode),
    'ConvDecoder': (dict(in_channels=CHANNELS, out_channels=12, groups=2), decode),
    'ViTDecoder': (dict(in_channels=CHANNELS, out_channels=12, embed_dims=16, num_layers=1, num_heads=2), decode),
    'TeacherLayers': (dict(patch_size=8), None),  # computed from a teacher: tests/models/test_teacher_layers.py
    'Tokens': (dict(patch_size=8, tokenizer='PatchTokenizer.pth'), predict_from),
    'TimmNetwork': (dict(arch='test_vit'), lambda one: [*one.forward_tokens(torch.zeros(1, 3, 160, 160))[:2]]),
    **{kind: (dict(file=f'{kind}.pth'), tokenize) for kind in WRITERS},
    'KeyContrast': ({**KEYS, 'surroundings': SURROUNDINGS}, None),
    'ViewDataPreprocessor': (
        dict(mean=[120.0] * 3, std=[60.0] * 3),
        lambda one: one({'inputs': torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 'data_samples': []})['inputs'],
    ),
    'CNNImageDecoder': (
        dict(in_channels=CHANNELS, channels=4),
        lambda one: one(torch.randn(2, one.blocks[0].conv.in_channels, 2, 2)),
    ),
    'MomentumTeacher': (LINEAR, lambda one: one.momentum_at(Progress(3, 10, 2))),
    'DINONeck': (
        dict(in_channels=CHANNELS, out_dim=8, hidden_dim=8, bottleneck_dim=4),
        lambda one: one(torch.randn(4, one.mlp[0].in_features), 2),
    ),
    'SimpleFPN': (
        dict(in_channels=CHANNELS, out_channels=4),
        lambda one: one([torch.randn(1, CHANNELS, 4, 4)]),
    ),
    'BuiltinScenes': (dict(num_images=2, image_size=16), first_of),
    'ImageFolder': (
        dict(data_root='images', split='', serialize_data=False, pipeline=[dict(type='LoadRGB')]),
        first_of,
    ),
    'TextList': (
        dict(list_file='list.txt', data_root='images', serialize_data=False, pipeline=[dict(type='LoadRGB')]),
        first_of,
    ),
    'KeypointFolder': (
        dict(
            ann_file='annotations/person_keypoints_train2017.json',
            data_root='keypoints',
            data_prefix=dict(img='train2017'),
            serialize_data=False,
            pipeline=[dict(type='LoadRGB')],
        ),
        first_of,
    ),
    'CropInstance': (dict(size=(12, 8), scale=0.3, rotation=30.0, flip_prob=0.5), cut_instance),
    'HeatmapHead': (dict(in_channels=CHANNELS, num_keypoints=2, channels=4), find_keypoints),
    'KeypointEstimator': (
        dict(
            backbone=dict(SMALL, out_type='featmap'),
            head=dict(type='HeatmapHead', in_channels=16, num_keypoints=2, channels=4),
        ),
        lambda one: one(torch.randn(1, 3, 32, 32)),
    ),
    'KeypointMetric': ({}, lambda one: one.compute_metrics([])),
    'CenterView': (dict(resize=8, crop=6), cut),
    'LoadRGB': ({}, None),
    'MultiCrop': (CROPS, cut),
    'PackViews': ({}, None),
    'WholeView': (dict(size=8), cut),
    'FrozenFeatures': (dict(patch_size=16, source='timm:vit_tiny_patch16_224'), None),
    'FrozenGuide': (dict(source='timm:vit_tiny_patch16_224'), None),
    'EpochSampler': (dict(dataset=Rows()), lambda one: [len(one), *one]),
    'RoundedRepeatAugSampler': (dict(dataset=Rows()), None),
    'AtomicCheckpointHook': ({}, None),
    'CollapseMonitorHook': ({}, None),
    'KNNHook': (dict(train_dataset=dict(type='BuiltinScenes'), val_dataset=dict(type='BuiltinScenes')), None),
    'PanelHook': ({}, None),
    'PretrainedBackboneHook': ({}, None),
    'UnreadableImageHook': ({}, None),
    'cluster': ({}, None),
    'depth': (dict(data='depth'), None),
    'keypoints': (dict(data='figures'), None),
    'knn': ({}, None),
    'linear': ({}, None),
    'lowshot': ({}, None),
    'retrieval': ({}, None),
    'masked_images': ({}, None),
    'tracking': (dict(data='videos'), None),
    'WandbTracker': (dict(save_dir='vis_data', run='run'), None),
    'MLflowTracker': (dict(save_dir='vis_data', run='run'), None),
    'DistillationOptimWrapper': (dict(optimizer=optimizer()), None),
}
# How messages call arguments that they do not call by their names.
OTHER_WORDS = {
    'ImageFolder': {'data_root': 'the data root', 'extensions': 'holds no images'},
    'KeypointFolder': {'ann_file': 'annotation file', 'data_root': 'annotation file', 'data_prefix': 'images'},
    'TextList': {'list_file': 'the list of images', 'data_root': 'green/000.png'},
    'EpochSampler': {'dataset': 'the data set'},
    'RoundedRepeatAugSampler': {'dataset': 'the data set'},
    'KNNHook': {'ks': 'k-NN'},
    'LinearDecoder': {'visible_only': 'encoder_sees'},
    'LocalMIM': {'scales': 'MaskedPrediction.scale', 'layers': 'MaskedPrediction.layer'},
    'knn': {'ks': 'k-NN'},
    'linear': {'rates': 'the learning rate'},
    'retrieval': {'ranks': 'mP@k'},
}
# Those without an argument of their own, or that are built of other things than values; and where they are tested.
NOT_HERE = {
    'NonFiniteLossHook': 'takes no argument',
    'GuideCacheHook': 'takes no argument',
    'StepInfoHook': 'takes no argument',
    'StopSignalHook': 'takes no argument',
    'ProgressHook': 'takes no argument',
    'StepParamSchedulerHook': 'takes no argument',
    'InferencerImage': 'takes no argument',
    'PackKeypoints': 'takes no argument',
    'MuonAdamW': 'takes parameters: tests/engine/test_muon_adamw.py',
    'WarmupCosineLR': 'a schedule of an optimizer: tests/engine/test_schedule.py',
    'MSTRunner': 'tests/engine/test_bad_input.py',
    'ResumableEpochLoop': 'tests/engine/test_bad_input.py',
    'TrainableOptimWrapperConstructor': 'tests/engine/test_bad_input.py',
    'BackboneLayerDecayConstructor': 'tests/downstream/test_depth.py',
    'ShardDataset': 'reads shards: tests/datasets/test_shards.py',
    'ShardSampler': 'reads shards: tests/datasets/test_shards.py',
    'backgrounds': 'reads a head: tests/evaluation/test_backgrounds.py',
    'CocoFolder': 'needs mmdet or mmseg: tests/downstream',
    'CocoFolderMetric': 'needs mmdet or mmseg: tests/downstream',
    'CityscapesFolder': 'needs mmdet or mmseg: tests/downstream',
    'LabelMapFolder': 'needs mmdet or mmseg: tests/downstream',
    'ClassNameVisualizer': 'needs mmdet or mmseg: tests/downstream',
    'CheckLabels': 'needs mmdet or mmseg: tests/downstream',
    'FullPrecisionRoIExtractor': 'needs mmdet or mmseg: tests/downstream',
    'FullPrecisionAnchorGenerator': 'needs mmdet or mmseg: tests/downstream',
    'SETROriginalMLAHead': 'needs mmdet or mmseg: tests/downstream',
    'DepthFolder': 'needs mmdet or mmseg: tests/downstream',
    'LoadDepth': 'needs mmdet or mmseg: tests/downstream',
    'CropBottom': 'needs mmdet or mmseg: tests/downstream',
    'DeconvolutionDepthHead': 'needs mmdet or mmseg: tests/downstream',
    'ScaleInvariantLoss': 'needs mmdet or mmseg: tests/downstream',
    'KnownDepthMetric': 'needs mmdet or mmseg: tests/downstream',
}


def ours() -> Iterator[tuple[str, type]]:
    """Every component that mstkit registers, by the first of its names: older checkpoints may know another."""
    found: set[type] = set()
    for registry in vars(registries).values():
        if isinstance(registry, Registry):
            registry.import_from_location()
            for name, cls in registry.module_dict.items():
                if cls.__module__.startswith('mstkit.') and cls not in found:
                    found.add(cls)
                    yield name, cls


CLASSES = dict(ours())
# What has no line above is built from its defaults, and from what the model around it gives: a new component is covered
# when it is registered.
KINDS: dict[type, tuple[dict[str, Any], Callable[[Any], Any] | None]] = {
    Guide: ({}, None),
    Masker: ({}, hide),
    Objective: (dict(surroundings=SURROUNDINGS), None),
    Pretrainer: (dict(backbone=SMALL), step),
    Target: (dict(patch_size=8), predict_from),
}
ALL = dict(BASES)
ALL.update(
    (name, next((base for kind, base in KINDS.items() if issubclass(cls, kind)), ({}, None)))
    for name, cls in CLASSES.items()
    if name not in BASES and name not in NOT_HERE
)


def make_files(folder: Path) -> None:
    """Writes what the components above read: images, a list of them, and a file for each tokenizer."""
    write_images(folder / 'images', dict(green=1, red=1), size=30)
    (folder / 'list.txt').write_text('green/000.png\n')
    files(folder)
    ensure_depth_scenes(folder / 'depth', 2, 1, 16)
    write_keypoints(folder / 'keypoints', train=2, val=1)
    ensure_figure_scenes(folder / 'figures', 2, 1, 16)
    ensure_videos(folder / 'videos', 0, 1, 16, 2)


@contextlib.contextmanager
def small_defaults() -> Iterator[None]:
    """What a method builds where it is given no part: as the papers have them, these took two fifths of the time."""
    small = {'DINONeck': NECK, 'ViTDecoder': dict(embed_dims=16, num_layers=1, num_heads=2)}
    with contextlib.ExitStack() as changed:
        for name, sizes in small.items():
            build: Any = inspect.unwrap(vars(CLASSES[name])['__init__'])
            parameters = inspect.signature(build).parameters.values()
            defaults = [sizes.get(one.name, one.default) for one in parameters if one.default is not one.empty]
            changed.enter_context(mock.patch.object(build, '__defaults__', tuple(defaults)))
        yield


def taken_by(name: str) -> dict[str, Any]:
    """The arguments of a component that has a line above, with their annotations."""
    return {one: hint for one, hint in arguments(CLASSES[name]).items() if one != 'init_cfg'}
