"""The built-in data set: generated scenes as an mmengine data set, without a file or a download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from mmengine.dataset import BaseDataset, force_full_init
from mmengine.logging import print_log

from mstkit.errors import UsageError
from mstkit.registry import DATASETS, TRANSFORMS
from mstkit.scenes.scene_images import CLASSES, SIZES, render_scene, scene_label
from mstkit.utils.checks import check_count


@DATASETS.register_module()
class BuiltinScenes(BaseDataset):
    """Scenes with one object each of the ten classes of :data:`mstkit.scenes.scene_images.CLASSES`.

    A sample holds ``img`` ((H, W, 3) uint8, RGB), ``gt_label``, ``sample_idx``, ``ori_shape`` and ``img_shape``. The
    classes are balanced; scene ``i`` is the same whatever ``num_images`` is, and no split shares a scene with another.

    Args:
        split: ``'train'``, ``'val'`` or ``'test'``.
        num_images: number of scenes.
        image_size: side in pixels.
        seed: of the data set, not of the training run: another seed gives other scenes of the same kind.
        pipeline: transforms, built by mstkit's registry.
        cache: render every scene once, when the data set is initialized, and keep it as uint8
            (``num_images * 3 * image_size**2`` bytes, shared with forked workers); otherwise at each access.
        indices: only these scenes; a number n means the first n scenes, -n the last n.
        metainfo: further facts about the data set, as in mmengine.
        test_mode: as in mmengine.
        lazy_init: do not render before the first access.

    Raises:
        UsageError: an argument is out of range.
    """

    METAINFO: ClassVar[dict] = {'classes': CLASSES}

    def __init__(
        self,
        split: str = 'train',
        num_images: int = 4000,
        image_size: int = 48,
        seed: int = 0,
        pipeline: Sequence[dict | Callable] = (),
        cache: bool = True,
        indices: int | Sequence[int] | None = None,
        metainfo: dict | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ) -> None:
        check_count('BuiltinScenes.num_images', num_images, 1, 10**7)
        check_count('BuiltinScenes.image_size', image_size, *SIZES)
        chosen = [] if indices is None else [abs(indices)] if isinstance(indices, int) else [i + 1 for i in indices]
        for count in chosen:
            if not 1 <= count <= num_images:
                raise UsageError(
                    f'indices of BuiltinScenes is {indices!r}, but there are {num_images} scenes, from 0 on.'
                )
        self.split, self.num_images, self.image_size, self.seed, self.cache = split, num_images, image_size, seed, cache
        render_scene(seed, split, 0, image_size)  # raises here, instead of in a worker, for a wrong argument
        self._images: np.ndarray | None = None
        super().__init__(
            metainfo=metainfo,
            indices=indices,
            serialize_data=False,  # a label and a number per scene: nothing worth packing
            pipeline=[TRANSFORMS.build(step) if isinstance(step, dict) else step for step in pipeline],
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def load_data_list(self) -> list[dict]:
        """The scenes' numbers and classes."""
        return [
            {'scene': index, 'gt_label': scene_label(self.seed, self.split, index)} for index in range(self.num_images)
        ]

    def full_init(self) -> None:
        """Lists the scenes and, with ``cache``, renders them."""
        if self._fully_initialized:
            return
        super().full_init()
        if self.cache:
            shape = (len(self.data_list), self.image_size, self.image_size, 3)
            self._images = np.empty(shape, np.uint8)
            print_log(f'rendering {shape[0]} {self.split} scenes of {self.image_size} px', logger='current')
            for row, info in enumerate(self.data_list):
                self._images[row] = self._render(info)
                info['row'] = row  # a subset keeps its rows and shares the images

    @force_full_init
    def get_data_info(self, idx: int) -> dict[str, Any]:
        """The sample before the pipeline; its image is a copy, so that a transform may write into it."""
        info = super().get_data_info(idx)
        info['img'] = self._render(info) if self._images is None else self._images[info['row']].copy()
        info['img_shape'] = info['ori_shape'] = info['img'].shape[:2]
        return info

    def _copy_without_annotation(self, memo: dict | None = None) -> BuiltinScenes:
        # mmengine makes subsets by copying; the images are never written to, so one copy of them is enough.
        return super()._copy_without_annotation({**(memo or {}), id(self._images): self._images})

    def _render(self, info: dict) -> np.ndarray:
        return render_scene(self.seed, self.split, info['scene'], self.image_size).image
