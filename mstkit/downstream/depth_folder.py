"""A data set for mmseg of images with depth: NYU-Depth v2, KITTI, and any folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset

from mstkit.datasets.depth_pairs import DepthFiles, DepthPair, find_pairs, pairs_of_folders, pairs_of_list, read_depth
from mstkit.datasets.image_headers import compare_sizes, turns_upright
from mstkit.downstream.image_reading import ReadsImages
from mstkit.errors import UsageError
from mstkit.registry import DATASETS
from mstkit.utils.checks import check_number
from mstkit.utils.progress_bar import track

_CHECKED_AT_START = 16  # depth maps read at the start for a validation set
_SURVEYED_AT_START = 100  # for a training set
_LITTLE = 0.05  # of the farthest depth: where no pixel is farther, the unit of the files is another


class DepthSurvey(NamedTuple):
    """What some depth maps hold.

    Attributes:
        maps: that were read.
        known: share of their pixels of which the depth is known.
        within: share of these that are no farther than the farthest depth.
        least, median, largest: of the known depths, in meters.
    """

    maps: int
    known: float
    within: float
    least: float
    median: float
    largest: float


@DATASETS.register_module()
class DepthFolder(ReadsImages, BaseSegDataset):
    """Images with a depth for each pixel, for mmseg's ``DepthEstimator``.

    ``DIR/images/SPLIT/NAME.jpg`` belongs to ``DIR/annotations/SPLIT/NAME.png``, mmseg's layout of NYU-Depth v2; or DIR
    is KITTI as its archives are unpacked; or a list names the pairs. The depth is read by ``mstkit.LoadDepth`` in the
    pipeline. Files, sizes and units are checked at the start, on some of the depth maps.

    Args:
        data_root: DIR.
        split: of the folder: ``'train'``, ``'val'``, ``'test'`` …
        farthest: in meters; farther pixels are unknown. 10 for NYU-Depth v2, 80 for KITTI.
        units: of the depth files in a meter; by default 256 for KITTI, else 1000 for whole numbers and 1 for floats.
        ann_file: a list of pairs, such as those of Eigen's split of KITTI, instead of a split.
        data_prefix: ``dict(img_path=..., depth_map_path=...)``, other folders than those of the layout, relative to
            ``data_root``.
        metainfo: as in mmseg.
        **kwargs: as in mmseg: ``pipeline``, ``test_mode``, ``indices``, ``lazy_init`` ...

    Raises:
        UsageError: a folder, images or depth maps are missing, an image and its depth map differ in size, or no depth
            is known, or none in the given range.
    """

    def __init__(
        self,
        data_root: str | None = None,
        split: str = 'train',
        farthest: float = 10.0,
        units: float | None = None,
        ann_file: str = '',
        data_prefix: Mapping[str, str] | None = None,
        metainfo: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.split = split
        self.farthest = check_number('DepthFolder.farthest', farthest, 1e-6, 1e9)
        self.units = None if units is None else check_number('DepthFolder.units', units, 1e-6, 1e9)
        # mmseg asks for classes where it measures; depth has the one of being known.
        names = dict(classes=('depth',), palette=[(255, 255, 255)]) | dict(metainfo or {})
        super().__init__(
            data_root=data_root, ann_file=ann_file, data_prefix=dict(data_prefix or {}), metainfo=names, **kwargs
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Pairs images and depth maps, and checks them."""
        files = self._files()
        units = files.units if self.units is None else self.units
        images, depths = ([str(path) for path in paths] for paths in zip(*files.pairs, strict=True))
        maps = [path for path in depths if not path.endswith('.npy')]
        with_header = [image for image, path in zip(images, depths, strict=True) if not path.endswith('.npy')]
        where = str(Path(depths[0]).parent)
        remedy = 'Give depth maps of the size of their images'
        compare_sizes(with_header, maps, turns_upright(self.pipeline)).check(where, remedy, self.test_mode)
        self._check_depths(files.pairs, units, where)
        return [
            dict(img_path=image, depth_map_path=path, depth_units=units, farthest=self.farthest, seg_fields=[])
            for image, path in zip(images, depths, strict=True)
        ]

    def _files(self) -> DepthFiles:
        """The pairs by a list, by two folders, or by the layout of the root."""
        root, prefix = Path(self.data_root or '.'), self.data_prefix
        folders = [prefix.get(key) for key in ('img_path', 'depth_map_path')]
        if (folders[0] is None) != (folders[1] is None):
            raise UsageError(
                f'DepthFolder.data_prefix is {prefix!r}: give both folders as dict(img_path=..., depth_map_path=...), '
                'or none.'
            )
        if self.ann_file:
            pairs, without = pairs_of_list(self.ann_file, folders[0] or root, folders[1] or root)
            if without:
                left_out = f'{without} images of {self.ann_file} have no depth map and are left out.'
                print_log(f'DepthFolder: {left_out}', 'current')
            return DepthFiles(pairs)
        if folders[0] and folders[1]:
            return DepthFiles(pairs_of_folders(Path(folders[0]), Path(folders[1])))
        return find_pairs(root, self.split)

    def _check_depths(self, pairs: Sequence[DepthPair], units: float | None, where: str) -> None:
        """Refuses depths in another unit, or none at all, and says what there is."""
        found = survey_depths(pairs, units, self.farthest, _CHECKED_AT_START if self.test_mode else _SURVEYED_AT_START)
        checked = f'{found.maps} of the {len(pairs)} depth maps in {where}'
        if not found.known:
            raise UsageError(f'no depth is known in {checked}: 0 and what is not finite is unknown.')
        said = f'depths from {found.least:.3g} to {found.largest:.3g} m, half of them below {found.median:.3g} m'
        units_said = f'{units:g} in a meter' if units else '1000 in a meter for whole numbers, meters for floats'
        out = f'{checked} hold {said} (read as {units_said}), and the farthest depth is {self.farthest:g} m'
        remedy = 'give DepthFolder.units, what a meter is in the files, or another DepthFolder.farthest'
        if not found.within or found.largest < _LITTLE * self.farthest:
            raise UsageError(f'{out}: {remedy}.')
        if found.within < 0.5:
            left_out = f'{1 - found.within:.0%} of the pixels are left out'
            print_log(f'{out}: {left_out}; {remedy}.', 'current', logging.WARNING)
        print_log(
            f'DepthFolder: {len(pairs)} images; {checked} hold {said}; {found.known:.1%} of their pixels are known.',
            logger='current',
        )


def survey_depths(pairs: Sequence[DepthPair], units: float | None, farthest: float, most: int) -> DepthSurvey:
    """Reads depth maps, evenly spaced among all of them.

    Args:
        pairs: the files.
        units: see :func:`mstkit.datasets.depth_pairs.read_depth`.
        farthest: in meters.
        most: maximum number to read.

    Raises:
        UsageError: one of them cannot be read.
    """
    count = min(most, len(pairs))
    chosen = [pairs[index * len(pairs) // count].depth for index in range(count)]
    known, pixels = [], 0
    for path in track(chosen, count, 'depth maps checked', is_main_process()):
        depth = read_depth(path, units)
        pixels += depth.size
        known.append(depth[depth > 0])
    every = np.concatenate(known)
    if not every.size:
        return DepthSurvey(count, 0.0, 0.0, 0.0, 0.0, 0.0)
    least, median, largest = (float(value) for value in (every.min(), np.median(every), every.max()))
    return DepthSurvey(count, every.size / pixels, float((every <= farthest).mean()), least, median, largest)
