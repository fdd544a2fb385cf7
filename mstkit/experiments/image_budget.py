"""``--images``: a length in training images, so that methods with other batches or views can be compared."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from mstkit.errors import UsageError
from mstkit.registry import DATASETS
from mstkit.utils.build_errors import build_guard


def epochs_for(images: int, config: Config) -> tuple[int, str]:
    """The whole number of epochs that comes nearest to a number of training images, at least one.

    Args:
        images: how many images are to be seen, each time that one is taken.
        config: with its data set.

    Returns:
        The number, and a line that says what it amounts to.

    Raises:
        UsageError: no image, or a data set that cannot be built or is smaller than a batch.
    """
    if images < 1:
        raise UsageError(f'--images is a whole number from 1, not {images}')
    loader: Any = config.train_dataloader
    with DefaultScope.overwrite_default_scope(config.default_scope), build_guard():
        size = len(DATASETS.build(loader.dataset))
    batch = loader.batch_size
    each = size // batch * batch if loader.get('drop_last') else size
    if not each:
        raise UsageError(f'--images {images}: the {size} training images are fewer than a batch of {batch}.')
    epochs = max(1, round(images / each))
    return epochs, f'--images {images}: {epochs} epochs of {each} images, {epochs * each} in all'
