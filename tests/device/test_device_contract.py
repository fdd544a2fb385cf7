"""A step on a GPU: nothing on the wrong device, no wait for it and no copy to it, but for those of one table.

Everything that is registered and every config for folders of images is stepped on a pretended device (see
``benchmarks/pretended_gpu``), in float32, bfloat16 and float16.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from benchmarks.pretended_gpu.device import COPY, DEVICE, WAIT, Device, Event, events_of, moved, pretended_machine
from mstkit.engine.optim.optim_wrapper import DistillationOptimWrapper
from mstkit.errors import UsageError
from mstkit.models import CachedGuide
from mstkit.registry import MODELS, TRANSFORMS
from mstkit.structures import Progress
from tests.models import test_guides, test_methods, test_objective_contract, test_target_contract
from tests.models.builders import VIT, views
from tests.models.test_tokenizer_contract import NAMES as TOKENIZERS
from tests.models.tokenizers import files, write_patches
from tests.test_configs import FOREIGN, OURS, name, small_model

# (kind, file, function) -> why the host has to know it there.
MAY_HAPPEN = {
    (WAIT, 'mstkit/models/backbones/masked_vit.py', '_read'): 'as many tokens go on as are hidden',
    (WAIT, 'mstkit/models/objectives/patch_distillation.py', 'forward'): 'the same, where all tokens are read',
    (WAIT, 'mstkit/models/backbones/visible_squares.py', '_check_squares'): 'refuses a mask before it is encoded, at '
    'a place where the host has just waited for the number of visible patches',
    (WAIT, 'mstkit/utils/visible_places.py', 'visible_places'): 'as many patches are encoded as are visible',
}
FOLDER = [path for path in OURS if path.stem.endswith('_folder') or 'nano' in path.stem]
THEIRS = [path for path in FOREIGN if path.stem.endswith('_folder')]
ADAMW = dict(type='DistillationOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, fused=True))
BATCH = 4


@pytest.fixture(autouse=True)
def _machine():
    with pretended_machine():
        yield


def unexpected(events: list[Event]) -> list[str]:
    """What is not in the table; where another library's own algorithm waits is up to it."""
    return sorted(
        {
            str(one)
            for one in events
            if (one.kind, one.file, one.function) not in MAY_HAPPEN
            and not (one.kind in (WAIT, COPY) and one.file.startswith('mmpretrain/models/'))
        }
    )


class Run:
    """A model on the device and its optimizer; a call is a step."""

    def __init__(self, model: nn.Module, wrapper: dict[str, Any], data: dict[str, Any]) -> None:
        self.model: Any = moved(model.train())
        self.data, self.iteration = data, 60
        self.config = wrapper

    def set_precision(self, precision: str) -> None:
        with DefaultScope.overwrite_default_scope('mstkit'):
            config = Config(dict(wrapper=dict(self.config, precision=precision))).wrapper
            self.wrapper = build_optim_wrapper(self.model, config)
        self.wrapper.initialize_count_status(self.model, 0, 100)

    def __call__(self) -> None:
        progress = Progress(self.iteration, 100, 10, 1, self.iteration)  # after the first epochs: all parts are there
        torch.manual_seed(self.iteration)
        for part in (self.model, self.wrapper):
            if hasattr(part, 'set_progress'):  # another library's algorithms have none
                part.set_progress(progress)
        logged = self.model.train_step(self.data, optim_wrapper=self.wrapper)
        assert all(value.device == DEVICE for value in logged.values())
        if hasattr(self.model, 'after_step'):
            self.model.after_step()
        self.iteration += 1

    def batch(self) -> list[Tensor]:
        found = [one for one in self.data.values() if isinstance(one, Tensor)]
        found += [one for part in self.data.values() if isinstance(part, list) for one in part if torch.is_tensor(one)]
        return found

    def events(self) -> list[Event]:
        return events_of(self, self.batch())


def check(run: Run, precision: str) -> None:
    run.set_precision(precision)
    events = run.events()
    found = unexpected(events)
    if found and all(one.kind in (WAIT, COPY) for one in events):  # in a first step something may be made that stays
        found = unexpected(run.events())
    assert not found, '\n'.join(found)


def uint8(sizes: list[int], count: int = BATCH) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(256, (count, 3, size, size), generator=generator, dtype=torch.uint8) for size in sizes]


@pytest.mark.parametrize('path', FOLDER, ids=name)
def test_config(tmp_path, path):
    config, crops, model = small_model(path, tmp_path)
    data = dict(inputs=uint8([crop.size for crop, _ in crops.views[:4]]), data_samples=None)
    check(Run(model, config.optim_wrapper, data), 'fp16')


@pytest.mark.parametrize('path', THEIRS, ids=name)
def test_config_of_another_library(path):
    config = Config.fromfile(path)
    pipeline = [TRANSFORMS.build(step) for step in config.train_dataloader.dataset.pipeline[1:]]
    samples = []
    for number in range(BATCH):
        sample = dict(img=np.random.default_rng(number).integers(0, 255, (90, 80, 3), np.uint8), sample_idx=number)
        for step in pipeline:
            sample = step(sample)
        samples.append(sample)
    with DefaultScope.overwrite_default_scope('mstkit'):
        model = MODELS.build(config.model)
        model.init_weights()
    MessageHub.get_current_instance().update_info_dict(dict(iter=1, max_iters=10))  # BYOL's teacher asks it
    check(Run(model, config.optim_wrapper, default_collate(samples)), 'fp32')


@pytest.mark.parametrize('objective', test_objective_contract.NAMES)
def test_objective(objective):
    model = test_objective_contract.build(objective)
    check(Run(model, ADAMW, dict(inputs=views(local=0, batch=BATCH), data_samples=None)), 'bf16')


def taking(masker: str) -> Any:
    """The first method that takes a masker."""
    for method in ('IBOT', 'MAE', 'SimMIM'):
        try:
            model = test_methods.build(masker, method, 'vit')
        except UsageError:
            continue
        count = 2 if method == 'IBOT' else 1
        return Run(model, ADAMW, dict(inputs=views(batch=BATCH)[:count], data_samples=None))
    raise AssertionError(f'no method takes {masker}')


@pytest.mark.parametrize('masker', test_methods.MASKERS)
def test_masker(masker):
    run = taking(masker)
    check(run, 'fp32')
    assert run.model.last_statistics()['hidden_fraction'].device == DEVICE


@pytest.mark.parametrize('guide', test_guides.GUIDES)
def test_guide(guide):
    model = test_guides.guided(guide)
    samples = [SimpleNamespace(sample_idx=index, view_boxes=[[0.1, 0.2, 0.5, 0.5, index]] * 3) for index in (0, 1)]
    if isinstance(model.guide, CachedGuide):
        model.guide.keep(torch.rand(2, 5, 5), torch.ones(2, dtype=torch.bool), 0)
    check(Run(model, ADAMW, dict(inputs=test_guides.images_of(model), data_samples=samples)), 'bf16')


def predicting(target: dict[str, Any]) -> Run:
    discrete = MODELS.get(target['type']).discrete
    config = dict(type='SimMIM', backbone=VIT, mask_patch_size=8, target=target)
    model = MODELS.build({**config, 'loss': 'cross_entropy' if discrete else 'l1'})
    model.init_weights()
    return Run(model, ADAMW, dict(inputs=[views(batch=BATCH)[0]], data_samples=None))


@pytest.mark.parametrize('target', test_target_contract.NAMES)
def test_target(tmp_path, target):
    write_patches(tmp_path / 'tokenizer.pth')
    settings = dict(tokenizer=str(tmp_path / 'tokenizer.pth')) if target == 'Tokens' else {}
    check(predicting(dict(type=target, **settings)), 'fp32')


@pytest.fixture(scope='module')
def tokenizers(tmp_path_factory) -> dict[str, str]:
    return files(tmp_path_factory.mktemp('tokenizers'))


@pytest.mark.parametrize('tokenizer', TOKENIZERS)
def test_tokenizer(tokenizers, tokenizer):
    check(predicting(dict(type='Tokens', tokenizer=tokenizers[tokenizer])), 'bf16')


def test_a_step_that_the_loss_scaler_leaves_out_is_counted_without_waiting():
    with Device() as device:
        layer = nn.Linear(5, 3).to(DEVICE)
        wrapper = DistillationOptimWrapper(
            torch.optim.AdamW(layer.parameters(), fused=True), precision='fp16', freeze_last_layer_epochs=0
        )
        before = layer.weight.clone()
        device.events.clear()
        wrapper.update_params(layer(torch.ones(2, 5, device=DEVICE)).sum() * float('inf'))
        assert device.events == []
        assert wrapper.skipped_steps == 1 and torch.equal(before, layer.weight)
        wrapper.update_params(layer(torch.ones(2, 5, device=DEVICE)).sum())
        assert wrapper.skipped_steps == 1 and not torch.equal(before, layer.weight)
        wrapper.load_state_dict(wrapper.state_dict())
        assert wrapper.skipped_steps == 1


def test_colors_on_the_device_wait_for_nothing():
    """Parameters of each image are chosen on the host, and go over in pinned memory."""
    crops = dict(global_crops=dict(size=32), local_crops=dict(size=16), photometric='device')
    transform, packed = TRANSFORMS.build(dict(type='MultiCrop', **crops)), TRANSFORMS.build(dict(type='PackViews'))
    images = np.random.default_rng(0).integers(0, 255, (BATCH, 40, 44, 3), np.uint8)
    samples = [packed(transform(dict(img=image, sample_idx=index))) for index, image in enumerate(images)]
    batch = default_collate(samples)
    preprocessor = moved(MODELS.build(dict(type='ViewDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3)))
    assert 'photometric' in batch
    found = events_of(lambda: preprocessor(batch, True), batch['inputs'])
    assert [str(one) for one in found] == []
