"""The backbone that was pre-trained is the one that is fine-tuned, or the run does not start."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.models import SwinTransformer, VisionTransformer
from scipy import interpolate
from torch import Tensor, nn

from mstkit.engine.checkpointing import save
from mstkit.errors import UsageError
from mstkit.interop import fit_backbone, load_backbone, read_checkpoint
from mstkit.interop.resizing import resize_bias_table, resize_positions
from mstkit.registry import MODELS

from ..models.builders import SWIN, TINY, VIT, mst

SMALL_WINDOW: dict[str, Any] = {**SWIN, 'img_size': 128, 'window_size': 2}
OWN_SWIN = dict(embed_dims=24, depths=(1, 1, 2, 2), num_heads=(1, 2, 3, 6), drop_path_rate=0.0)
TABLES = 6  # blocks of SWIN
ARCH = "model = dict(backbone=dict(arch='of another class'))"


class Source:
    """A pre-trained model, and the checkpoint that it wrote."""

    def __init__(self, path: Path, network: str = 'vit', **parts: Any) -> None:
        torch.manual_seed(0)
        self.model: Any = mst(network, **parts).eval()
        with torch.no_grad():  # trained weights: no two alike, norms not at 1 and 0, the teacher not the student
            for value in self.model.parameters():
                value.add_(0.05 * torch.randn_like(value))
        self.path = path
        save(dict(meta=dict(epoch=3), state_dict=self.model.state_dict()), path)
        self.checkpoint = read_checkpoint(path)

    def backbone(self, branch: str = 'student') -> Any:
        return self.model.backbone if branch == 'student' else self.model.teacher.backbone

    def changed(self, change: Callable[[dict[str, Tensor]], object]) -> dict[str, Any]:
        """The checkpoint with other student weights; ``change`` gets them without prefix."""
        prefix = 'backbone.'
        state = {k.removeprefix(prefix): v for k, v in self.checkpoint['state_dict'].items() if k.startswith(prefix)}
        change(state)
        return {'state_dict': {prefix + name: value for name, value in state.items()}, 'meta': {}}


@pytest.fixture(scope='module', autouse=True)
def _scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mstkit'):
        yield


@pytest.fixture(scope='module')
def vit(tmp_path_factory) -> Source:
    return Source(tmp_path_factory.mktemp('vit') / 'epoch_3.pth')


@pytest.fixture(scope='module')
def swin(tmp_path_factory) -> Source:
    return Source(tmp_path_factory.mktemp('swin') / 'epoch_3.pth', 'swin')


@pytest.fixture(scope='module')
def small_window(tmp_path_factory) -> Source:
    return Source(tmp_path_factory.mktemp('window') / 'epoch_3.pth', 'swin', backbone=SMALL_WINDOW)


def classifier(backbone: dict[str, Any], channels: int) -> Any:
    """mmpretrain's, with its own class for the backbone."""
    backbone = {**backbone, 'type': f'mmpretrain.{backbone["type"].removeprefix("Masked")}'}
    head = dict(type='LinearClsHead', num_classes=3, in_channels=channels)
    return MODELS.build(dict(type='mmpretrain.ImageClassifier', backbone=backbone, head=head))


def detector(backbone: dict[str, Any], channels: list[int]) -> Any:
    """mmdet's Mask R-CNN from its own base file, with narrow heads."""
    import mmdet
    from mmdet.registry import MODELS as MMDET_MODELS

    config = Config.fromfile(str(Path(mmdet.__file__).parent / '.mim/configs/_base_/models/mask-rcnn_r50_fpn.py')).model
    config.backbone = backbone
    config.neck.update(in_channels=channels, out_channels=8)
    config.rpn_head.update(in_channels=8, feat_channels=8)
    heads = config.roi_head
    heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = 8
    heads.bbox_head.update(in_channels=8, fc_out_channels=8, num_classes=2)
    heads.mask_head.update(in_channels=8, conv_out_channels=8, num_classes=2)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MMDET_MODELS.build(config)


def segmentor(backbone: dict[str, Any], channels: int) -> Any:
    """mmseg's encoder and decoder with one convolution."""
    import mmseg.models  # noqa: F401
    from mmseg.registry import MODELS as MMSEG_MODELS

    head = dict(type='FCNHead', in_channels=channels, in_index=-1, channels=8, num_convs=1, num_classes=3)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MMSEG_MODELS.build(dict(type='EncoderDecoder', backbone=backbone, decode_head=head, test_cfg={}))


def picture(size: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def last_map(module: nn.Module, images: Tensor) -> Tensor:
    """What a backbone gives last, as a map (B, C, h, w)."""
    module.eval()
    with torch.no_grad():
        return module(images)[-1]


def expected_map(source: Source, images: Tensor, branch: str = 'student') -> Tensor:
    """The pre-trained backbone's tokens as a map, by another way than ``forward``."""
    with torch.no_grad():
        tokens = source.backbone(branch).eval().forward_tokens(images)
    return tokens.patch_tokens.transpose(1, 2).unflatten(2, tokens.grid)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


FEATMAP = dict(out_type='featmap')
FOUR = dict(out_indices=(0, 1, 2, 3))
SWIN_CHANNELS = [24, 48, 96, 192]


@pytest.mark.parametrize('branch', ['student', 'teacher'])
def test_vit_gives_the_features_that_it_was_pre_trained_for(vit, branch):
    images = picture(32)
    wanted = expected_map(vit, images, branch)
    models = {
        'classifier': classifier({**VIT, **FEATMAP}, 48),
        'detector': detector(
            {**VIT, **FEATMAP, 'type': 'mmpretrain.VisionTransformer', 'out_indices': [0, 2]}, [48] * 2
        ),
        'segmentor': segmentor({**VIT, **FEATMAP, 'type': 'mstkit.MaskedVisionTransformer'}, 48),
    }
    for name, model in models.items():
        report = load_backbone(model.backbone, vit.checkpoint, branch, str(vit.path))
        assert (last_map(model.backbone, images) - wanted).abs().max() < 1e-5, name
        assert (len(report.loaded), report.share) == (len(model.backbone.state_dict()), 1.0)
        assert report[2:5] == ((), (), ())
    whole = models['classifier'].extract_feat(images)[-1]
    assert (whole - wanted).abs().max() < 1e-5


def test_class_token_of_the_classifier(vit):
    model = classifier(VIT, 48)
    load_backbone(model.backbone, vit.checkpoint)
    with torch.no_grad():
        wanted = vit.backbone().forward_tokens(picture(32)).pooled
    assert (last_map(model.backbone, picture(32)) - wanted).abs().max() < 1e-5


def test_swin_gives_the_features_that_it_was_pre_trained_for(swin):
    images = picture(224, 1)
    wanted = expected_map(swin, images)
    norms = tuple(f'norm{i}.{part}' for i in range(3) for part in ('weight', 'bias'))
    ours = {**SWIN, 'type': 'mstkit.MaskedSwinTransformer', **FOUR}
    for model, missing in (
        (classifier(SWIN, 192), ()),
        (detector(ours, SWIN_CHANNELS), norms),
        (segmentor(ours, 192), norms),
    ):
        report = load_backbone(model.backbone, swin.checkpoint, source='epoch_3.pth')
        assert (last_map(model.backbone, images) - wanted).abs().max() < 1e-5
        assert report.missing == missing and report.unexpected == report.resized == ()
        assert report.share == len(report.loaded) / len(model.backbone.state_dict())
        for name in missing:  # as initialised
            assert torch.equal(model.backbone.state_dict()[name].unique(), torch.tensor([float('weight' in name)]))


@pytest.mark.parametrize('build', [detector, segmentor])
def test_the_own_swin_of_mmdet_and_mmseg(small_window, build):
    """Equal where every map is larger than a window: on smaller ones theirs shifts, the pre-trained one does not."""
    images = picture(128)
    model = build(dict(type='SwinTransformer', window_size=2, **OWN_SWIN), SWIN_CHANNELS if build is detector else 192)
    assert type(model.backbone).__module__.startswith('mmdet' if build is detector else 'mmseg')
    report = load_backbone(model.backbone, small_window.checkpoint)
    assert (last_map(model.backbone, images) - expected_map(small_window, images)).abs().max() < 1e-5
    assert len(report.loaded) + 6 == len(model.backbone.state_dict())


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
@pytest.mark.parametrize('size', [64, (48, 96), 24])
def test_position_embeddings_are_resized_to_the_grid_of_the_module(vit, size, mode, monkeypatch):
    config = dict(arch=TINY, img_size=size, patch_size=8, interpolate_mode=mode)
    module, reference = VisionTransformer(**config), VisionTransformer(**config)
    reference.load_state_dict(vit.backbone().state_dict())  # resized by mmpretrain's own hook
    monkeypatch.setattr(module, '_prepare_pos_embed', None)
    report = load_backbone(module, vit.checkpoint)
    grid = module.patch_resolution
    assert report.resized == (('pos_embed', (1, 17, 48), (1, grid[0] * grid[1] + 1, 48)),)
    assert torch.equal(module.pos_embed, reference.pos_embed)
    assert torch.equal(module.pos_embed[:, 0], vit.backbone().pos_embed[:, 0])
    assert report.share == 1.0


def test_resized_positions_are_those_that_pre_training_uses_at_that_size(vit):
    """At another size than its own the pre-trained network interpolates as well, in every pass."""
    module = VisionTransformer(arch=TINY, img_size=64, patch_size=8, **FEATMAP)
    load_backbone(module, vit.checkpoint)
    assert (last_map(module, picture(64)) - expected_map(vit, picture(64))).abs().max() < 1e-5


def test_positions_of_a_square_grid_on_another_grid_of_the_same_length(vit):
    module = VisionTransformer(arch=TINY, img_size=(16, 64), patch_size=8)
    report = load_backbone(module, vit.checkpoint)
    assert not torch.equal(module.pos_embed, vit.backbone().pos_embed)
    assert report.loaded


def test_absolute_positions_of_swin(tmp_path):
    source = Source(tmp_path / 'a.pth', 'swin', backbone={**SMALL_WINDOW, 'use_abs_pos_embed': True})
    config = {key: value for key, value in SMALL_WINDOW.items() if key != 'type'}
    module = SwinTransformer(**{**config, 'img_size': (64, 192), 'use_abs_pos_embed': True})
    reference = SwinTransformer(**{**config, 'img_size': (64, 192), 'use_abs_pos_embed': True})
    reference.load_state_dict(source.backbone().state_dict())
    report = load_backbone(module, source.checkpoint)
    assert report.resized == (('absolute_pos_embed', (1, 1024, 24), (1, 768, 24)),)
    assert torch.equal(module.absolute_pos_embed, reference.absolute_pos_embed)
    own = segmentor(
        dict(type='SwinTransformer', window_size=2, pretrain_img_size=64, use_abs_pos_embed=True, **OWN_SWIN), 192
    )
    load_backbone(own.backbone, source.checkpoint)
    wanted = resize_positions(source.backbone().absolute_pos_embed, (16, 16), 0, 'bicubic')
    assert torch.equal(own.backbone.absolute_pos_embed, wanted)


@pytest.fixture
def old_scipy(monkeypatch):
    """mmpretrain's load hook asks SciPy for a function that is gone: its replacement, as SciPy's guide has it."""

    def interp2d(x, y, z, kind):
        assert kind == 'cubic'
        spline = interpolate.RectBivariateSpline(x, y, np.asarray(z).T)
        return lambda new_x, new_y: spline(new_x, new_y).T

    monkeypatch.setattr(interpolate, 'interp2d', interp2d, raising=False)
    return interp2d


@pytest.mark.parametrize('window', [5, 12])
def test_relative_position_tables_are_resized_to_the_window_of_the_module(swin, window, old_scipy, monkeypatch):
    config = dict(arch=SWIN['arch'], window_size=window, img_size=224)
    module, reference = SwinTransformer(**config), SwinTransformer(**config)
    index = state_of(module)['stages.0.blocks.0.attn.w_msa.relative_position_index']
    reference.load_state_dict(swin.backbone().state_dict(), strict=False)
    monkeypatch.setattr('mmpretrain.models.backbones.swin_transformer.resize_relative_position_bias_table', None)
    report = load_backbone(module, swin.checkpoint)
    assert interpolate.interp2d is old_scipy
    assert report.resized[0][1:] == ((169, 1), ((2 * window - 1) ** 2, 1))
    assert len(report.resized) == TABLES
    assert sum('of 2 blocks' in line for line in report.lines()) == 2
    for name, value in reference.state_dict().items():
        assert torch.equal(value, module.state_dict()[name]), name
    assert torch.equal(module.state_dict()['stages.0.blocks.0.attn.w_msa.relative_position_index'], index)
    assert len(report.loaded) == len(module.state_dict()) - TABLES and report.share == 1.0


def test_a_table_that_is_a_cubic_of_the_offset_stays_that_cubic():
    """A window of 3 has offsets 0, 1 and 1 + q, q at most 1.5; one of 4 asks for 0, 1, 2 and 3, the last clamped."""

    def cubic(offsets: list[float]) -> Tensor:
        rows = torch.tensor(offsets, dtype=torch.float64)
        return (0.01 * rows[:, None] ** 3 - 0.2 * rows[:, None] + 0.5 * rows[None, :] ** 2 - 1).flatten()

    resized = resize_bias_table(cubic([-2.5, -1, 0, 1, 2.5])[:, None].float(), 49)
    assert (resized[:, 0] - cubic([-2.5, -2, -1, 0, 1, 2, 2.5])).abs().max() < 1e-3


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
        (dict(patch_size=4), r'patches of 8x8, the backbone is .*patches of 4x4.*\(48, 3, 8, 8\).*\(48, 3, 4, 4\)'),
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
    assert 'not pre-trained, stay as initialised: norm0.weight' in str(report)


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
    refused(tiny(), only_student, r"has no teacher \(no key starts with 'teacher\.backbone\.'", 'teacher')
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
