"""The whole matrix: every masking strategy in every method on every backbone trains a step, or is refused by name."""

from __future__ import annotations

import copy
import functools
import inspect
from typing import Any

import pytest
import torch

from mstkit.errors import UsageError
from mstkit.models import Masker, MoBY, Pretrainer, Step, UniformMasker
from mstkit.registry import MODELS
from mstkit.structures import Progress
from tests.models.builders import NECK, SIZES, SMALL_BACKBONES, TINY, VIT, total, views
from tests.models.moby import mlp
from tests.models.tokenizers import Shades

NO_MASK = 'none'
REGISTERED = [cls for cls in MODELS.module_dict.values() if isinstance(cls, type)]
# What is not named here is built from its defaults.
SETTINGS: dict[str, dict[str, Any]] = {
    'AttMaskHigh': dict(ratio=(0.1, 0.5), image_prob=1.0),
    'AttMaskHint': dict(ratio=(0.1, 0.5), image_prob=1.0, show_max=0.4),
    'AttMaskLow': dict(ratio=(0.1, 0.5), image_prob=1.0),
    'AttentionGuidedMasker': dict(num=2, prob=0.5),
    'BlockMasker': dict(ratio=(0.1, 0.5), image_prob=1.0),
    'MaskerSchedule': dict(phases=[(0, None), (5, dict(type='AttMaskHigh', image_prob=1.0))]),
    'RandomMasker': dict(ratio=(0.1, 0.5)),
    'RatioSchedule': dict(masker=dict(type='BlockMasker', image_prob=1.0), start=0.2, end=0.5, epochs=3),
    'ShuffledMasker': dict(masker=dict(type='BlockMasker', image_prob=1.0)),
}
MASKERS = sorted(cls.__name__ for cls in REGISTERED if issubclass(cls, Masker))
STRATEGIES: dict[str, dict[str, Any] | None] = {NO_MASK: None, **{name: SETTINGS.get(name, {}) for name in MASKERS}}
PATCHES = dict(patch_head=dict(type='IBOTHead'))
IMAGES = dict(decoder=dict(type='CNNImageDecoder', channels=8))
METHODS: dict[str, dict[str, Any]] = {
    'DINO': dict(type='DINO'),
    'IBOT': dict(type='IBOT', **PATCHES),
    'IBOT, separate head': dict(type='IBOT', **PATCHES, patch_neck=NECK),
    'IBOT and decoder': dict(type='IBOT', **PATCHES, **IMAGES),
    'MSTAlgorithm': dict(type='MSTAlgorithm', **IMAGES),
    'MSTAlgorithm and patches': dict(type='MSTAlgorithm', **IMAGES, **PATCHES),
    'Pretrainer': dict(
        type='Pretrainer',
        objectives=dict(
            ce=dict(type='CrossView', neck=NECK, head=dict(type='DINOHead')),
            restore=dict(type='ImageRestoration', **IMAGES),
        ),
    ),
}
_OTHERS = {cls.__name__ for cls in REGISTERED if issubclass(cls, Pretrainer)} - {MoBY.__name__}  # test_moby.py
_OTHERS -= {config['type'] for config in METHODS.values()}
# What a method has no default for, or one that is large.
SMALL_DECODER = dict(type='ViTDecoder', embed_dims=24, num_layers=1, num_heads=2)
NEEDED: dict[str, dict[str, Any]] = {
    'BEiT': dict(tokenizer=Shades()),
    'BootMAE': dict(
        decoder=dict(SMALL_DECODER, type='CrossAttentionDecoder', attends_to=1),
        feature_decoder=dict(SMALL_DECODER, type='CrossAttentionDecoder'),
    ),
    'CLMAE': dict(decoder=SMALL_DECODER, network=dict(num_layers=1)),
    'CMAE': dict(decoder=SMALL_DECODER, feature_decoder=SMALL_DECODER, neck=mlp(), predictor=mlp()),
    'DBOT': dict(decoder=SMALL_DECODER),
    'Data2Vec2': dict(masks_per_image=2),
    'LocalMIM': dict(layers=(1, -1), scales=(2.0, 0.5), decoder=SMALL_DECODER),
    'MAE': dict(decoder=SMALL_DECODER),
}
METHODS.update((name, dict(type=name, **NEEDED.get(name, {}))) for name in sorted(_OTHERS))
DISTILLING = dict(neck=dict(NECK), head=dict(type='DINOHead'), teacher=dict(momentum=0.9))  # where a method takes them
PATCH_SIZES = {
    'vit': 8,
    'small swin': 32,
}  # of what is hidden as one, pixels: SimMIM's own is the whole of the small view
# As few layers as the matrix needs: a first and a last one, and a last stage of two.
BACKBONES: dict[str, dict[str, Any]] = {
    'vit': {**VIT, 'arch': {**TINY, 'num_layers': 2}},
    'small swin': {
        **SMALL_BACKBONES['small swin'],
        'arch': dict(embed_dims=24, depths=[1, 1, 1, 2], num_heads=[1, 2, 3, 6]),
    },
}
CELLS = [(s, m, b) for s in STRATEGIES for m in METHODS for b in BACKBONES]


def masker(strategy: str) -> dict[str, Any] | None:
    arguments = STRATEGIES[strategy]
    return None if arguments is None else dict(type=strategy, **copy.deepcopy(arguments))


def build(strategy: str, method: str, backbone: str, /, **parts: Any) -> Pretrainer:
    taken = set(inspect.signature(MODELS.get(METHODS[method]['type'])).parameters)
    offered = dict(DISTILLING, mask_patch_size=PATCH_SIZES[backbone])
    flat = {name: copy.deepcopy(part) for name, part in offered.items() if name in taken - set(METHODS[method])}
    config = dict(
        copy.deepcopy(METHODS[method]),
        **flat,
        backbone=copy.deepcopy(BACKBONES[backbone]),
        masker=masker(strategy),
        data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3),
    )
    model = MODELS.build({**config, **parts})
    model.init_weights()
    model.check_views(*SIZES[backbone])
    return model.train()


@functools.cache
def sees(method: str) -> str:
    """What the method's encoder gets of a masked image."""
    return build('RandomMasker', method, 'vit').encoder_sees


def test_the_matrix_is_whole():
    """Every registered masker and method is in it."""
    assert set(STRATEGIES) == {cls.__name__ for cls in REGISTERED if issubclass(cls, Masker)} | {NO_MASK}
    assert set(SETTINGS) <= set(STRATEGIES), 'settings of a masker that is gone'
    methods = {cls.__name__ for cls in REGISTERED if issubclass(cls, Pretrainer)} - {MoBY.__name__}  # test_moby.py
    assert {config['type'] for config in METHODS.values()} == methods
    assert len(STRATEGIES) >= 9 and len(METHODS) >= 7 and len(CELLS) == len(STRATEGIES) * len(METHODS) * 2


@pytest.mark.parametrize(('strategy', 'method', 'backbone'), CELLS)
def test_cell(strategy, method, backbone):
    if strategy == NO_MASK and 'patch_head' in METHODS[method]:
        with pytest.raises(UsageError, match='but there is no masker: give one'):
            build(strategy, method, backbone)
        return
    if strategy != NO_MASK and MODELS.build(masker(strategy)).throws and sees(method) == 'mask_token':
        with pytest.raises(UsageError, match=f'masker {strategy} throws patches, .* has a token in every place'):
            build(strategy, method, backbone)
        return
    try:
        model = build(strategy, method, backbone)
    except UsageError as refusal:  # a method that knows what it cannot take says which part that is
        named = (method, strategy, BACKBONES[backbone]['type'])
        assert method in _OTHERS and any(name in str(refusal) for name in named), refusal
        return
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    # Epoch 6, in which every schedule hides something.
    model.set_progress(Progress(60, 100, 10, rank_seed=1, iteration=60))
    local = any(objective.reads_local for objective in model.objectives.values())
    large = model.global_views + (model.target_needs is not None)
    losses = model.loss(views(backbone, local=1) if local else views(backbone)[:large])
    wanted = METHODS[method]
    patch, restore = 'patch_head' in wanted, 'decoder' in wanted or 'objectives' in wanted
    terms = {'loss_ce'} | ({'loss_patch'} if patch else set()) | ({'loss_restore'} if restore else set())
    assert set(losses) == ({f'loss_{name}' for name in model.objectives} if method in _OTHERS else terms)
    if strategy != NO_MASK:
        assert model.last_statistics()['hidden_fraction'] > 0
    loss = total(losses)
    assert torch.isfinite(loss)
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    if model.teacher is not None:
        assert not any(p.requires_grad or p.grad is not None for p in model.teacher.parameters())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer.step()
    model.after_step()
    after = model.state_dict()
    followed = [] if model.teacher is None else [f'teacher.{name}.' for name in model.followed()]
    for part in ('backbone.', *followed, *(() if method in _OTHERS else ('objectives.ce.head.center',))):
        assert any(not torch.equal(before[k], after[k]) for k in before if k.startswith(part)), part
    if patch:
        assert not torch.equal(before['objectives.patch.head.center'], after['objectives.patch.head.center'])


@pytest.mark.parametrize('method', METHODS)
def test_a_swin_that_needs_uniform_masks_takes_them(method):
    """test_cell accepts any refusal that names a part; this one is not to be refused, so that test_cell trains it."""
    try:
        build('RandomMasker', method, 'small swin')
        refusal = ''
    except UsageError as error:
        refusal = str(error)
    proposed = 'take UniformMasker' in refusal
    assert proposed or method not in ('BootMAE', 'CMAE', 'DBOT', 'LocalMIM', 'MAE', 'MSN')
    if proposed:
        model = build('UniformMasker', method, 'small swin')
        assert model.encoder_sees == 'visible' and isinstance(model.masker, UniformMasker)


@pytest.mark.parametrize(('method', 'spread'), [('DINO', 0.0), ('IBOT', 0.0), ('MSTAlgorithm', 0.02)])
def test_what_the_mask_embedding_starts_as(method, spread):
    """Zeros in iBOT's code, which AttMask's and its DINO share; MST's paper does not say."""
    token = build('AttMaskHigh', method, 'vit').get_parameter('mask_token').detach()
    assert token.std() == pytest.approx(spread, rel=0.35) and token.abs().max() < 0.08
    wide = build('AttMaskHigh', method, 'vit', mask_token_std=0.5).get_parameter('mask_token').detach()
    assert wide.std() == pytest.approx(0.5, rel=0.35)
    with pytest.raises(UsageError, match='mask_token_std is -1'):
        build('AttMaskHigh', method, 'vit', mask_token_std=-1)


class Spy:
    """Notes how often a function runs, and lets it."""

    def __init__(self, function) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.function(*args, **kwargs)


@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.parametrize(
    ('strategy', 'method', 'asked'),
    [
        ('RandomMasker', 'IBOT', False),
        ('BlockMasker', 'MSTAlgorithm', False),
        (NO_MASK, 'DINO', False),
        ('AttMaskHigh', 'DINO', True),
    ],
)
def test_nothing_is_computed_that_nobody_needs(monkeypatch, strategy, method, asked, backbone):
    """No attention without a masker that asks, no patch logits and no image without their loss."""
    from mstkit.models.backbones import masked_swin, masked_vit

    model = build(strategy, method, backbone)
    attention = Spy(masked_vit.pooled_attention)
    monkeypatch.setattr(masked_vit, 'pooled_attention', attention)
    of_swin = masked_swin.SmallMapWindowMSA.attention_to

    def counted(*args, **kwargs):
        attention.calls += 1
        return of_swin(*args, **kwargs)

    monkeypatch.setattr(masked_swin.SmallMapWindowMSA, 'attention_to', counted)
    rows: list[int] = []
    for neck in (model.objectives.ce.neck, model.teacher.ce_neck):
        neck.last_layer.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    model.set_progress(Progress(60, 100, 10, rank_seed=1, iteration=60))
    inputs = views(backbone, local=2)
    model.loss(inputs)
    assert attention.calls == int(asked), 'once, on the teacher'
    if 'patch' not in model.objectives:
        assert rows == [4, 8], 'the teacher of two views of two images, the student of four'
        assert 'restore' in model.objectives or 'loss_restore' not in model.loss(inputs)
    else:
        cells = 4 * 16  # of four views, on the grids of both backbones
        count = round(float(model.last_statistics()['hidden_fraction']) * cells)
        assert sorted(rows) == sorted([4, 8, count, 1, count]), 'hidden patches only, and one row for the center'


@pytest.mark.parametrize('backbone', BACKBONES)
def test_patch_loss_equals_the_dense_one(backbone):
    """Invariant 7 on whole models: all patches through the heads, iBOT's normalization, and the center of all."""
    model = build('RandomMasker', 'IBOT', backbone)
    progress = Progress(0, 100, 10, rank_seed=1, iteration=0)
    model.set_progress(progress)
    inputs = views(backbone, local=0)
    losses = model.loss(inputs)
    images = torch.cat(inputs)
    model.set_progress(progress)
    with torch.no_grad():
        step = Step(model, inputs)
        seen, mask = model.teacher_forward(images, attention=False), step.mask
        targets = model.teacher.ce_neck(seen.patch_tokens.flatten(0, 1)).view(4, -1, model.objectives.ce.neck.out_dim)
    student = model.objectives.ce.neck(model.student_forward(images, mask).patch_tokens.flatten(0, 1)).view_as(targets)
    cross = -((targets / 0.04).softmax(-1) * (student / 0.1).log_softmax(-1)).sum(-1)
    assert mask is not None
    hidden = mask.flatten(1)
    expected = ((cross * hidden).sum(-1) / hidden.sum(-1).clamp_min(1)).mean()
    torch.testing.assert_close(losses['loss_patch'], expected, rtol=1e-5, atol=1e-5)
    model.after_step()
    torch.testing.assert_close(
        model.objectives.patch.head.center, 0.1 * targets.flatten(0, 1).mean(0, keepdim=True), rtol=1e-4, atol=1e-6
    )


def test_layer_is_the_block_that_guides():
    model = build('AttMaskHigh', 'DINO', 'vit', backbone=VIT, masker=dict(type='AttMaskHigh', layer=-2, image_prob=1.0))
    model.set_progress(Progress(0, 100, 10, 1, 0))
    images = torch.cat(views()[:2])
    seen = Step(model, views()[:2]).teacher
    of_block = [
        model.teacher.backbone.forward_tokens(images, return_attention=True, attention_layer=layer).attention
        for layer in (-1, -2, -3)
    ]
    assert torch.equal(seen.attention, of_block[1])
    assert not torch.equal(of_block[0], of_block[1])
    with pytest.raises(UsageError, match='one of -3 to -1'):
        build('AttMaskHigh', 'DINO', 'vit', backbone=VIT, masker=dict(type='AttMaskHigh', layer=-4))
    with pytest.raises(UsageError, match='last 2 blocks at 128 px'):
        build('AttMaskHigh', 'DINO', 'small swin', masker=dict(type='AttMaskHigh', layer=-3))


def test_a_phase_without_mask_costs_no_attention_and_has_no_patch_loss():
    model = build('MaskerSchedule', 'IBOT', 'vit')
    model.set_progress(Progress(0, 100, 10, 1, 0))
    losses = model.loss(views())
    assert losses['loss_patch'].item() == 0.0
    assert model.last_statistics()['hidden_fraction'] == 0
    total(losses).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    step = Step(model, views()[:2])
    assert step.teacher.attention is None
    assert step.mask is not None and not step.mask.any()


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (dict(neck=dict(NECK, batch_norm='global_only')), 'give a patch_neck without batch normalization'),
        (dict(patch_head=dict(type='IBOTHead', out_dim=7)), r'patch_head\.out_dim is 7'),
        (dict(masker=dict(type='AttMaskHint', show_max=0.01)), 'leaves none of 16 patches visible'),
        (dict(masker='none'), 'give one, such as'),
    ],
)
def test_parts_that_do_not_fit(parts, message):
    with pytest.raises(UsageError, match=message):
        build('BlockMasker', 'IBOT', 'vit', **parts)


def test_a_projection_of_patches_alone_is_refused():
    with pytest.raises(UsageError, match='patch_neck is given without patch_head'):
        build('BlockMasker', 'MSTAlgorithm', 'vit', patch_neck=dict(NECK))
