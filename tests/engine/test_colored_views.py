"""Views whose colors are left to the device are colored there, or the run is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, ConcatDataset, default_collate
from mmengine.model import BaseModel
from torch.utils.data import DataLoader

from mstkit.datasets import LoadRGB, MultiCrop, PackViews
from mstkit.engine.config.config_options import apply_options
from mstkit.engine.hooks.colored_views import check_colored, first_view, join, pieces
from mstkit.engine.launch.launch import build_runner, load_config
from mstkit.errors import UsageError
from mstkit.models.data_preprocessors import ViewDataPreprocessor
from mstkit.registry import MODELS, TRANSFORMS


class Images(BaseDataset):
    def load_data_list(self):
        return [dict(img=np.full((40, 40, 3), 40 * i, np.uint8)) for i in range(5)]


class Model(BaseModel):
    def __init__(self, preprocessor: str) -> None:
        super().__init__(data_preprocessor=MODELS.build(dict(type=preprocessor)))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        raise NotImplementedError


class ForgetfulPack(PackViews):
    def transform(self, results):
        packed = super().transform(results)
        packed.pop('photometric', None)
        return packed


def loader(photometric: str, pack: type = PackViews, wrapped: bool = False) -> DataLoader:
    crop = MultiCrop(dict(size=16), dict(size=8, count=1), photometric=photometric)
    dataset = Images(pipeline=[LoadRGB(), crop, pack()])
    return DataLoader(ConcatDataset([dataset]) if wrapped else dataset, 2, collate_fn=default_collate)


@pytest.mark.parametrize('wrapped', [False, True])
def test_what_is_refused(wrapped):
    for photometric, pack, preprocessor in (
        ('cpu', PackViews, 'SelfSupDataPreprocessor'),
        ('cpu', ForgetfulPack, 'ViewDataPreprocessor'),
        ('device', PackViews, 'ViewDataPreprocessor'),
    ):
        check_colored(Model(preprocessor), loader(photometric, pack, wrapped))
    with pytest.raises(UsageError, match=r'SelfSupDataPreprocessor does not augment colors.*ViewDataPreprocessor'):
        check_colored(Model('SelfSupDataPreprocessor'), loader('device', PackViews, wrapped))
    with pytest.raises(UsageError, match='a later transform drops the parameters'):
        check_colored(Model('ViewDataPreprocessor'), loader('device', ForgetfulPack, wrapped))


@pytest.mark.parametrize('photometric', ['cpu', 'device'])
def test_hooks_see_the_first_view_as_the_model_does(photometric):
    data = loader(photometric)
    preprocess = MODELS.build(dict(type='ViewDataPreprocessor'))
    batches = list(data)
    seen = torch.cat([preprocess(batch, True)['inputs'][0] for batch in batches])
    parts = pieces(join([first_view(batch) for batch in batches]), 3)
    torch.testing.assert_close(torch.cat([preprocess(part)['inputs'] for part in parts]), seen, rtol=0, atol=1e-3)
    samples = join([first_view(data.dataset[index]) for index in range(5)], stack=True)
    torch.testing.assert_close(preprocess(samples)['inputs'], seen, rtol=0, atol=1e-3)


def test_first_view_of_a_batch_without_views():
    images = torch.zeros(2, 3, 4, 4)
    part = first_view({'inputs': images, 'data_samples': [1, 2]})
    assert part['inputs'] is images and set(part) == {'inputs', 'data_samples'}


def pretraining_configs() -> list[Path]:
    folder = Path(__file__).parents[2] / 'configs'
    rooms = ('mst', 'attmask', 'dino', 'ibot', 'moby', 'demo')
    return sorted(path for room in rooms for path in (folder / room).rglob('*.py'))


def test_one_switch_for_every_pretraining():
    paths = pretraining_configs()
    assert len(paths) > 30
    for path in paths:
        config = Config.fromfile(path)
        apply_options(config, {'train_dataloader.dataset.pipeline.1.photometric': 'device'})
        steps = [TRANSFORMS.build(step) for step in config.train_dataloader.dataset.pipeline]
        assert [step.photometric for step in steps if isinstance(step, MultiCrop)] == ['device'], path
        assert isinstance(MODELS.build(config.model.data_preprocessor), ViewDataPreprocessor), path


DEMO = Path(__file__).parents[2] / 'configs' / 'demo' / 'mst_vit-nano_scenes.py'


def demo(work_dir: Path, preprocessor: str) -> Config:
    options = {
        'train_dataloader.dataset.pipeline.1.photometric': 'device',
        'train_dataloader.dataset.num_images': 32,
        'model.data_preprocessor.type': preprocessor,
        'default_hooks.knn': 'none',
    }
    return load_config(str(DEMO), options, work_dir=str(work_dir))[0]


def test_a_run_refuses_views_that_nobody_colors(tmp_path):
    with pytest.raises(UsageError, match='does not augment colors'):
        build_runner(demo(tmp_path / 'run', 'SelfSupDataPreprocessor'))
    assert not (tmp_path / 'run').exists()
