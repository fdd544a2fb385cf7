"""Checkpoints of other programs are called by their names, and it is said what reads them today."""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from mstkit.errors import UsageError
from mstkit.interop import branch_state, load_strict, plain_names, read_checkpoint, read_data, recognize
from mstkit.networks import open_networks

VIT = 'vit_tiny_patch16_224'


@pytest.fixture(scope='module')
def vit() -> dict[str, torch.Tensor]:
    """A ViT of timm without its classifier."""
    return timm.create_model(VIT, num_classes=0, depth=2).state_dict()


def of(*names: str) -> dict[str, Any]:
    """Tensors of these names."""
    return {name: torch.zeros(1) for name in names}


TIMM = of('cls_token', 'pos_embed', 'patch_embed.proj.weight', 'blocks.0.norm1.weight', 'blocks.0.attn.qkv.weight')
WRAPPED = {f'module.backbone.{name}': value for name, value in TIMM.items()}
SWIN = of('patch_embed.proj.weight', 'layers.0.blocks.0.attn.relative_position_bias_table')
HF = 'embeddings.patch_embeddings.projection.weight'
CASES: dict[str, tuple[dict[str, Any], str]] = {
    'dino': (dict(student=WRAPPED, teacher=WRAPPED, epoch=1, dino_loss=of('center')), 'DINO’s code'),
    'ibot': (dict(student=WRAPPED, teacher=WRAPPED, epoch=1, ibot_loss=of('center')), 'iBOT’s or AttMask’s code'),
    'mae release': (dict(model=TIMM), 'timm’s names for a ViT, as DeiT, DINO, iBOT and MAE release'),
    'mae': (
        dict(model=TIMM | of('mask_token', 'decoder_embed.weight', 'decoder_blocks.0.norm1.weight')),
        'MAE’s code, with',
    ),
    'simmim': (
        dict(model=of('encoder.mask_token', 'decoder.0.weight', 'encoder.patch_embed.proj.weight')),
        'SimMIM’s code',
    ),
    'moby': (dict(model=of('encoder.norm.weight', 'encoder_k.norm.weight', 'queue1')), 'MoBY’s code'),
    'beit': (dict(model=TIMM | of('blocks.0.attn.q_bias', 'blocks.0.gamma_1')), 'BEiT’s code'),
    'moco v3': (dict(state_dict={f'module.base_encoder.{name}': v for name, v in TIMM.items()}), 'MoCo v3'),
    'timm': (dict(TIMM), 'timm’s names for a ViT'),
    'timm, in training': (dict(state_dict=TIMM, arch=VIT, epoch=3), 'timm’s names for a ViT'),
    'timm, compiled': ({f'_orig_mod.{name}': value for name, value in TIMM.items()}, 'timm’s names for a ViT'),
    'swin': (dict(model=SWIN), 'timm’s or Microsoft’s names for a Swin'),
    'dinov2': (TIMM | of('mask_token', 'blocks.0.ls1.gamma'), 'DINOv2’s code'),
    'hf vit': (of(f'vit.{HF}', 'vit.encoder.layer.0.layernorm_before.weight'), 'Hugging Face transformers, a ViT:'),
    'hf mae': (
        of(f'vit.{HF}', 'vit.encoder.layer.0.layernorm_before.weight', 'decoder.decoder_embed.weight'),
        'a ViTMAE',
    ),
    'hf dinov2': (of(HF, 'encoder.layer.0.layer_scale1.lambda1', 'encoder.layer.0.norm1.weight'), 'a DINOv2'),
    'timm dinov3': (
        of('cls_token', 'reg_token', 'patch_embed.proj.weight', 'blocks.0.gamma_1', 'blocks.0.norm1.weight'),
        'timm’s DINOv3',
    ),
    'hf dinov3': (of('model.layer.0.layer_scale1.lambda1'), 'a DINOv3'),
    'hf swin': (of('swin.encoder.layers.0.blocks.0.attention.self.query.weight'), 'Hugging Face transformers, a Swin'),
    'torchvision': (
        of('class_token', 'conv_proj.weight', 'encoder.layers.encoder_layer_0.ln_1.weight'),
        'torchvision, a ViT',
    ),
    'torchvision swin': (of('features.1.0.attn.relative_position_bias_table'), 'torchvision, a Swin'),
    'lightning': (
        {'state_dict': {f'model.{name}': value for name, value in TIMM.items()}, 'pytorch-lightning_version': '2.0'},
        'PyTorch Lightning',
    ),
    'mmpretrain, bare': (
        of('patch_embed.projection.weight', 'layers.0.ln1.weight'),
        'mmpretrain’s names, a ViT without',
    ),
    'resnet': (of('conv1.weight', 'layer1.0.conv1.weight', 'fc.weight'), 'a residual network'),
}


@pytest.mark.parametrize('name', CASES)
def test_a_foreign_checkpoint_is_called_by_its_name(tmp_path, name):
    content, words = CASES[name]
    path = tmp_path / 'a.pth'
    torch.save(content, path)
    with pytest.raises(UsageError, match=f'It looks like a checkpoint of .*{words}'):
        branch_state(read_checkpoint(path), 'student')
    with pytest.raises(UsageError, match=f'it (is|looks like) a checkpoint of .*{words.rstrip(":")}'):
        open_networks(str(path))


def test_ours_and_nonsense_are_no_foreign_ones():
    names = ('backbone.layers.0.ln1.weight', 'teacher.backbone.layers.0.ln1.weight', 'neck.mlp.0.weight')
    ours = dict(state_dict=of(*names))
    contents: tuple[Any, ...] = (ours, {}, dict(a=1), [], None, 'text', dict(state_dict={}), {3: 4})
    for content in contents:
        assert recognize(content) == ''


def test_what_is_said_of_timms_names_is_true(tmp_path, vit):
    """Each kind of file that is sent to timm:NAME@FILE is read there."""
    state = timm.create_model(VIT, num_classes=0).state_dict()
    save_file(state, tmp_path / 'a.safetensors')
    torch.save(dict(model=state), tmp_path / 'mae.pth')
    torch.save(dict(state_dict=state, epoch=1), tmp_path / 'timm.pth')
    torch.save({f'_orig_mod.{name}': value for name, value in state.items()}, tmp_path / 'compiled.pth')
    torch.save({f'module.{name}': value for name, value in state.items()}, tmp_path / 'wrapped.pth')
    for file in tmp_path.iterdir():
        (network,) = open_networks(f'timm:{VIT}@{file}')
        assert torch.equal(network.backbone.state_dict()['norm.weight'], state['norm.weight'])
        assert 'missing 0, unexpected 0' in network.origin
    with pytest.raises(UsageError, match=r'has no state_dict .* It looks like a checkpoint of timm’s names'):
        read_checkpoint(tmp_path / 'a.safetensors')
    save_file(of('something.weight'), tmp_path / 'b.safetensors')
    with pytest.raises(UsageError, match=r"has no state_dict \(found keys \['something\.weight'\]\)"):
        read_checkpoint(tmp_path / 'b.safetensors')


def test_weights_of_another_kind_do_not_fit_a_network_of_timm(tmp_path):
    torch.save(CASES['hf vit'][0], tmp_path / 'a.pth')
    with pytest.raises(
        UsageError, match=r'only 0 of .* It looks like a checkpoint of Hugging Face transformers, a ViT'
    ):
        open_networks(f'timm:{VIT}@{tmp_path / "a.pth"}')


def test_a_whole_training_given_to_timm(tmp_path):
    """timm's reader takes the options for plain data, and finds no model."""
    torch.save(CASES['ibot'][0] | dict(args=argparse.Namespace(lr=1.0)), tmp_path / 'a.pth')
    with pytest.raises(UsageError, match=r'no tensors where timm looks for them.* iBOT’s or AttMask’s code'):
        open_networks(f'timm:{VIT}@{tmp_path / "a.pth"}')


@pytest.mark.parametrize('source', ['{}', 'mmpretrain:deit-tiny@{}'])
def test_the_options_of_a_program_are_read_as_data(tmp_path, vit, source):
    """A whole training of DINO: student, teacher, optimizer, and the command line as an object."""
    inner = {f'module.backbone.{name}': value for name, value in deep(vit).items()}
    other = {name: value + 1 for name, value in inner.items()}
    heads = {'module.head.mlp.0.weight': torch.zeros(3)}
    options = argparse.Namespace(lr=1.0, arch='vit_tiny', output_dir=Path('/somewhere'))
    path = tmp_path / 'checkpoint.pth'
    torch.save(dict(student=inner | heads, teacher=other | heads, optimizer={}, args=options, epoch=3), path)
    networks = open_networks(source.format(path))
    assert [network.branch for network in networks] == (['student', 'teacher'] if source == '{}' else [''])
    assert torch.equal(networks[-1].backbone.state_dict()['ln1.weight'], (other if source == '{}' else inner)[NORM])
    if source == '{}':
        assert 'DINO’s code' in networks[0].origin and networks[0].interpolate_offset == 0.1


NORM = 'module.backbone.norm.weight'


def deep(vit: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """With twelve blocks, as mmpretrain's deit-tiny has."""
    return timm.create_model(VIT, num_classes=0).state_dict() | {name: vit[name] for name in ('norm.weight',)}


def test_what_is_no_options_among_them_is_refused(tmp_path):
    torch.save(dict(model=TIMM, args=argparse.Namespace(run=print)), tmp_path / 'a.pth')
    with pytest.raises(UsageError, match=r'a\.pth is refused: .*print.* Nothing in it was executed'):
        read_checkpoint(tmp_path / 'a.pth')


def test_the_config_of_the_official_swin_is_a_plain_dict(tmp_path, monkeypatch):
    """yacs' CfgNode, which checkpoints of Swin, SimMIM and MoBY hold; yacs need not be installed to read it."""
    home: Any = types.ModuleType('yacs.config')
    home.CfgNode = type('CfgNode', (dict,), {'__module__': 'yacs.config', '__qualname__': 'CfgNode'})
    monkeypatch.setitem(sys.modules, 'yacs', types.ModuleType('yacs'))
    monkeypatch.setitem(sys.modules, 'yacs.config', home)
    config = home.CfgNode(MODEL=home.CfgNode(TYPE='swin'))
    config.__dict__['__deprecated_keys__'] = set()
    torch.save(dict(model=TIMM, config=config), tmp_path / 'a.pth')
    monkeypatch.delitem(sys.modules, 'yacs.config')
    found = read_data(tmp_path / 'a.pth')['config']
    assert found == dict(MODEL=dict(TYPE='swin')) and isinstance(found, dict)


def test_what_wrappers_put_before_names_is_taken_off(tmp_path):
    state = of('backbone.a.weight', 'teacher.backbone.a.weight', 'module_list.0.weight', 'neck.module.weight')
    for wrap in ('module.{}', '_orig_mod.{}', 'module._orig_mod.{}', '_orig_mod.module.{}', 'module.module.{}'):
        wrapped = {wrap.format(name): value for name, value in state.items()}
        assert list(plain_names(wrapped)) == list(state)
        torch.save(dict(state_dict=wrapped, meta=dict(epoch=3)), tmp_path / 'a.pth')
        checkpoint = read_checkpoint(tmp_path / 'a.pth')
        assert list(checkpoint['state_dict']) == list(state) and checkpoint['meta'] == dict(epoch=3)
        assert list(branch_state(checkpoint, 'teacher')) == ['a.weight']
    inside = of('backbone._orig_mod.layers.0.weight', 'backbone.layers.1._orig_mod.weight')
    assert list(plain_names(inside)) == ['backbone.layers.0.weight', 'backbone.layers.1.weight']
    assert plain_names(state) is state
    both = of('module.a', 'a')
    assert plain_names(both) is both


def test_a_compiled_model_is_read_whole(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    compiled = torch.compile(model)
    assert isinstance(compiled, torch.nn.Module)
    torch.save(dict(state_dict=compiled.state_dict()), tmp_path / 'a.pth')
    other = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    assert 'missing 0, unexpected 0' in load_strict(other, read_checkpoint(tmp_path / 'a.pth')['state_dict'], 'whole')
    assert torch.equal(other[0].weight, model[0].weight)
