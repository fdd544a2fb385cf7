from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from mmengine.config import Config
from safetensors.torch import save_file

from mstkit.errors import UsageError
from mstkit.evaluation.features import PooledEncoder
from mstkit.networks import open_networks, open_several
from mstkit.networks.from_config import SEED
from mstkit.networks.from_timm import _is_dinos
from mstkit.registry import MODELS
from tests.models.tokenizers import Shades
from tests.networks.toy import CONFIG, VIT, toy_images, write_checkpoint

VIT_OF_TIMM = 'vit_tiny_patch16_224'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp('run') / 'epoch_1.pth')


@pytest.fixture(scope='module')
def timm_weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return timm.create_model(VIT_OF_TIMM).state_dict()


def test_a_checkpoint_has_two_networks(checkpoint: Path) -> None:
    student, teacher = open_networks(str(checkpoint))
    folder = checkpoint.parent.name
    assert [student.name, teacher.name] == [f'{folder}/epoch_1 student', f'{folder}/epoch_1 teacher']
    assert (student.image_size, student.resize) == (32, 40)
    assert (student.mean, student.std) == ((120.0, 110.0, 100.0), (60.0, 50.0, 40.0))
    assert 'loaded 42 of 42 tensors' in student.origin
    weights = torch.load(checkpoint)['state_dict']
    assert torch.equal(teacher.backbone.cls_token, weights['teacher.backbone.cls_token'])
    assert torch.equal(student.backbone.cls_token, weights['backbone.cls_token'])
    assert student.fingerprint != teacher.fingerprint
    (alone,) = open_networks(str(checkpoint), branch='teacher')
    assert alone.fingerprint == teacher.fingerprint


def test_a_checkpoint_of_one_branch_needs_no_word_for_it(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / 'epoch_2.pth', branches=('',))
    (network,) = open_networks(str(path))
    assert network.name == f'{tmp_path.name}/epoch_2'
    with pytest.raises(UsageError, match='has no teacher'):
        open_networks(str(path), branch='teacher')


def test_random_weights_are_the_same_every_time_and_disturb_nothing(checkpoint: Path, tmp_path: Path) -> None:
    config = tmp_path / 'mst.py'
    Config(CONFIG).dump(config)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    from_config, from_checkpoint = (open_networks(f'random:{path}')[0] for path in (config, checkpoint))
    assert torch.rand(1) == expected
    assert from_config.fingerprint == from_checkpoint.fingerprint
    assert from_config.fingerprint != open_networks(str(checkpoint))[0].fingerprint
    assert (from_config.name, from_config.image_size) == ('random mst', 32)
    assert from_config.backbone.get_parameter('layers.0.attn.qkv.weight').std() == pytest.approx(0.02, rel=0.1)


def test_random_weights_of_another_seed(checkpoint: Path) -> None:
    first, same, other = (open_networks(f'random:{checkpoint}{seed}')[0] for seed in ('', '@0', '@7'))
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert (same.name, other.name) == (first.name, f'{first.name} (seed 7)')
    torch.manual_seed(7)
    fresh = MODELS.build(CONFIG['model']['backbone'])
    fresh.init_weights()
    assert all(torch.equal(other.backbone.state_dict()[key], value) for key, value in fresh.state_dict().items())
    for wrong in ('x', '-1', ''):
        with pytest.raises(UsageError, match=f'the seed behind the @ is a whole number from 0, not {wrong!r}'):
            open_networks(f'random:{checkpoint}@{wrong}')


@pytest.mark.parametrize(('method', 'parts'), [('MAE', {}), ('BEiT', dict(tokenizer=Shades()))])
def test_what_a_method_gives_its_backbone_is_opened_too(tmp_path: Path, method: str, parts: dict[str, Any]) -> None:
    """Its config names neither positions nor initialization: the class has them, and the same network is opened."""
    backbone = CONFIG['model']['backbone']
    torch.manual_seed(0)
    model = MODELS.build(dict(type=method, backbone=backbone, **parts))
    model.init_weights()
    written = Config(
        {
            **CONFIG,
            'model': dict(type=method, backbone=backbone, data_preprocessor=CONFIG['model']['data_preprocessor']),
        }
    )
    path = tmp_path / 'epoch_1.pth'
    torch.save({'meta': {'cfg': written.pretty_text}, 'state_dict': model.state_dict()}, path)
    (trained,), (random,) = open_networks(str(path)), open_networks(f'random:{path}')
    torch.manual_seed(SEED)
    fresh = MODELS.build(model.backbone_config(backbone))
    fresh.init_weights()
    for opened, expected in ((trained, model.backbone), (random, fresh)):
        assert opened.backbone.positions == expected.positions == ('sincos' if method == 'MAE' else 'none')
        found = opened.backbone.state_dict()
        assert found.keys() == expected.state_dict().keys()
        assert all(torch.equal(found[key], value) for key, value in expected.state_dict().items())
    other = Config({**CONFIG, 'model': dict(type=f'mmpretrain.{method}', backbone=backbone)})
    other.dump(tmp_path / 'other.py')
    assert open_networks(f'random:{tmp_path / "other.py"}')[0].backbone.positions == 'learned', 'not our class'


PREDICTING: dict[str, dict[str, Any]] = {
    'MAE': {},
    'SimMIM': {'mask_patch_size': None},
    'BEiT': {'tokenizer': Shades()},
}


@pytest.mark.parametrize('method', [*PREDICTING, 'MaskFeat', 'MSTAlgorithm'])
def test_the_feature_of_an_image_is_that_of_its_method(tmp_path: Path, method: str) -> None:
    """The mean of the patches in MAE, SimMIM and BEiT, in k-NN during training as in an opened network."""
    backbone = CONFIG['model']['backbone']
    predicting = method in PREDICTING
    parts = PREDICTING[method] if predicting else {}
    model = MODELS.build(dict(type=method, backbone=backbone, **parts))
    model.init_weights()
    written = dict(type=method, backbone=backbone, data_preprocessor=CONFIG['model']['data_preprocessor'])
    path = tmp_path / 'epoch_1.pth'
    text = Config({**CONFIG, 'model': written}).pretty_text
    torch.save({'meta': {'cfg': text}, 'state_dict': model.state_dict()}, path)
    network = open_networks(str(path), 'student')[0]
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    model.eval()
    with torch.no_grad():
        tokens = model.backbone.forward_tokens(images)
        expected = tokens.patch_tokens.mean(dim=1) if predicting else tokens.pooled
        assert not torch.allclose(tokens.patch_tokens.mean(dim=1), tokens.pooled, atol=1e-3)
        layers = torch.stack(model.backbone.forward_layers(images, 2)).mean(dim=2)
        torch.testing.assert_close(PooledEncoder(model.backbone)(images), expected)
        torch.testing.assert_close(network(images).pooled, expected)
        if predicting:
            torch.testing.assert_close(network.features(images, last_blocks=2), torch.cat([*layers], dim=1))
            with pytest.raises(UsageError, match='already the mean of its patches'):
                network.features(images, mean_patch=True)


def test_a_classifier_of_mmpretrain_whose_backbone_is_ours(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = [
        dict(type='LoadRGB'),
        dict(type='ResizeEdge', scale=36),
        dict(type='CenterCrop', crop_size=32),
    ]
    config = dict(
        default_scope='mstkit',
        model=dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='MaskedVisionTransformer', **VIT),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=2, in_channels=48),
            data_preprocessor=dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=False, num_classes=2),
        ),
        test_dataloader=dict(dataset=dict(type='ImageFolder', pipeline=steps)),
    )
    Config(config).dump(tmp_path / 'downstream.py')
    model = MODELS.build(config['model'])
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'epoch_1.pth')
    (network,) = open_networks(f'mmpretrain:{tmp_path}/downstream.py@{tmp_path}/epoch_1.pth')
    assert (network.image_size, network.resize, network.mean) == (32, 36, (1.0, 2.0, 3.0))
    assert torch.equal(network.features(toy_images()), model.eval().extract_feat(toy_images())[0])
    steps[0]['type'] = 'LoadImageFromFile'  # which reads BGR
    Config(config).dump(tmp_path / 'downstream.py')
    with pytest.raises(UsageError, match='only RGB'):
        open_networks(f'mmpretrain:{tmp_path}/downstream.py@{tmp_path}/epoch_1.pth')


def test_architectures_of_mmpretrain() -> None:
    vit, swin = open_several(['mmpretrain:deit-tiny', 'mmpretrain:swin-tiny'])
    assert (vit.name, vit.layout, len(vit.blocks)) == ('mmpretrain:deit-tiny (random)', 'vit', 12)
    assert (swin.layout, [block.stage for block in swin.blocks]) == ('swin', [0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3])
    assert vit.mean == (123.675, 116.28, 103.53) and 'random' in vit.origin


def test_the_model_zoo_of_mmpretrain() -> None:
    (network,) = open_networks('mmpretrain:deit-tiny_4xb256_in1k')
    assert (network.image_size, network.resize, network.mean) == (224, 256, (123.675, 116.28, 103.53))


@pytest.mark.parametrize('form', ['plain', 'wrapped', 'safetensors'])
def test_weights_of_timm(tmp_path: Path, timm_weights: dict[str, torch.Tensor], form: str) -> None:
    path = tmp_path / ('w.safetensors' if form == 'safetensors' else 'w.pth')
    if form == 'safetensors':
        save_file(timm_weights, path)
    else:
        wrapped = {f'module.{name}': value for name, value in timm_weights.items()}
        torch.save(timm_weights if form == 'plain' else dict(state_dict=wrapped, epoch=3), path)
    (network,) = open_networks(f'timm:{VIT_OF_TIMM}@{path}')
    expected = timm.create_model(VIT_OF_TIMM, num_classes=0)
    expected.load_state_dict({key: value for key, value in timm_weights.items() if not key.startswith('head')})
    images = toy_images((224, 224), count=1)
    torch.testing.assert_close(network.features(images), expected.eval()(images))
    assert (network.image_size, network.resize) == (224, 248)
    assert network.mean == network.std == (127.5, 127.5, 127.5)
    assert network.name == f'timm:{VIT_OF_TIMM}'


def test_incomplete_or_unreadable_weights_of_timm(tmp_path: Path, timm_weights: dict[str, torch.Tensor]) -> None:
    path = tmp_path / 'w.pth'
    torch.save({key: value for key, value in timm_weights.items() if key != 'blocks.3.attn.qkv.bias'}, path)
    with pytest.raises(UsageError, match=r'missing 1 \(blocks.3.attn.qkv.bias\)'):
        open_networks(f'timm:{VIT_OF_TIMM}@{path}')
    path.write_bytes(b'nothing')
    with pytest.raises(UsageError, match=r'w\.pth cannot be read as weights'):
        open_networks(f'timm:{VIT_OF_TIMM}@{path}')


def test_names_of_several_are_told_apart() -> None:
    names = [network.name for network in open_several([f'timm:{VIT_OF_TIMM}'] * 2)]
    assert names == [f'timm:{VIT_OF_TIMM} (random) (1)', f'timm:{VIT_OF_TIMM} (random) (2)']


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('none.pth', r"no file 'none.pth': .*timm:NAME.*random:"),
        ('tim:vit', "no kind of network called 'tim'. Did you mean timm.*random:"),
        ('timm:', 'names no network'),
        ('timm:vit_tiny_patch16_223', 'no model of that name. Did you mean .*vit_tiny_patch16_224'),
        ('timm:vit_tiny_patch16_224@none.pth', "file of weights 'none.pth'"),
        ('timm:vit_tiny_patch16_224.nobody', 'timm:vit_tiny_patch16_224.nobody cannot be built'),
        ('timm:resnet18', 'not a supported ViT or Swin'),
        ('mmpretrain:deit-tinny', 'no model or architecture of that name. Did you mean .*deit-tiny'),
        ('mmpretrain:none.py', 'there is no config file none.py'),
        ('random:none.py', 'there is no config file none.py'),
        ('random:none.pth', 'no such file'),
        ('mmpretrain:resnet18_8xb32_in1k', 'not a supported ViT or Swin'),
    ],
)
def test_what_cannot_be_opened(source: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_networks(source)


def test_files_that_hold_no_network(tmp_path: Path, checkpoint: Path) -> None:
    def refused(message: str, source: str | None = None, **content: object) -> None:
        if content:
            torch.save(content, tmp_path / 'a.pth')
        with pytest.raises(UsageError, match=message):
            open_networks(source or str(tmp_path / 'a.pth'))

    text = Config(CONFIG).pretty_text
    refused('contains no config.*mmpretrain:CONFIG', state_dict={'backbone.w': torch.zeros(1)})
    refused(
        'has no backbone',
        state_dict={'head.w': torch.zeros(1)},
        meta=dict(cfg=text),
    )
    refused('only 0 of 42 tensors', state_dict={'backbone.w': torch.zeros(1)}, meta=dict(cfg=text))
    refused('no model.backbone', state_dict={'backbone.w': torch.zeros(1)}, meta=dict(cfg='model = dict()'))
    refused('only 0 of 150', source=f'mmpretrain:deit-tiny@{checkpoint}')
    (tmp_path / 'a.py').write_text('model = dict(backbone=dict(type="MaskedVisionTransfomer"))')
    refused("called 'MaskedVisionTransfomer'. Did you mean", source=f'random:{tmp_path}/a.py')
    (tmp_path / 'a.py').write_text('model = nothing')
    refused('cannot be read: NameError', source=f'mmpretrain:{tmp_path}/a.py')
    with pytest.raises(UsageError, match="device 'cuda:99' cannot be used"):
        open_networks(str(checkpoint), device='cuda:99')


def test_weights_of_dino_and_its_kin_are_told_by_their_names() -> None:
    """Their positions are interpolated with DINO's offset, and images may have any size."""
    net = open_networks('timm:vit_small_patch16_224.dino')[0]
    assert net.interpolate_offset == 0.1 and net.image_size == 224
    assert net(torch.zeros(1, 3, 64, 96)).grid == (4, 6)
    assert open_networks('mmpretrain:dinov2-small')[0].interpolate_offset == 0.1
    assert open_networks('mmpretrain:deit-tiny')[0].interpolate_offset == 0.0
    names = (
        'vit_small_patch14_dinov2',
        'vit_small_patch14_reg4_dinov2',
        'vit_tiny_patch16_224',
        'swin_tiny_patch4_window7_224',
    )
    assert [_is_dinos(name) for name in names] == [True, False, False, False]
