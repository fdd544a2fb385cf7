"""A checkpoint that does not fit is refused, and the reason is in the message."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmpretrain.models import SwinTransformer, VisionTransformer
from torch import nn

from mstkit.errors import UsageError
from mstkit.interop import fit_backbone, load_backbone, read_checkpoint
from mstkit.models import MaskedVisionTransformer

from ..models.builders import SWIN, TINY
from .pretrained import FOUR, TABLES, segmentor, state_of

ARCH = "model = dict(backbone=dict(arch='of another class'))"


def refused(module: nn.Module, checkpoint: Any, message: str, branch: str = 'student') -> str:
    """The message of a load that is refused; the module is then as before."""
    before = state_of(module)
    with pytest.raises(UsageError, match=message) as caught:
        load_backbone(module, checkpoint, branch, 'dir/epoch_3.pth')
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    text = str(caught.value)
    assert 'dir/epoch_3.pth' in text and '\n' not in text and len(text) < 900
    return text


def tiny(**changes: Any) -> VisionTransformer:
    arch = {**TINY, **changes.pop('arch', {})}
    return VisionTransformer(**{'arch': arch, 'img_size': 32, 'patch_size': 8, **changes})


@pytest.mark.parametrize(
    'module, message',
    [
        (dict(arch=dict(embed_dims=96)), r'width 48.*width 96.*\(1, 1, 48\) in the file and \(1, 1, 96\)'),
        (dict(arch=dict(num_layers=4)), r'3 blocks.*4 blocks.*missing 12 \(layers\.3\.'),
        (dict(arch=dict(num_layers=2)), r'3 blocks.*2 blocks.*unexpected 12 \(layers\.2\.'),
        (dict(arch=dict(feedforward_channels=64)), r'\(96, 48\) in the file and \(64, 48\) in the backbone'),
        (dict(with_cls_token=False, out_type='featmap'), r'unexpected 1 \(cls_token\)'),
        (dict(pre_norm=True), r'missing 2 \(pre_norm'),
        (dict(in_channels=4), r'\(48, 3, 8, 8\) in the file and \(48, 4, 8, 8\)'),
    ],
)
def test_another_network_is_refused_with_both_shapes(vit, module, message):
    text = refused(tiny(**module), vit.checkpoint, message)
    assert 'the student of dir/epoch_3.pth does not fit the VisionTransformer' in text


def test_settings_of_a_vit_that_its_tensors_show_are_told(vit):
    """BEiT's encoder in a plain ViT, the other way round, and one that takes it with what the message says."""
    told = dict(relative_positions='per_layer', positions='none', layer_scale_init_value=0.1)
    beit = {**told, 'relative_positions': 'shared', 'qkv_bias': 'qv_bias'}  # which fits into biases of all three
    file = {f'backbone.{name}': value for name, value in masked(**beit).state_dict().items()}
    words = ', '.join(f'{name}={value!r}' for name, value in told.items())
    message = refused(masked(), dict(state_dict=file), re.escape(words))
    assert message.endswith('give that to a MaskedVisionTransformer.')
    assert load_backbone(masked(**told), dict(state_dict=file)).share == 1.0
    words = r"relative_positions=None, positions='learned', qkv_bias=True, layer_scale_init_value=0\.0:"
    refused(masked(**beit), vit.checkpoint, words)
    refused(masked(arch={**TINY, 'num_layers': 2}), vit.checkpoint, 'that it was trained with.$')


def masked(**settings: Any) -> MaskedVisionTransformer:
    return MaskedVisionTransformer(**{'arch': TINY, 'img_size': 32, 'patch_size': 8, **settings})


def test_vit_and_swin_are_not_mixed_up(vit, swin):
    refused(
        SwinTransformer(arch=SWIN['arch']), vit.checkpoint, r'a ViT of width 48.*a Swin of width 24, 1-1-2-2 blocks'
    )
    refused(tiny(), swin.checkpoint, r'a Swin of width 24, 1-1-2-2 blocks.*a ViT of width 48')
    refused(nn.Linear(2, 2), vit.checkpoint, r'the backbone is tensors with other names \(weight, bias\)')


def test_heads_of_another_swin_are_refused(swin):
    arch = {**SWIN['arch'], 'num_heads': [2, 4, 6, 12]}
    refused(SwinTransformer(arch=arch), swin.checkpoint, r'table is \(169, 1\) in the file and \(169, 2\)')


@pytest.mark.parametrize('arch', [TINY, 'deit-tiny'])
def test_heads_of_a_vit_which_no_shape_shows_are_refused(vit, arch):
    """``deit-tiny`` has three heads as well."""
    backbone = dict(type='MaskedVisionTransformer', arch=arch)
    checkpoint = {**vit.checkpoint, 'meta': dict(cfg=Config(dict(model=dict(backbone=backbone))).pretty_text)}
    load_backbone(tiny(), checkpoint)
    refused(tiny(arch=dict(num_heads=6)), checkpoint, r'trained with 3 attention heads.*has 6')


@pytest.mark.parametrize('cfg', ['model = build()', 'model = dict(type="X")', 'model = [', 7, ARCH])
def test_a_config_that_says_nothing_of_heads_is_no_obstacle(vit, cfg):
    assert load_backbone(tiny(), {**vit.checkpoint, 'meta': dict(cfg=cfg)}).share == 1.0


def test_one_missing_tensor_is_named(vit, swin):
    lost = vit.changed(lambda state: state.pop('layers.1.ln1.bias'))
    text = refused(tiny(), lost, r'missing 1 \(layers\.1\.ln1\.bias\)')
    assert 'it holds' not in text
    refused(tiny(), vit.changed(lambda state: state.pop('ln1.weight')), r'missing 1 \(ln1\.weight\)')
    refused(tiny(), vit.changed(lambda state: state.update(cls_token=3)), r'missing 1 \(cls_token\)')
    lost = swin.changed(lambda state: state.pop('norm3.weight'))
    refused(SwinTransformer(arch=SWIN['arch'], **FOUR), lost, r'missing 1 \(norm3\.weight\)')


def test_other_surplus_is_refused(vit):
    surplus = vit.changed(lambda state: state.update({'gate.weight': torch.zeros(1)}))
    refused(tiny(), surplus, r'unexpected 1 \(gate\.weight\)')


def test_the_known_exceptions_are_listed(vit, swin):
    report = load_backbone(tiny(final_norm=False), vit.checkpoint)
    assert report.unexpected == ('ln1.weight', 'ln1.bias') and report.missing == () and report.share == 1.0
    assert 'not used, the backbone has no such part: ln1.weight, ln1.bias' in str(report)
    report = load_backbone(tiny(out_type='avg_featmap'), vit.checkpoint)
    assert report.missing == ('ln2.weight', 'ln2.bias') and report.share < 1
    report = load_backbone(SwinTransformer(arch=SWIN['arch'], out_indices=(1, 2)), swin.checkpoint)
    assert report.unexpected == ('norm3.weight', 'norm3.bias')
    assert report.missing == ('norm1.weight', 'norm1.bias', 'norm2.weight', 'norm2.bias')
    masked = vit.changed(lambda state: state.update(mask_token=torch.zeros(1, 1, 48)))
    assert load_backbone(tiny(), masked).unexpected == ('mask_token',)


def test_the_report_says_everything(swin):
    module = SwinTransformer(arch=SWIN['arch'], window_size=12, **FOUR)
    report = load_backbone(module, swin.checkpoint, 'teacher', 'dir/epoch_3.pth')
    loaded, total = len(report.loaded), len(module.state_dict()) - TABLES
    first = report.lines()[0]
    assert first == (
        f'backbone from dir/epoch_3.pth (teacher): loaded {loaded} of {total} tensors ({100 * loaded / total:.1f} %), '
        'resized 6, missing 6, unexpected 0'
    )
    assert loaded == total - 6
    assert re.search(r'resized relative_position_bias_table: \(169, 1\) to \(529, 1\)', str(report))
    assert 'not pre-trained, stay as initialized: norm0.weight' in str(report)


def test_the_vit_of_mmseg_is_refused_with_the_type_to_use(vit):
    config = dict(img_size=32, patch_size=8, embed_dims=48, num_layers=3, num_heads=3, patch_bias=True)
    model = segmentor(dict(type='VisionTransformer', **config), 48)
    text = refused(
        model.backbone, vit.checkpoint, r"'mstkit\.MaskedVisionTransformer' or .*mmpretrain\.VisionTransformer"
    )
    assert 'mmseg' in text


@pytest.mark.parametrize('length', [16, 15])
def test_a_grid_that_is_not_square_is_refused(vit, length):
    """Its height and width cannot be told from its length, even where the module's has the same length."""
    oblong = vit.changed(lambda state: state.update(pos_embed=torch.zeros(1, length, 48)))
    size = {16: (24, 40), 15: 32}[length]
    refused(tiny(img_size=size), oblong, rf'pos_embed is \(1, {length}, 48\) in the file \(no square grid\)')


def test_a_branch_that_is_not_there(vit):
    only_student = vit.changed(lambda state: None)
    refused(tiny(), only_student, "has no teacher, only a student: take branch 'student'", 'teacher')
    refused(tiny(), vit.checkpoint, r"branch 'neck' is unknown", 'neck')


def test_files_of_other_formats_say_what_their_names_look_like(vit, tmp_path):
    timm = {'blocks.0.attn.qkv.weight': torch.zeros(3, 1), 'patch_embed.proj.weight': torch.zeros(1)}
    refused(tiny(), {'state_dict': timm}, r"the keys start with \['blocks', 'patch_embed'\]")
    prefixed = {f'backbone.{name}': value for name, value in timm.items()}
    refused(tiny(), {'state_dict': prefixed}, r'other names \(blocks\.0\.attn\.qkv\.weight\), the backbone is a ViT')
    torch.save({'teacher': timm, 'student': timm}, tmp_path / 'dino.pth')
    with pytest.raises(UsageError, match=r"dino\.pth has no state_dict \(found keys \['student', 'teacher'\]"):
        read_checkpoint(tmp_path / 'dino.pth')


def test_planning_changes_nothing(vit):
    module = tiny(img_size=64)
    before = state_of(module)
    weights, report = fit_backbone(module, vit.checkpoint)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert tuple(weights) == report.loaded and weights['pos_embed'].shape == (1, 65, 48)


def test_code_in_the_file_is_refused_and_not_run(vit, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'executed'),)

    torch.save({**vit.checkpoint, 'meta': Attack()}, tmp_path / 'evil.pth')
    with pytest.raises(UsageError, match=r'evil\.pth is refused'):
        load_backbone(tiny(), read_checkpoint(tmp_path / 'evil.pth'))
    assert not (tmp_path / 'executed').exists()


def test_a_part_is_loaded_by_an_explicit_word_and_listed(vit):
    deeper = tiny(arch=dict(num_layers=4), pre_norm=True)
    refused(deeper, vit.checkpoint, 'missing')
    before = state_of(deeper)
    weights, report = fit_backbone(deeper, vit.checkpoint, 'student', 'a.pth', partial=True)
    assert set(report.missing) == {name for name in before if name.startswith(('layers.3.', 'pre_norm.'))}
    assert set(weights) | set(report.missing) == set(before) and 0 < report.share < 1
    assert report.unexpected == ('patch_embed.projection.bias',)  # a ViT with a norm before its blocks has none
    text = str(report)
    assert 'not pre-trained, stay as initialized: layers.3.ln1.weight' in text and 'missing 14, unexpected 1' in text
    with pytest.raises(UsageError, match='does not fit'):
        fit_backbone(nn.Linear(2, 2), vit.checkpoint, 'student', 'a.pth', partial=True)
