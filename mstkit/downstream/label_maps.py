"""Data sets for mmseg of images with label maps: Cityscapes, and any folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset, CityscapesDataset

from mstkit.datasets.folder_scan import scan_folder
from mstkit.datasets.image_headers import compare_sizes, turns_upright
from mstkit.downstream.cityscapes_ids import LABEL_IDS, TOOL, TRAIN_IDS
from mstkit.downstream.image_reading import ReadsImages
from mstkit.downstream.label_checks import IGNORED, LabelSurvey, survey_labels
from mstkit.errors import UsageError
from mstkit.registry import DATASETS
from mstkit.utils.checks import check_count
from mstkit.utils.class_palette import palette
from mstkit.utils.few_of_many import first_few

_CHECKED_AT_START = 16  # label maps read at the start for a validation set
_SURVEYED_AT_START = 200  # label maps read at the start for a training set, to see which classes occur
_IMAGE = '_leftImg8bit'


@DATASETS.register_module()
class CityscapesFolder(ReadsImages, CityscapesDataset):
    """Cityscapes in its official layout; every image has to have a label map, which is checked at the start.

    ``DIR/leftImg8bit/{train,val}/CITY/*_leftImg8bit.png`` with ``DIR/gtFine/{train,val}/CITY/*_labelTrainIds.png``,
    which ``tools/dataset_converters/cityscapes_train_ids.py`` creates from the official ``*_labelIds.png``. A few label
    maps are read at the start; with ``CheckLabels`` in the pipeline, all of them are checked during training.

    Args:
        img_suffix: suffix of image names; by default ``_leftImg8bit`` with any image format (officially PNG).
        **kwargs: as in mmseg: ``data_root``, ``data_prefix=dict(img_path=..., seg_map_path=...)``, ``metainfo`` with
            some of the 19 ``classes``, ``pipeline``, ``test_mode`` ...

    Raises:
        UsageError: a folder or label maps are missing, or one of those that are checked is invalid.
    """

    img_suffix: str

    def __init__(self, img_suffix: str | None = None, **kwargs: Any) -> None:
        self._any_format = img_suffix is None
        super().__init__(img_suffix=img_suffix or f'{_IMAGE}.png', **kwargs)

    @classmethod
    def facts_of(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """``classes`` and ``palette`` of a data set with this config, without building it."""
        every = cls.METAINFO
        colors = dict(zip(every['classes'], every['palette'], strict=True))
        classes = [name for name in (config.get('metainfo') or {}).get('classes', colors) if name in colors]
        return dict(classes=tuple(classes), palette=[colors[name] for name in classes])

    def load_data_list(self) -> list[dict[str, Any]]:
        """Lists images and label maps as mmseg does, and checks them."""
        images, maps = _folders(self)
        for folder, archive in ((images, 'leftImg8bit_trainvaltest.zip'), (maps, 'gtFine_trainvaltest.zip')):
            if not os.path.isdir(folder):
                raise UsageError(
                    f'{folder} does not exist: give the folder into which {archive} of Cityscapes was unpacked '
                    '(--data-root DIR).'
                )
        scan = scan_folder(images)
        if self._any_format:
            endings = {_IMAGE + os.path.splitext(name)[1] for name in scan.images if _IMAGE + '.' in name}
            if len(endings) > 1:
                raise UsageError(f'{images} holds {" and ".join(sorted(endings))}: give one of them as img_suffix.')
            self.img_suffix = next(iter(endings), self.img_suffix)
        samples = super().load_data_list()
        if not samples:
            raise UsageError(
                f'{images} holds no *{self.img_suffix}{scan.ignored_in_words()}: give images in Cityscapes’ '
                'layout, or use LabelMapFolder for other names.'
            )
        self._check_present(samples, images, maps)
        pairs = [(sample['img_path'], sample['seg_map_path']) for sample in samples]
        _check_pairs(self, pairs, self.METAINFO['classes'])
        return _with_classes(self, samples)

    def _check_present(self, samples: list[dict[str, Any]], images: str, maps: str) -> None:
        present = set(scan_folder(maps, ('.png',)).images)
        wanted = [os.path.relpath(sample['seg_map_path'], maps).replace(os.sep, '/') for sample in samples]
        missing = [name for name in wanted if name not in present]
        if not missing:
            return
        said = (
            f'{len(missing)} of the {len(samples)} images in {images} have no label map in {maps}, the first is '
            f'{missing[0]}'
        )
        originals = sum(name.replace(TRAIN_IDS, LABEL_IDS) in present for name in missing)
        if originals:
            root = self.data_root or os.path.dirname(os.path.dirname(maps))
            raise UsageError(f'{said}; {originals} can be created from *{LABEL_IDS}: run "{TOOL} {root}" once.')
        raise UsageError(f'{said}: unpack gtFine_trainvaltest.zip of Cityscapes there, or remove those images.')


@DATASETS.register_module()
class LabelMapFolder(ReadsImages, BaseSegDataset):
    """Images of any format with PNG label maps of the same name, in any depth of sub-folders.

    ``DIR/images/{train,val}/NAME.jpg`` belongs to ``DIR/labels/{train,val}/NAME.png``, an image with one channel (or
    a palette) whose values are class ids from 0. All images need a label map; label maps without an image are
    counted in the log. A few pairs are checked at the start; with ``CheckLabels`` in the pipeline, all during training.

    Args:
        num_classes: ids are 0 to ``num_classes`` - 1.
        data_prefix: ``dict(img_path='images/train', seg_map_path='labels/train')``.
        data_root: the folder to which the two are relative.
        ignore_index: the id of ignored pixels in the files. It is replaced by 255, so that losses, metrics and crops
            keep mmseg's default.
        metainfo: ``dict(classes=..., palette=...)``; by default classes are called class0, class1 ...
        seg_map_suffix: suffix of label maps, such as ``_mask.png``.
        reduce_zero_label: 0 in the files means "no class", and classes begin at 1.
        **kwargs: as in mmseg: ``pipeline``, ``test_mode``, ``indices``, ``lazy_init`` ...

    Raises:
        UsageError: a folder, images or label maps are missing, an image's name is not unique, one of the label
            maps that are checked is invalid, or a setting does not fit.
    """

    def __init__(
        self,
        num_classes: int,
        data_prefix: Mapping[str, str],
        data_root: str | None = None,
        ignore_index: int = IGNORED,
        metainfo: Mapping[str, Any] | None = None,
        seg_map_suffix: str = '.png',
        reduce_zero_label: bool = False,
        **kwargs: Any,
    ) -> None:
        names = self.facts_of(dict(num_classes=num_classes, metainfo=metainfo))
        self.num_classes = num_classes
        first, last = int(reduce_zero_label), num_classes - 1 + int(reduce_zero_label)
        if not last < check_count('LabelMapFolder.ignore_index', ignore_index, 0) <= IGNORED:
            raise UsageError(
                f'LabelMapFolder.ignore_index is {ignore_index}, but the ids of classes are {first} to {last}: give '
                f'{last + 1} to {IGNORED}, or, if 0 means "no class" and classes begin at 1, reduce_zero_label=True.'
            )
        classes = names['classes']
        if isinstance(classes, str) or len(classes) != num_classes:
            raise UsageError(
                f'LabelMapFolder.num_classes is {num_classes}, but metainfo.classes are '
                f'{repr(classes) if isinstance(classes, str) else first_few(classes)}: give a name for each class.'
            )
        super().__init__(
            data_prefix=dict(data_prefix),
            data_root=data_root,
            ignore_index=ignore_index,
            metainfo=names,
            seg_map_suffix=seg_map_suffix,
            reduce_zero_label=reduce_zero_label,
            **kwargs,
        )

    @classmethod
    def facts_of(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The metainfo, with ``classes`` and ``palette``, of a data set with this config, without building it."""
        count = check_count('LabelMapFolder.num_classes', config.get('num_classes'), 1)
        if count > IGNORED:
            raise UsageError(f'LabelMapFolder.num_classes is {count}: mmseg reads bytes, so at most {IGNORED}.')
        return dict(classes=tuple(f'class{index}' for index in range(count)), palette=palette(count)) | dict(
            config.get('metainfo') or {}
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Pairs images and label maps by their paths without suffix."""
        folders = _folders(self)
        for folder, key in zip(folders, ('img_path', 'seg_map_path'), strict=True):
            if not os.path.isdir(folder):
                raise UsageError(
                    f'{folder} does not exist: give the data root (--data-root DIR, with DIR/images/train and '
                    f'DIR/labels/train), or another folder as data_prefix=dict({key}=...).'
                )
        images, maps = (scan_folder(folder) for folder in folders)
        suffix = self.seg_map_suffix.lower()
        by_name = {name[: -len(suffix)]: name for name in maps.images if name.lower().endswith(suffix)}
        stems = [os.path.splitext(name)[0] for name in images.images]
        if not stems:
            raise UsageError(f'{folders[0]} holds no images{images.ignored_in_words()}: give the folder of them.')
        twice = [a for a, b in zip(sorted(stems), sorted(stems)[1:], strict=False) if a == b]
        if twice:
            raise UsageError(f'{folders[0]} has two images called {twice[0]} (with another suffix): remove one.')
        missing = [name for name, stem in zip(images.images, stems, strict=True) if stem not in by_name]
        if missing:
            raise UsageError(
                f'{len(missing)} of the {len(stems)} images in {folders[0]} have no label map in {folders[1]}: '
                f'{first_few(missing)}. The label map of {missing[0]} is '
                f'{os.path.splitext(missing[0])[0]}{self.seg_map_suffix}: add it, or remove the image.'
            )
        pairs = [
            (os.path.join(folders[0], name), os.path.join(folders[1], by_name[stem]))
            for name, stem in zip(images.images, stems, strict=True)
        ]
        _check_pairs(self, pairs, self._metainfo['classes'], self.ignore_index)
        unused = len(maps.images) - len(pairs)
        print_log(
            f'LabelMapFolder: {len(pairs)} images in {folders[0]} with label maps of {self.num_classes} classes'
            f'{images.ignored_in_words()}{f"; {unused} files in {folders[1]} not used" if unused else ""}',
            logger='current',
        )
        # mmseg subtracts 1 from every id (reduce_zero_label) before it applies label_map.
        mapped = None if self.ignore_index == IGNORED else {self.ignore_index - self.reduce_zero_label: IGNORED}
        samples = [dict(img_path=image, seg_map_path=path, label_map=mapped) for image, path in pairs]
        return _with_classes(self, samples)


def _folders(dataset: BaseSegDataset) -> tuple[str, str]:
    """The folders of images and of label maps."""
    prefix = dataset.data_prefix
    if not prefix.get('img_path') or not prefix.get('seg_map_path'):
        raise UsageError(
            f'{type(dataset).__name__}.data_prefix is {prefix!r}: give both folders as dict(img_path=..., '
            'seg_map_path=...).'
        )
    return prefix['img_path'], prefix['seg_map_path']


def _check_pairs(
    dataset: BaseSegDataset, pairs: list[tuple[str, str]], classes: Sequence[str], ignored: int = IGNORED
) -> None:
    """Refuses invalid images and label maps, and warns of classes that do not occur in training data.

    Args:
        dataset: for its settings.
        pairs: paths of images and of their label maps.
        classes: the classes in the files.
        ignored: the id of ignored pixels.
    """
    folder = dataset.data_prefix['seg_map_path']
    images, maps = [image for image, _ in pairs], [path for _, path in pairs]
    names = dict(enumerate(classes, start=int(dataset.reduce_zero_label)))
    survey = LabelSurvey(folder, names, max(names) + 1, ignored, dataset.metainfo['classes'])
    remedy = 'Give label maps of the size of their images'
    compare_sizes(images, maps, turns_upright(dataset.pipeline)).check(folder, remedy, dataset.test_mode)
    survey_labels(maps, survey, _CHECKED_AT_START if dataset.test_mode else _SURVEYED_AT_START)
    if not dataset.test_mode:
        if survey.only_one_class() and survey.checked < len(maps):
            survey = survey.empty()
            survey_labels(maps, survey, len(maps))  # check all label maps before the training is refused
        survey.judge(len(maps))


def _with_classes(dataset: BaseSegDataset, samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds the fields that mmseg's LoadAnnotations and our CheckLabels need."""
    classes = len(dataset.metainfo['classes'])
    for sample in samples:
        sample.setdefault('reduce_zero_label', dataset.reduce_zero_label)
        sample.setdefault('seg_fields', [])
        sample['num_classes'] = classes
    return samples
