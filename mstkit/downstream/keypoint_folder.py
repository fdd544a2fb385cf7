"""A data set of objects with keypoints, in COCO's format."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mstkit.datasets.keypoint_annotations import read_keypoints, read_kind
from mstkit.downstream.image_reading import ReadsImages
from mstkit.errors import UsageError
from mstkit.registry import DATASETS
from mstkit.utils.checks import check_count
from mstkit.utils.few_of_many import first_few


@DATASETS.register_module()
class KeypointFolder(ReadsImages, BaseDataset):
    """Objects with keypoints, each with its box: COCO's keypoints, or any folder in its format.

    Every object is a sample of its own. All entries of the file are checked at the start, and all images are looked up
    (:func:`mstkit.datasets.keypoint_annotations.read_keypoints`); what is left out is counted and logged.

    Args:
        ann_file: the annotation file, relative to ``data_root``.
        data_root: the folder to which the paths are relative.
        data_prefix: ``dict(img=FOLDER)``, the folder of the images.
        metainfo: ``dict(keypoints=...)``, the names that the file has to have, in their order: those of the training
            data, which tools/train.py gives to all data sets.
        pipeline: transforms or their configs.
        test_mode: the data is used for evaluation: an unreadable image raises an error instead of being replaced.
        indices: use only so many objects, the first of the file; None for all.
        lazy_init: read the file at first use rather than now.
        serialize_data: as in mmengine; saves memory in the workers.

    Raises:
        UsageError: the file or its images are missing or do not fit together, it names other keypoints, or a setting
            does not fit.
    """

    def __init__(
        self,
        ann_file: str,
        data_root: str | None = '',
        data_prefix: Mapping[str, str] | None = None,
        metainfo: Mapping[str, Any] | None = None,
        pipeline: Sequence[Mapping[str, Any] | Callable] = (),
        test_mode: bool = False,
        indices: int | None = None,
        lazy_init: bool = False,
        serialize_data: bool = True,
    ) -> None:
        prefix = {'img': ''} if data_prefix is None else dict(data_prefix)
        if 'img' not in prefix:
            raise UsageError(
                f'KeypointFolder.data_prefix is {prefix!r}: give the folder of images as dict(img=FOLDER).'
            )
        self._flip_indices: list[int] = []
        super().__init__(
            ann_file=ann_file,
            data_root=data_root or '',
            data_prefix=prefix,
            metainfo=None if metainfo is None else dict(metainfo),
            pipeline=list(pipeline),
            test_mode=test_mode,
            indices=None if indices is None else check_count('KeypointFolder.indices', indices, 1),
            lazy_init=lazy_init,
            serialize_data=serialize_data,
        )

    @classmethod
    def keypoints_of(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the keypoints of a data set with this config, without building it.

        Raises:
            UsageError: the annotation file is missing, unreadable or has no category with keypoints.
        """
        return read_kind(os.path.join(config.get('data_root') or '', config['ann_file'])).names

    def load_data_list(self) -> list[dict[str, Any]]:
        """Reads and checks the annotation file; a dict for each object, with paths, box and keypoints."""
        found = read_keypoints(self.ann_file, self.data_prefix['img'], self.test_mode)
        kind = found.kind
        wanted = tuple(self._metainfo.get('keypoints', kind.names))
        if wanted != kind.names:
            raise UsageError(
                f'{self.ann_file} has the keypoints {first_few(kind.names, 5)}, but those of the training data are '
                f'{first_few(wanted, 5)}: give files whose keypoints have the same names, in the same order.'
            )
        self._metainfo.update(
            keypoints=kind.names,
            skeleton=kind.skeleton,
            flip_pairs=kind.flip_pairs,
            sigmas=kind.sigmas,
            # From which the metric reads what it needs of the annotations.
            ann_file=os.fspath(self.ann_file),
            images=os.fspath(self.data_prefix['img']),
        )
        self._flip_indices = list(range(len(kind.names)))
        for first, second in kind.flip_pairs:
            self._flip_indices[first], self._flip_indices[second] = second, first
        left_out = ', '.join(f'{count} {what}' for what, count in found.left_out.items() if count)
        count, images = len(found.instances), len({one.image for one in found.instances})
        print_log(
            f'KeypointFolder: {count} of {kind.name!r} with {len(kind.names)} keypoints in {images} images of '
            f'{self.ann_file}{f"; left out: {left_out}" if left_out else ""}',
            logger='current',
        )
        return [
            dict(
                img_path=os.fspath(one.image),
                image_id=one.image_id,
                instance_id=one.id,
                width=one.size[0],
                height=one.size[1],
                box=one.box,
                area=one.area,
                keypoints=one.keypoints,
            )
            for one in found.instances
        ]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """What is known of a sample; ``flip_indices`` (K,) says which keypoint each one is in a mirror image."""
        return {**super().get_data_info(idx), 'flip_indices': self._flip_indices}
