"""Views that a method cannot train with are refused when the run is built, not in its first step."""

from __future__ import annotations

import pytest

from mstkit.errors import UsageError
from tests.models.builders import NECK
from tests.models.test_moby import mlp

from . import running

NORMALIZE = dict(type='SelfSupDataPreprocessor', mean=[127.5] * 3, std=[64.0] * 3)
BACKBONE = dict(
    type='MaskedVisionTransformer',
    arch=dict(embed_dims=12, num_layers=1, num_heads=2, feedforward_channels=16),
    img_size=16,
    patch_size=8,
)
DINO = dict(
    type='DINO',
    backbone=BACKBONE,
    neck=NECK,
    head=dict(type='DINOHead'),
    teacher=dict(momentum=0.9),
    data_preprocessor=NORMALIZE,
)
MOBY = dict(
    type='MoBY',
    backbone=BACKBONE,
    neck=mlp(),
    predictor=mlp(),
    head=dict(type='MoBYHead', queue_size=16),
    data_preprocessor=NORMALIZE,
)


def build(folder, model: dict, global_count: int = 2, local_count: int = 0, images: int = 16, **loader):
    """The runner of a method on views of 16 and 8 px; nothing is trained."""
    crops = dict(global_crops=dict(size=16, count=global_count), local_crops=dict(size=8, count=local_count))
    recipe = dict(flip=0.5)
    dataset = dict(
        type='BuiltinScenes',
        num_images=images,
        image_size=16,
        pipeline=[dict(type='MultiCrop', **crops, global_recipes=recipe, local_recipe=recipe), dict(type='PackViews')],
    )
    changes = {f'train_dataloader__{name}': value for name, value in loader.items()}
    return running.build(folder / 'work', model=dict(model), train_dataloader__dataset=dataset, **changes)


@pytest.mark.parametrize(
    ('model', 'counts', 'message'),
    [
        (DINO, (1, 2), r'DINO takes the first 2 .* first 1 of 3 views .*: set global_crops\.count=2 of MultiCrop'),
        (DINO, (1, 0), r'DINO takes the first 2 views .* set global_crops\.count=2'),
        (dict(DINO, global_views=1), (1, 0), r'makes only one: set local_crops\.count of MultiCrop to 1 or more'),
        (dict(DINO, global_views=3), (2, 2), r'takes the first 3 views .* first 2 of 4 .*: set global_crops\.count=3'),
        (MOBY, (1, 0), r'MoBY compares two global views .* of 16 px: set global_crops\.count=2'),
        (MOBY, (3, 0), r'of 16, 16, 16 px: set global_crops\.count=2 and local_crops\.count=0'),
        (MOBY, (1, 1), r'of 16, 8 px: set global_crops\.count=2 and local_crops\.count=0'),
        (MOBY, (2, 1), r'of 16, 16, 8 px: set global_crops\.count=2 and local_crops\.count=0'),
    ],
)
def test_views_that_a_method_does_not_compare(tmp_path, model, counts, message):
    with pytest.raises(UsageError, match=message) as caught:
        build(tmp_path, model, *counts)
    assert str(caught.value).endswith('. Its config is train_dataloader.dataset.pipeline.0.')
    assert not (tmp_path / 'work').exists()


@pytest.mark.parametrize(
    ('model', 'counts'), [(DINO, (2, 0)), (DINO, (2, 3)), (dict(DINO, global_views=1), (1, 2)), (MOBY, (2, 0))]
)
def test_views_that_a_method_compares(tmp_path, model, counts):
    assert build(tmp_path, model, *counts) is not None
