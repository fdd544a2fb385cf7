"""mmcv's operators through torchvision: equal to torchvision's functions and to plain loops; the others say so."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import mmcv
import numpy as np
import pytest
import torch
import torchvision
from mmcv import ops
from torch import Tensor

from mstkit.downstream import mmcv_operators
from mstkit.downstream.mmcv_operators import EXTENSION, OperatorMissing, install
from tests import warm
from tests.models.builders import gradient_of

from . import plain_operators as plain

STANDS_IN = install()
needs_stand_in = pytest.mark.skipif(not STANDS_IN, reason='mmcv has its compiled operators here')
no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU here')
each_device = pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=[no_gpu, pytest.mark.gpu])])
each_half = pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])


def boxes_of(kind: str, count: int = 60, seed: int = 0) -> Tensor:
    """Boxes (count, 4) in and around an image of 100 pixels, with what can go wrong with boxes."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 80
    boxes = torch.cat((corners, corners + 5 + torch.rand(count, 2, generator=generator) * 30), dim=1)
    if kind == 'duplicate':
        boxes = boxes[torch.randint(count // 4, (count,), generator=generator)]
    elif kind == 'degenerate':  # no width, no height, neither, negative width, negative both
        boxes[0::6, 2] = boxes[0::6, 0]
        boxes[1::6, 3] = boxes[1::6, 1]
        boxes[2::6, 2:] = boxes[2::6, :2]
        boxes[3::6, 2] = boxes[3::6, 0] - 7.5
        boxes[4::6, 2:] = boxes[4::6, :2] - 7.5
    elif kind == 'outside':
        boxes = (boxes - 50) * 4
    elif kind == 'whole numbers':
        boxes = boxes.round()
    elif kind == 'empty':
        boxes = boxes[:0]
    return boxes


KINDS = ('random', 'duplicate', 'degenerate', 'outside', 'whole numbers', 'empty')
each_kind = pytest.mark.parametrize('kind', KINDS)


def scores_for(boxes: Tensor, seed: int = 1) -> Tensor:
    return torch.rand(len(boxes), generator=torch.Generator().manual_seed(seed))


def rois_of(boxes: Tensor, images: int = 2) -> Tensor:
    """Boxes as regions (M, 5) of a batch."""
    return torch.cat((torch.arange(len(boxes)).remainder(images).to(boxes)[:, None], boxes), dim=1)


def features_of(shape: tuple[int, ...] = (2, 3, 13, 17), dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype)


@each_device
@each_kind
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.0, 0.3, 0.5, 0.7])
def test_nms(kind: str, offset: int, threshold: float, device: str) -> None:
    boxes = boxes_of(kind)
    scores = scores_for(boxes)
    dets, kept = ops.nms(boxes.to(device), scores.to(device), threshold, offset=offset)
    assert kept.dtype == torch.int64
    assert kept.tolist() == plain.nms(boxes.numpy(), scores.numpy(), threshold, offset)
    assert torch.equal(dets.cpu(), torch.cat((boxes, scores[:, None]), dim=1)[kept.cpu()])
    if offset == 0 and kind != 'whole numbers':
        assert torch.equal(kept.cpu(), torchvision.ops.nms(boxes, scores, threshold))


@each_device
@pytest.mark.parametrize(('shared', 'threshold'), [(1, 0.1), (3, 0.3), (5, 0.5), (6, 0.6), (7, 0.7), (9, 0.9)])
def test_overlap_at_the_threshold_stays(shared: int, threshold: float, device: str) -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 1.0], [0.0, 0.0, shared, 1.0]], device=device)
    assert ops.nms(boxes, boxes.new_tensor([0.9, 0.8]), threshold)[1].tolist() == [0, 1]
    assert ops.nms(boxes, boxes.new_tensor([0.9, 0.8]), threshold - 1e-3)[1].tolist() == [0]


def test_equal_boxes_with_equal_scores_leave_the_first() -> None:
    boxes = boxes_of('random', count=3).repeat_interleave(3, dim=0)
    assert sorted(ops.nms(boxes, torch.full((9,), 0.5), 0.9)[1].tolist()) == [0, 3, 6]


@each_kind
@pytest.mark.parametrize('max_num', [-1, 1, 4, 1000])
@pytest.mark.parametrize('score_threshold', [0.0, 0.4, 2.0])
def test_nms_with_limits(kind: str, max_num: int, score_threshold: float) -> None:
    boxes = boxes_of(kind)
    scores = scores_for(boxes)
    _, kept = ops.nms(boxes, scores, 0.5, score_threshold=score_threshold, max_num=max_num)
    best_first = [i for i in plain.nms(boxes.numpy(), scores.numpy(), 0.5) if scores[i] > score_threshold]
    assert kept.tolist() == (best_first[:max_num] if max_num > 0 else best_first)


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_nms_of_arrays_gives_arrays(dtype: type) -> None:
    boxes: np.ndarray = boxes_of('random').numpy().astype(dtype)
    scores: np.ndarray = scores_for(boxes_of('random')).numpy().astype(dtype)
    dets, kept = ops.nms(boxes, scores, 0.5)
    assert isinstance(kept, np.ndarray)
    assert kept.tolist() == plain.nms(boxes, scores, 0.5)
    np.testing.assert_array_equal(dets, np.concatenate((boxes, scores[:, None]), axis=1)[kept])


@each_device
@each_half
def test_nms_in_half_precision(dtype: torch.dtype, device: str) -> None:
    boxes = boxes_of('random').to(dtype)
    scores = torch.randperm(60, generator=torch.Generator().manual_seed(1)).to(dtype) / 64  # no ties
    expected = plain.nms(boxes.float().numpy(), scores.float().numpy(), 0.5)
    dets, kept = ops.nms(boxes.to(device), scores.to(device), 0.5)
    assert kept.tolist() == expected
    assert dets.dtype == dtype
    assert ops.nms(boxes.float(), scores, 0.5)[1].tolist() == expected, 'boxes and scores of two kinds'
    with torch.autocast(device, dtype):
        assert ops.nms(boxes.to(device), scores.to(device), 0.5)[1].tolist() == expected


@each_device
@pytest.mark.parametrize('kind', ['random', 'duplicate', 'whole numbers', 'empty'])
@pytest.mark.parametrize('count', [1, 80])
@pytest.mark.parametrize('agnostic', [False, True])
@pytest.mark.parametrize('split_thr', [10000, 10])
def test_batched_nms(kind: str, count: int, agnostic: bool, split_thr: int, device: str) -> None:
    boxes = boxes_of(kind, count=240)
    scores = scores_for(boxes)
    classes = torch.randint(count, (len(boxes),), generator=torch.Generator().manual_seed(3))
    config = dict(type='nms', iou_threshold=0.5, split_thr=split_thr)
    if boxes.numel() == 0 and not agnostic:
        # mmcv takes the largest coordinate, and so does a compiled one: mmdet never calls it without boxes.
        with pytest.raises(RuntimeError, match='max'):
            ops.batched_nms(boxes, scores, classes, config)
        return
    dets, kept = ops.batched_nms(boxes.to(device), scores.to(device), classes.to(device), config, agnostic)
    # Above split_thr mmcv goes class by class, agnostic or not.
    together = agnostic and len(boxes) < split_thr
    same = torch.zeros_like(classes) if together else classes
    assert kept.tolist() == plain.nms_per_class(boxes.numpy(), scores.numpy(), same.numpy(), 0.5)
    assert torch.equal(kept.cpu(), torchvision.ops.batched_nms(boxes, scores, same, 0.5))
    assert torch.equal(dets.cpu(), torch.cat((boxes, scores[:, None]), dim=1)[kept.cpu()])
    for limit in (1, 7):
        some, first = ops.batched_nms(
            boxes.to(device), scores.to(device), classes.to(device), dict(config, max_num=limit), agnostic
        )
        assert torch.equal(first, kept[:limit])
        assert torch.equal(some, dets[:limit])


@pytest.mark.parametrize('split_thr', [10000, 10])
def test_batched_nms_with_a_score_threshold(split_thr: int) -> None:
    boxes = boxes_of('random', count=120)
    scores, classes = scores_for(boxes), torch.arange(120) % 5
    _, kept = ops.batched_nms(
        boxes, scores, classes, dict(type='nms', iou_threshold=0.5, score_threshold=0.6, split_thr=split_thr)
    )
    expected = plain.nms_per_class(boxes.numpy(), scores.numpy(), classes.numpy(), 0.5)
    assert kept.tolist() == [i for i in expected if scores[i] > 0.6]


@each_device
@each_kind
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('samples', [0, 1, 2, 3])
def test_roi_align(kind: str, aligned: bool, samples: int, device: str) -> None:
    """Forward and backward, through the layer, at three strides of a pyramid."""
    boxes = boxes_of(kind, count=12)
    if kind == 'degenerate' and aligned and samples == 0:
        # How many samples a bin of negative size gets is nobody's definition; torchvision and mmcv both refuse it.
        boxes = boxes[(boxes[:, 2:] >= boxes[:, :2]).all(dim=1)]
    rois = rois_of(boxes)
    for scale in (0.25, 0.125, 1.0):
        features = features_of().to(device).requires_grad_()
        layer = ops.RoIAlign((3, 2), spatial_scale=scale, sampling_ratio=samples, aligned=aligned)
        pooled = layer(features, rois.to(device))
        expected, maps = plain.roi_align(features.detach().cpu().numpy(), rois.numpy(), (3, 2), scale, samples, aligned)
        np.testing.assert_allclose(pooled.detach().cpu().numpy(), expected, atol=2e-5)

        # A gradient whose memory is not in order, as a head may hand it over.
        gradient = torch.randn(len(rois), 2, 3, 3).permute(0, 3, 2, 1)
        pooled.backward(gradient.to(device))
        sums = np.zeros(features.shape)
        np.add.at(sums, rois[:, 0].long().numpy(), np.einsum('mhwyx,mchw->mcyx', maps, gradient.numpy()))
        np.testing.assert_allclose(gradient_of(features).cpu().numpy(), sums, atol=2e-5)

        other = features.detach().clone().requires_grad_()
        same = torchvision.ops.roi_align(other, rois.to(device), (3, 2), scale, samples, aligned)
        same.backward(gradient.to(device))
        assert torch.equal(pooled, same)
        torch.testing.assert_close(features.grad, other.grad, rtol=0, atol=0 if device == 'cpu' else 1e-5)


def test_roi_align_of_strided_features_and_of_one_number() -> None:
    features, rois = features_of(), rois_of(boxes_of('random', count=5))
    strided = features.to(memory_format=torch.channels_last)
    assert torch.equal(ops.roi_align(strided, rois, 7, 0.125), ops.roi_align(features, rois, (7, 7), 0.125, 0))


@each_device
@each_half
@pytest.mark.parametrize('autocast', [False, True])
def test_roi_align_in_half_precision(dtype: torch.dtype, autocast: bool, device: str) -> None:
    """Computed in float32 and rounded once: equal to the last bit on the CPU."""
    rois = rois_of(boxes_of('random', count=12)).to(device)
    features = features_of(dtype=dtype).to(device).requires_grad_()
    with torch.autocast(device, dtype, enabled=autocast):
        pooled = ops.RoIAlign(7, 0.125, 2)(features, rois)
        single = ops.RoIAlign(7, 0.125, 2)(features.float(), rois)
    assert (pooled.dtype, single.dtype) == (dtype, torch.float32)
    exact = features.detach().float().requires_grad_()
    expected = torchvision.ops.roi_align(exact, rois, 7, 0.125, 2, aligned=True)
    assert torch.equal(pooled, expected.to(dtype))
    assert torch.equal(single, expected)
    gradient = features_of(tuple(pooled.shape), dtype).to(device)
    pooled.backward(gradient)
    expected.backward(gradient.float())
    tolerance = 0 if device == 'cpu' else 1e-2
    torch.testing.assert_close(features.grad, gradient_of(exact).to(dtype), rtol=tolerance, atol=tolerance)
    half_rois = ops.roi_align(features, rois.to(dtype), 7, 0.125, 2)
    whole = torchvision.ops.roi_align(exact, rois.to(dtype).float(), 7, 0.125, 2, aligned=True)
    assert torch.equal(half_rois, whole.to(dtype))


def test_roi_align_behind_an_autocast_layer() -> None:
    """A training step under AMP: the gradient arrives at the layer's float32 weights."""
    layer = torch.nn.Conv2d(3, 4, 3, padding=1)
    with torch.autocast('cpu', torch.bfloat16):
        maps = layer(features_of())
        pooled = ops.RoIAlign(3, 0.25, 2)(maps, rois_of(boxes_of('random', count=6)))
    assert maps.dtype == pooled.dtype == torch.bfloat16
    pooled.float().sum().backward()
    reached = gradient_of(layer.weight)
    assert reached.dtype == torch.float32
    assert reached.abs().sum() > 0


@pytest.mark.parametrize(('aligned', 'samples'), [*itertools.product([True, False], [0, 2])])
def test_gradient_of_roi_align_by_differences(aligned: bool, samples: int) -> None:
    features = features_of((2, 2, 5, 6), torch.float64).requires_grad_()
    rois = rois_of(boxes_of('random', count=4)).double()
    assert torch.autograd.gradcheck(lambda x: ops.roi_align(x, rois, (2, 3), 0.06, samples, 'avg', aligned), features)


def _roi_pool() -> None:
    ops.RoIPool(2)(features_of(), rois_of(boxes_of('random', count=2)))


def _deform_conv() -> None:
    features = features_of()
    ops.deform_conv2d(features, torch.zeros(2, 18, 11, 15), torch.zeros(4, 3, 3, 3))


def _focal_loss() -> None:
    ops.sigmoid_focal_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), 2.0, 0.25, None, 'mean')


def _max_pooling() -> None:
    ops.RoIAlign(2, pool_mode='max')(features_of(), rois_of(boxes_of('random', count=2)))


MISSING = {
    'softnms': lambda: ops.soft_nms(boxes_of('random'), scores_for(boxes_of('random'))),
    'nms_rotated': lambda: ops.nms_rotated(torch.rand(3, 5), torch.rand(3), 0.5),
    'box_iou_rotated': lambda: ops.box_iou_rotated(torch.rand(3, 5), torch.rand(3, 5)),
    'roi_pool_forward': _roi_pool,
    'deform_conv_forward': _deform_conv,
    'sigmoid_focal_loss_forward': _focal_loss,
    "roi_align with pool_mode='max'": _max_pooling,
}


@needs_stand_in
@pytest.mark.parametrize('name', MISSING)
def test_other_operators_say_so_when_they_are_called(name: str) -> None:
    with pytest.raises(OperatorMissing) as caught:
        MISSING[name]()
    assert f'{name} is not among those that work without' in str(caught.value)
    assert 'pip install --no-build-isolation --no-cache-dir --no-binary onedl-mmcv' in str(caught.value)
    assert isinstance(caught.value, NotImplementedError)


@needs_stand_in
def test_the_stand_in_is_a_module_like_others() -> None:
    module = sys.modules[EXTENSION]
    assert not hasattr(module, '__file__')
    assert dict(inspect.getmembers(module))['nms'] is mmcv_operators.nms
    assert inspect.getmodule(test_nms) is sys.modules[__name__], 'which asks every module'
    assert install()
    assert install()
    assert sys.modules[EXTENSION] is module


@pytest.fixture
def as_if_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """mmcv with an extension in its folder."""
    (tmp_path / '_ext.py').write_text("nms = 'compiled'\n", encoding='utf-8')
    monkeypatch.setattr(mmcv, '__path__', [str(tmp_path), *mmcv.__path__])
    monkeypatch.setattr(mmcv, '_ext', None, raising=False)
    monkeypatch.delitem(sys.modules, EXTENSION, raising=False)
    importlib.invalidate_caches()
    yield str(tmp_path)
    sys.modules.pop(EXTENSION, None)


def test_compiled_operators_are_left_alone(as_if_compiled: str) -> None:
    assert not install()
    assert EXTENSION not in sys.modules, 'importing it is left to mmcv'
    assert importlib.import_module(EXTENSION).nms == 'compiled'
    assert not install()
    assert str(sys.modules[EXTENSION].__file__).startswith(as_if_compiled)


def test_imported_operators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = ModuleType(EXTENSION)
    monkeypatch.setitem(sys.modules, EXTENSION, compiled)
    assert not install()
    assert sys.modules[EXTENSION] is compiled


SESSION = """
import json, sys
import mstkit.downstream
early = [name for name in ('mmcv.ops', 'mmdet', 'mmseg') if name in sys.modules]
import mmdet.models, mmdet.datasets, mmseg.models
from mmcv.ops import get_compiler_version
from mmcv.utils import collect_env
from mmcv.utils.ext_loader import check_ops_exist
said = {'compiler': get_compiler_version(), **collect_env()}  # mmengine's are among mmcv's
print(json.dumps(dict(early=early, compiled=check_ops_exist(), compiler=said['MMCV Compiler'], mmcv=said['MMCV'])))
"""


def test_detection_and_segmentation_are_importable_after_the_room_of_theirs() -> None:
    done = subprocess.run([warm.foundations_python(), '-c', SESSION], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found['early'] == []
    assert found['mmcv'] == mmcv.__version__
    if STANDS_IN:
        assert found['compiled'] is False
        assert found['compiler'] == 'not compiled'
