"""A data set for mmdet of any folder in COCO's format."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Mapping
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.logging import print_log

from mstkit.datasets.coco_entries import check_images
from mstkit.datasets.coco_json import coco_classes, read_coco
from mstkit.datasets.image_headers import compare_sizes, turns_upright
from mstkit.downstream.coco_checks import check_classes, check_masks
from mstkit.downstream.image_reading import ReadsImages
from mstkit.errors import UsageError
from mstkit.registry import DATASETS
from mstkit.utils.class_palette import palette
from mstkit.utils.few_of_many import first_few


@DATASETS.register_module()
class CocoFolder(ReadsImages, CocoDataset):
    """Images with an annotation file in COCO's format, on the local disk.

    At the start, all entries of the file are checked and all images are looked up, so that errors show at once and
    not as an exception of a data worker in the middle of a run. Samples that are left out of a training
    (``filter_cfg``, empty boxes) are counted and logged.

    Labels are the categories in the order of their ids, as in :class:`mstkit.downstream.coco_metric.CocoFolderMetric`.
    mmdet's ``CocoMetric`` uses the order in the file; if that is different, a warning is logged.

    Args:
        ann_file: the annotation file, relative to ``data_root``.
        data_root: the folder to which the paths are relative.
        data_prefix: ``dict(img=FOLDER)``, the folder of the images.
        metainfo: ``dict(classes=...)`` selects categories, in the order of their ids; by default all are used.
        backend_args: not supported; for files in other storage use mmdet's ``CocoDataset``.
        **kwargs: as in mmdet: ``filter_cfg``, ``pipeline``, ``test_mode``, ``indices``, ``lazy_init`` ...

    Raises:
        UsageError: the file, its classes or its images are missing or do not fit together, an image has another size
            than in the file, the pipeline needs masks and the file has none, or no annotation is left.
    """

    METAINFO: dict[str, Any] = {}  # noqa: RUF012  (mmengine's own form; the parent's would be COCO's 80 classes)

    def __init__(
        self,
        ann_file: str,
        data_root: str | None = '',
        data_prefix: Mapping[str, str] | None = None,
        metainfo: Mapping[str, Any] | None = None,
        backend_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if backend_args:
            raise UsageError(
                f'CocoFolder.backend_args is {dict(backend_args)!r}, but it reads the local disk only: use mmdet.'
                'CocoDataset for files elsewhere.'
            )
        prefix = {'img': ''} if data_prefix is None else dict(data_prefix)
        if 'img' not in prefix:
            raise UsageError(f'CocoFolder.data_prefix is {prefix!r}: give the folder of images as dict(img=FOLDER).')
        self.masks_without_area = 0
        super().__init__(
            ann_file=ann_file, data_root=data_root or '', data_prefix=prefix, metainfo=_plain(metainfo), **kwargs
        )
        # With lazy_init the file has not been read yet. Inferencers build the data set in this way to get its colors,
        # maybe without the file.
        if 'classes' not in self._metainfo and os.path.isfile(self.ann_file):
            self._metainfo['classes'] = coco_classes(self.ann_file)
        self._choose_colors()

    @classmethod
    def classes_of(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        """The classes of a data set with this config, without building it.

        Raises:
            UsageError: the annotation file is missing, unreadable or has no categories.
        """
        metainfo = cls._load_metainfo(_plain(config.get('metainfo')))
        if 'classes' in metainfo:
            return tuple(metainfo['classes'])
        return coco_classes(os.path.join(config.get('data_root') or '', config['ann_file']))

    def load_data_list(self) -> list[dict[str, Any]]:
        """Reads and checks the annotation file, and lets mmdet parse it."""
        content = read_coco(self.ann_file)
        listed = [category['id'] for category in content['categories']]
        content['categories'].sort(key=lambda category: category['id'])
        known = tuple(category['name'] for category in content['categories'])
        classes = self._metainfo['classes'] = tuple(self._metainfo.get('classes', known))
        check_classes(classes, known, self.ann_file)
        self._choose_colors()
        check_images([image['file_name'] for image in content['images']], self.data_prefix['img'], self.ann_file)
        # The transforms of all packages that read masks call it so, without a common class.
        if any(getattr(step, 'with_mask', False) for step in self.pipeline.transforms):
            self.masks_without_area = check_masks(content, self.ann_file)
        self._check_sizes(content['images'])
        if self.test_mode:
            self._warn_evaluation(listed, content['annotations'])
            self._warn_others(content)
        self._listed = len(content['annotations'])
        self.COCOAPI = lambda _: _indexed(content)  # saves mmdet from reading the file again
        try:
            return super().load_data_list()
        finally:
            del self.COCOAPI

    def _choose_colors(self) -> None:
        """Sets the palette: mmdet's colors for COCO's own classes, else distinct colors."""
        classes, coco = self._metainfo.get('classes'), CocoDataset.METAINFO
        if classes is not None and 'palette' not in self._metainfo:
            same = tuple(classes) == coco['classes']
            self._metainfo['palette'] = coco['palette'] if same else [tuple(color) for color in palette(len(classes))]

    def filter_data(self) -> list[dict[str, Any]]:
        """Applies ``filter_cfg``, and logs how many images and annotations are left out.

        Raises:
            UsageError: no annotation is left.
        """
        kept = super().filter_data()
        instances = [instance for sample in self.data_list for instance in sample['instances']]
        if not any(sample['instances'] for sample in kept):
            raise UsageError(
                f'no annotation is left of {self.ann_file}: of {len(self.data_list)} images and {self._listed} '
                f'annotations, {len(instances)} annotations are of the classes asked for and have a box within their '
                f'image, and filter_cfg={self.filter_cfg} leaves {len(kept)} images. Correct metainfo.classes, '
                'filter_cfg or the file.'
            )
        least = (self.filter_cfg or {}).get('min_size', 0)
        out = len(self.data_list) - len(kept)
        small = sum(min(sample['width'], sample['height']) < least for sample in self.data_list) if out else 0
        counts = {
            f'images smaller than {least} px': small,
            'images without annotations': out - small,
            'annotations of other classes, or with a box that is empty or outside': self._listed - len(instances),
            'masks of fewer than three points': self.masks_without_area,
        }
        crowds = sum(instance['ignore_flag'] for instance in instances)
        left_out = ', '.join(f'{count} {what}' for what, count in counts.items() if count)
        print_log(
            f'CocoFolder: {len(self.data_list)} images with {len(instances)} annotations ({crowds} of crowds) in '
            f'{len(self.cat_ids)} classes of {self.ann_file}{f"; left out: {left_out}" if left_out else ""}',
            logger='current',
        )
        self._warn_empty(kept)
        return kept

    def _check_sizes(self, images: list[dict[str, Any]]) -> None:
        """Checks that the images have the sizes given in the file."""
        paths = [os.path.join(self.data_prefix['img'], image['file_name']) for image in images]
        listed = [(int(image['width']), int(image['height'])) for image in images]
        remedy = (
            'Boxes and masks would lie elsewhere: give the images that were annotated, or write width, height, boxes '
            'and masks anew for these'
        )
        compare_sizes(paths, listed, turns_upright(self.pipeline)).check(self.ann_file, remedy, self.test_mode)

    def _warn_empty(self, samples: list[dict[str, Any]]) -> None:
        """Warns of classes without training annotations."""
        seen = {instance['bbox_label'] for sample in samples for instance in sample['instances']}
        never = [name for label, name in enumerate(self._metainfo['classes']) if label not in seen]
        if never and not self.test_mode:
            print_log(
                f'{len(never)} of the {len(self._metainfo["classes"])} classes of {self.ann_file} have no annotation '
                f'to train on and cannot be learned: {first_few(never, 10)}.',
                logger='current',
                level=logging.WARNING,
            )

    def _warn_evaluation(self, category_ids: list[int], annotations: list[dict[str, Any]]) -> None:
        """Warns if mmdet's evaluation of this file would be wrong."""
        if category_ids != sorted(category_ids):
            print_log(
                f'{self.ann_file} lists its categories not in the order of their ids ({first_few(category_ids)}): '
                'evaluate with CocoFolderMetric or CocoMetric(sort_categories=True), or classes are mixed up.',
                logger='current',
                level=logging.WARNING,
            )
        if any(annotation['id'] == 0 for annotation in annotations):
            print_log(
                f'{self.ann_file} has an annotation with the id 0, which pycocotools counts as not found however well '
                'it is detected: number annotations from 1.',
                logger='current',
                level=logging.WARNING,
            )

    def _warn_others(self, content: dict[str, Any]) -> None:
        """Warns of categories that are not evaluated because they are not among the classes."""
        classes = set(self._metainfo['classes'])
        others = {entry['id']: entry['name'] for entry in content['categories'] if entry['name'] not in classes}
        count = sum(annotation['category_id'] in others for annotation in content['annotations'])
        if others:
            print_log(
                f'{self.ann_file}: {len(others)} of its {len(content["categories"])} categories '
                f'({first_few(list(others.values()))}), with {count} of {len(content["annotations"])} annotations, are '
                f'not evaluated: they are not among the {len(classes)} trained classes.',
                logger='current',
                level=logging.WARNING,
            )


def _plain(metainfo: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Copies the metainfo, and refuses ``classes`` as a single word, whose letters mmengine would take as classes.

    Raises:
        UsageError: ``classes`` is a string that is not the path of a file with a name per line.
    """
    classes = (metainfo or {}).get('classes')
    if isinstance(classes, str) and not os.path.isfile(classes):
        raise UsageError(f'metainfo.classes is {classes!r}: give a list of names, such as ({classes!r},).')
    return None if metainfo is None else dict(metainfo)


def _indexed(content: dict[str, Any]) -> COCO:
    """pycocotools' index of a file's content."""
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # "creating index..."
        coco.createIndex()
    coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
    return coco
