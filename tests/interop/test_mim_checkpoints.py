"""Pre-training checkpoints of mmpretrain and of the methods' own code: what of them is loaded, and the way back.

None of the real files can be had here: each is built from the real class, mmpretrain's or timm's, with seeded weights,
in the layout of the release.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from mmengine.registry import DefaultScope
from mmpretrain.models import BEiTViT, SwinTransformer, VisionTransformer
from timm.models.beit import Beit
from timm.models.swin_transformer import SwinTransformer as TimmSwin
from torch import Tensor, nn

from mstkit.engine.hooks.pretrained_backbone_hook import PretrainedBackboneHook
from mstkit.errors import UsageError
from mstkit.formats import read_pretrained
from mstkit.interop import LoadReport, load_backbone, mmpretrain_state
from mstkit.models import MaskedSwinTransformer, MaskedVisionTransformer
from mstkit.registry import MODELS
from tests.models.builders import TINY

CLOSE = dict(rtol=1e-5, atol=1e-5)
VIT = dict(arch=TINY, img_size=32, patch_size=8)
BEIT: dict[str, Any] = dict(VIT, positions='none', qkv_bias='qv_bias', layer_scale_init_value=0.1)
SWIN = dict(arch=dict(embed_dims=24, depths=[1, 1, 2, 2], num_heads=[1, 2, 3, 6]), img_size=128, window_size=4)
NECKS = {
    'MAE': dict(
        type='MAEPretrainDecoder', num_patches=16, patch_size=8, embed_dim=48, decoder_embed_dim=24, decoder_depth=1,
        decoder_num_heads=2,
    ),
    'SimMIM': dict(type='SimMIMLinearDecoder', in_channels=192, encoder_stride=32),
    'BEiT': None,
    'MaskFeat': dict(type='LinearNeck', in_channels=48, out_channels=108, norm_cfg=None),
}  # fmt: skip
PIXELS = dict(type='PixelReconstructionLoss', criterion='L2')
HEADS: dict[str, Any] = {
    'MAE': dict(type='MAEPretrainHead', norm_pix=True, patch_size=8, loss=PIXELS),
    'SimMIM': dict(type='SimMIMHead', patch_size=4, loss=dict(PIXELS, criterion='L1', channel=3)),
    'BEiT': dict(type='BEiTV1Head', embed_dims=48, num_embed=64, loss=dict(type='CrossEntropyLoss')),
    'MaskFeat': dict(type='MIMHead', loss=PIXELS),
}
BACKBONES: dict[str, Any] = {
    'MAE': dict(VIT, type='MAEViT'),
    'SimMIM': dict(type='SimMIMSwinTransformer', arch=SWIN['arch'], img_size=224),
    'BEiT': dict(VIT, type='BEiTPretrainViT', layer_scale_init_value=0.1),
    'MaskFeat': dict(VIT, type='MaskFeatViT'),
}
BESIDE = {
    'MAE': ('neck (20 tensors)',),
    'SimMIM': ('neck (2 tensors)',),
    'BEiT': ('head (2 tensors)',),
    'MaskFeat': ('neck (2 tensors)',),
}


def filled(module: Any) -> Any:
    """Trained weights: no two alike, norms not at 1 and 0."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    module.eval()
    return module


def images(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def loaded(module: nn.Module, path: Path, branch: str = 'student') -> LoadReport:
    return load_backbone(module, read_pretrained(path), branch, str(path))


def ours_of(method: str) -> Any:
    if method == 'SimMIM':
        return MaskedSwinTransformer(arch=SWIN['arch'], img_size=224)
    return MaskedVisionTransformer(**(dict(BEIT, relative_positions='shared') if method == 'BEiT' else VIT))


@pytest.mark.parametrize('method', ['MAE', 'SimMIM', 'BEiT', 'MaskFeat'])
def test_mmpretrains_pretraining_is_loaded_completely_and_goes_back(tmp_path: Path, method: str) -> None:
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        config = dict(type=f'mmpretrain.{method}', backbone=BACKBONES[method], neck=NECKS[method], head=HEADS[method])
        theirs = MODELS.build(config)
    theirs.init_weights()
    filled(theirs)
    path = tmp_path / 'epoch_300.pth'
    torch.save(dict(meta=dict(epoch=300), state_dict=theirs.state_dict()), path)
    ours = ours_of(method)
    report = loaded(ours, path)
    assert len(report.loaded) == len(ours.state_dict()) and report.share == 1.0 and not report.missing
    assert report.unexpected == (() if method == 'MAE' else ('mask_token',))
    assert report.left_out == BESIDE[method]
    assert f'left out, of no backbone: {BESIDE[method][0]}' in str(report)
    counted = len(report.loaded) + len(report.unexpected) + int(re.findall(r'\d+', report.left_out[0])[0])
    computed = [name for name in theirs.state_dict() if method == 'BEiT' and name.endswith('position_index')]
    assert counted + len(computed) == len(theirs.state_dict()), 'every tensor of the file is accounted for'
    shown = images(224 if method == 'SimMIM' else 32)
    with torch.no_grad():
        expected = theirs.backbone(shown, None)[-1]
        ours.eval()
        tokens = ours.forward_tokens(shown)
    patches = expected.flatten(2).transpose(1, 2) if method == 'SimMIM' else expected[:, 1:]
    torch.testing.assert_close(tokens.patch_tokens, patches, **CLOSE)
    plain = {'SimMIM': SwinTransformer, 'BEiT': BEiTViT}.get(method, VisionTransformer)
    own: dict[str, Any] = dict(arch=SWIN['arch'], img_size=224) if method == 'SimMIM' else dict(VIT, out_type='raw')
    if method == 'BEiT':
        own |= dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True, final_norm=True)
    back = plain(**own)
    back.load_state_dict(mmpretrain_state(ours), strict=True)
    back.eval()
    with torch.no_grad():
        torch.testing.assert_close(back(shown)[-1], expected, **CLOSE)


def official(kind: str) -> tuple[Any, dict[str, Tensor], Any]:
    """timm's network, a release's tensors of it, and ours."""
    torch.manual_seed(0)
    common: dict[str, Any] = dict(img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3, num_classes=0)
    if kind == 'MAE':
        theirs = filled(timm.models.VisionTransformer(**common, mlp_ratio=2))
        decoder = {'mask_token': torch.zeros(1, 1, 24), 'decoder_pos_embed': torch.zeros(1, 17, 24)}
        decoder |= {f'decoder_blocks.0.{part}.weight': torch.zeros(24) for part in ('norm1', 'norm2')}
        return theirs, {**theirs.state_dict(), **decoder}, MaskedVisionTransformer(**VIT)
    shared = kind != 'BEiT, fine-tuned'
    position = dict(use_abs_pos_emb=False, use_rel_pos_bias=not shared, use_shared_rel_pos_bias=shared)
    theirs = filled(
        Beit(
            **common, mlp_ratio=2, qkv_bias=True, init_values=0.1, **position, global_pool='token' if shared else 'avg'
        )
    )
    own = dict(BEIT, relative_positions='shared' if shared else 'per_layer')
    if not shared:
        own |= dict(out_type='avg_featmap', final_norm=False)
    state = theirs.state_dict() | {'rel_pos_bias.relative_position_index': torch.zeros(17, 17, dtype=torch.long)}
    if not shared:
        del state['rel_pos_bias.relative_position_index']
    else:
        state |= {'mask_token': torch.zeros(1, 1, 48)}
    if kind == 'SimMIM':
        state = {f'encoder.{name}': value for name, value in state.items()} | {'decoder.0.weight': torch.zeros(3)}
    elif shared:
        state |= {'lm_head.weight': torch.zeros(64, 48), 'lm_head.bias': torch.zeros(64)}
    return theirs, state, MaskedVisionTransformer(**own)


@pytest.mark.parametrize(
    ('kind', 'beside'),
    [
        ('MAE', ('decoder_pos_embed (1 tensor)', 'decoder_blocks (2 tensors)')),
        ('BEiT', ('lm_head (2 tensors)',)),
        ('BEiT, fine-tuned', ()),
        ('SimMIM', ('decoder (1 tensor)',)),
    ],
)
def test_the_layout_of_a_release(tmp_path: Path, kind: str, beside: tuple[str, ...]) -> None:
    theirs, state, ours = official(kind)
    path = tmp_path / 'release.pth'
    torch.save(dict(model=state), path)
    report = loaded(ours, path)
    assert len(report.loaded) == len(ours.state_dict()) and report.share == 1.0 and not report.missing
    assert report.left_out == beside
    assert report.unexpected == (() if kind == 'BEiT, fine-tuned' else ('mask_token',))
    ours.eval()
    with torch.no_grad():
        expected = theirs.forward_features(images())
        if kind == 'BEiT, fine-tuned':
            torch.testing.assert_close(ours(images())[-1], theirs.forward_head(expected, pre_logits=True), **CLOSE)
        else:
            torch.testing.assert_close(ours.forward_tokens(images()).patch_tokens, expected[:, 1:], **CLOSE)


def swin_of_microsoft(theirs: TimmSwin) -> dict[str, Tensor]:
    """timm's tensors as the official code has them: a stage ends with the merging that timm begins the next with."""
    state = {}
    for name, value in theirs.state_dict().items():
        found = re.match(r'layers\.(\d)\.downsample\.(.*)', name)
        state[f'layers.{int(found[1]) - 1}.downsample.{found[2]}' if found else name] = value
    return state | {'layers.0.blocks.0.attn.relative_position_index': torch.zeros(16, 16, dtype=torch.long)}


@pytest.mark.parametrize('kind', ['timm', 'SimMIM', 'MoBY'])
def test_a_swin_of_timm_and_of_microsofts_code(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    theirs = filled(
        TimmSwin(img_size=128, embed_dim=24, depths=(1, 1, 2, 2), num_heads=(1, 2, 3, 6), window_size=4, num_classes=0)
    )
    state = theirs.state_dict() if kind == 'timm' else swin_of_microsoft(theirs)
    if kind != 'timm':
        state = {f'encoder.{name}': value for name, value in state.items()}
    if kind == 'MoBY':
        other = {name.replace('encoder.', 'encoder_k.'): value for name, value in state.items()}
        state = {name: torch.zeros_like(value) for name, value in state.items()} | other | {'queue1': torch.zeros(3)}
    torch.save(dict(model=state), tmp_path / 'a.pth')
    ours = MaskedSwinTransformer(**SWIN)
    report = loaded(ours, tmp_path / 'a.pth', 'teacher' if kind == 'MoBY' else 'student')
    computed = [name for name in ours.state_dict() if name.endswith('relative_position_index')]
    assert len(report.loaded) == len(ours.state_dict()) - len(computed) and report.share == 1.0
    assert report.left_out == (('queue1 (1 tensor)',) if kind == 'MoBY' else ())
    ours.eval()
    with torch.no_grad():
        expected = theirs.forward_features(images(128)).flatten(1, 2)
        torch.testing.assert_close(ours.forward_tokens(images(128)).patch_tokens, expected, **CLOSE)


def test_another_size_and_a_table_for_each_layer(tmp_path: Path) -> None:
    """As BEiT and SimMIM begin their fine-tuning, through the hook of ``--pretrained``."""
    _, state, ours = official('SimMIM')
    torch.save(dict(model=state), tmp_path / 'a.pth')
    loaded(ours, tmp_path / 'a.pth')
    larger = MaskedVisionTransformer(**dict(BEIT, img_size=48, relative_positions='per_layer'))
    content = PretrainedBackboneHook(tmp_path / 'a.pth')._content
    assert content is not None
    report = load_backbone(larger, content)
    assert [shapes for _, *shapes in report.resized] == [[(52, 3), (124, 3)]] * 3
    assert report.left_out == ('decoder (1 tensor)',) and len(report.loaded) == len(larger.state_dict())
    ours.eval(), larger.eval()
    with torch.no_grad():
        found, expected = (one.forward_tokens(images(48)).patch_tokens for one in (larger, ours))
    torch.testing.assert_close(found, expected, **CLOSE)


def test_a_network_with_a_bias_of_keys_takes_one_without(tmp_path: Path) -> None:
    theirs, state, _ = official('BEiT')
    torch.save(dict(model=state), tmp_path / 'a.pth')
    whole = MaskedVisionTransformer(**dict(BEIT, relative_positions='shared', qkv_bias=True))
    report = loaded(whole, tmp_path / 'a.pth')
    assert len(report.loaded) == len(whole.state_dict())
    whole.eval()
    with torch.no_grad():
        expected = theirs.forward_features(images())[:, 1:]
        torch.testing.assert_close(whole.forward_tokens(images()).patch_tokens, expected, **CLOSE)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    _, state, _ = official('BEiT')
    torch.save(dict(model=state), tmp_path / 'a.pth')
    with pytest.raises(UsageError, match=r'does not fit the MaskedVisionTransformer .*missing .*unexpected'):
        loaded(MaskedVisionTransformer(**VIT), tmp_path / 'a.pth')
    with pytest.raises(UsageError, match='has no teacher'):
        loaded(MaskedVisionTransformer(**BEIT), tmp_path / 'a.pth', 'teacher')
    torch.save(dict(model=dict(something=torch.zeros(1))), tmp_path / 'b.pth')
    with pytest.raises(UsageError, match=r'b\.pth: no encoder is recognized in its 1 tensors \(model\.something\)'):
        read_pretrained(tmp_path / 'b.pth')


def test_what_mmpretrain_has_no_network_for() -> None:
    with pytest.raises(UsageError, match='registers'):
        mmpretrain_state(MaskedVisionTransformer(**VIT, num_registers=2))
    without = dict(with_cls_token=False, out_type='featmap')
    with pytest.raises(UsageError, match='class token'):
        mmpretrain_state(MaskedVisionTransformer(**dict(BEIT, relative_positions='shared', **without)))
    assert list(mmpretrain_state(MaskedVisionTransformer(**VIT))) == list(VisionTransformer(**VIT).state_dict())
