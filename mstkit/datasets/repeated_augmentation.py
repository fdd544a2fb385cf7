"""Repeated augmentation, the sampling of DeiT's recipe."""

from __future__ import annotations

from collections.abc import Sized

from mmpretrain.datasets import RepeatAugSampler

from mstkit.errors import UsageError
from mstkit.registry import DATA_SAMPLERS
from mstkit.utils.checks import check_count


@DATA_SAMPLERS.register_module()
class RoundedRepeatAugSampler(RepeatAugSampler):
    """mmpretrain's repeated augmentation (Hoffer et al., 2020) with the epoch length of DeiT's code.

    Each image is repeated ``num_repeats`` times in a row; the repeats go to different processes and are augmented
    independently. An epoch has as many samples as the data set has images, rounded down to a multiple of ``round_to``;
    with three repeats it covers about a third of the images. (mmpretrain does not round: an epoch of the 2040 Flowers
    with 6 processes of 150 images would have two batches instead of one.)

    Args:
        dataset: the data set; only its length is used.
        num_repeats: repeats of each image.
        round_to: the number of samples per epoch, over all processes, is a multiple of this; a smaller data set is
            not rounded.
        shuffle, seed: see mmpretrain.

    Raises:
        UsageError: a number below 1, or a data set with fewer images than there are processes.
    """

    def __init__(
        self, dataset: Sized, num_repeats: int = 3, round_to: int = 256, shuffle: bool = True, seed: int | None = None
    ) -> None:
        check_count('RoundedRepeatAugSampler.num_repeats', num_repeats, 1)
        check_count('RoundedRepeatAugSampler.round_to', round_to, 1)
        super().__init__(dataset, shuffle=shuffle, num_repeats=num_repeats, seed=seed)
        whole = len(dataset) // round_to * round_to or len(dataset)
        if whole < self.world_size:
            raise UsageError(
                f'the data set holds {len(dataset)} images for {self.world_size} processes: '
                'give it at least one image per process, or start fewer processes.'
            )
        self.num_selected_samples = whole // self.world_size
