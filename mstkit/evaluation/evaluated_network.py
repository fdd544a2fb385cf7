"""What an evaluation is about: a frozen network together with labeled folders of images."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Collection
from typing import Any, Protocol

import torch
from mmengine.dataset import default_collate
from mmengine.dataset.base_dataset import Compose
from torch import Tensor
from torch.utils.data import DataLoader

from mstkit.datasets import CenterView, EpochSampler, ImageFolder, LoadRGB, MultiCrop, PackViews
from mstkit.errors import UsageError, nearest
from mstkit.evaluation.feature_cache import FeatureCache, digest_of_files
from mstkit.evaluation.features import extract_features, feature_loader
from mstkit.evaluation.image_sets import open_sets
from mstkit.evaluation.protocols.weighted_knn import check_classes, check_finite
from mstkit.structures import FeatureBank, TokenOutput
from mstkit.utils.checks import check_count, check_workers

LARGEST_SEED = 2**32 - 1  # NumPy's
VIEWS = ('center', 'augmented')


class FrozenNetwork(Protocol):
    """What an evaluation needs of a network: in evaluation mode, its parameters frozen.

    Attributes:
        name: a short one, for tables.
        layout: 'vit' or 'swin'.
        blocks: its transformer blocks, each with ``index``, ``stage`` and ``module``.
        image_size: side of its images in pixels.
        resize: to how many pixels the shorter side of an image is brought before the center is cut out.
        mean, std: of its images by channel, RGB, from 0 to 255.
        fingerprint: hex digest of the weights, the architecture, the branch and how features are read from them.
    """

    name: str
    layout: str
    blocks: tuple[Any, ...]
    image_size: int
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fingerprint: str

    def __call__(self, images: Tensor) -> TokenOutput:
        """From normalized images (B, 3, H, W) to tokens."""

    def features(self, images: Tensor, last_blocks: int = 1, mean_patch: bool = False) -> Tensor:
        """From normalized images (B, 3, H, W) to one feature each, (B, D)."""

    def watch(
        self,
        images: Tensor,
        on_tokens: Callable[[Any, Tensor], object] | None = None,
        on_attention: Callable[[Any], object] | None = None,
        blocks: Collection[int] | None = None,
    ) -> TokenOutput:
        """One forward pass that shows the tokens and the attention of each block, or of some, as they come."""


class EvaluatedNetwork:
    """A network with a folder of train images and one of val images, both with one sub-folder per class.

    Args:
        network: what is evaluated, on ``device``.
        train: the folder of the images that are learned from; or both folders as
            :func:`~mstkit.evaluation.open_sets` opened them, so that several evaluated networks look through them once.
        val: the same of the images that are judged.
        device: where features are computed and compared.
        seed: what every random choice of an evaluation follows from.
        batch_size: images per forward pass, on each rank.
        num_workers: processes that load images.
        cache: where features are kept on disk; None keeps them in memory alone.

    Raises:
        UsageError: a folder is missing, empty or without classes, or the two have different classes or share images; or
            a number is out of range.
    """

    def __init__(
        self,
        network: FrozenNetwork,
        train: ImageFolder | str | os.PathLike[str],
        val: ImageFolder | str | os.PathLike[str],
        device: torch.device | str = 'cpu',
        seed: int = 0,
        batch_size: int = 64,
        num_workers: int = 2,
        cache: FeatureCache | None = None,
    ) -> None:
        self.network = network
        self.device = torch.device(device)
        self.seed = check_count('seed', seed, 0, LARGEST_SEED)
        self.batch_size = check_count('batch_size', batch_size, 1)
        self.num_workers = check_workers('num_workers', num_workers)
        self.cache = cache
        if not (isinstance(train, ImageFolder) and isinstance(val, ImageFolder)):
            train, val = open_sets(_path(train), _path(val))
        check_classes(train.metainfo['classes'], val.metainfo['classes'])
        self.folders = {'train': train, 'val': val}
        self._labels: dict[str, Tensor] = {}
        self._digests: dict[str, str] = {}
        self._banks: dict[tuple[str, int, bool], FeatureBank] = {}

    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return tuple(self.folders['train'].metainfo['classes'])

    def labels(self, split: str) -> Tensor:
        """The classes of a split's images in file order, (M,) int64; no image is read."""
        folder = self._folder(split)
        if split not in self._labels:
            labels = [folder.get_data_info(index)['gt_label'] for index in range(len(folder))]
            self._labels[split] = torch.tensor(labels, dtype=torch.int64)
        return self._labels[split]

    def bank(self, split: str, last_blocks: int = 1, mean_patch: bool = False) -> FeatureBank:
        """Features of a split's images, in file order, the same on every rank; computed once.

        The feature of an image that could not be read is that of another one in its place, with the label of that
        one (:class:`mstkit.datasets.ImageFolder`); so labels belong to features, and may differ from
        :meth:`labels`.

        Args:
            split: 'train' or 'val'.
            last_blocks, mean_patch: as in ``network.features``.

        Returns:
            A bank on the CPU, in float32, shared by all evaluations: none changes it.

        Raises:
            UsageError: there is no such split, or features are not finite.
        """
        kind = (split, last_blocks, mean_patch)
        if kind not in self._banks:
            bank = self._compute(*kind)
            check_finite(bank.features, f'{split} images of {self.network.name}')
            self._banks[kind] = bank
        return self._banks[kind]

    def _compute(self, split: str, last_blocks: int, mean_patch: bool) -> FeatureBank:
        def encode(images: Tensor) -> Tensor:
            return self.network.features(images, last_blocks=last_blocks, mean_patch=mean_patch)

        description = f'{split} features of {self.network.name}'
        if self.cache is None:
            return extract_features(encode, self.loader(split), self.device, self.preprocess, description)
        return self.cache.bank(
            self._identity(split, last_blocks, mean_patch),
            encode,
            self._images(split),
            self.device,
            self.preprocess,
            description,
            self.batch_size,
            self.num_workers,
        )

    def _identity(self, split: str, last_blocks: int, mean_patch: bool) -> dict[str, Any]:
        """All that features follow from."""
        folder = self._folder(split)
        if split not in self._digests:
            paths = (folder.get_data_info(index)['img_path'] for index in range(len(folder)))
            self._digests[split] = digest_of_files(folder.folder, paths)
        mean, std = (list(map(float, values)) for values in (self.network.mean, self.network.std))
        return dict(
            network=self.network.fingerprint,
            last_blocks=last_blocks,
            mean_patch=mean_patch,
            transform=f'{self.center_view()!r}, mean {mean}, std {std}',
            files=self._digests[split],
        )

    def check_features(self, last_blocks: int = 1, mean_patch: bool = False) -> None:
        """Refuses features that the network does not have, by a look at a blank image; raises UsageError."""
        size = self.network.image_size
        with torch.no_grad():
            self.network.features(torch.zeros(1, 3, size, size, device=self.device), last_blocks, mean_patch)

    def loader(self, split: str, view: str = 'center') -> DataLoader:
        """Batches ``{'inputs': (B, 3, H, W) uint8, 'data_samples'}`` of this rank's share of a split.

        Args:
            split: 'train' or 'val'.
            view: 'center' keeps the file order and shows every image in the same way each time: resized, and the center
                cut out, as the network wants it. 'augmented' shuffles, cuts out
                a random part of 8 to 100 % of the area, and flips one image in two (the linear probe of DINO, arXiv
                2104.14294, section 4.1). Order and parts follow from the seed and the epoch, which is chosen by
                ``loader.sampler.set_epoch(epoch)``.

        Raises:
            UsageError: there is no such split or view.
        """
        if view not in VIEWS:
            raise UsageError(f'there is no view {view!r} of an image, only {" and ".join(VIEWS)}.')
        dataset = self._images(split, view)
        if view == 'center':
            return feature_loader(dataset, self.batch_size, self.num_workers)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=EpochSampler(dataset, seed=self.seed),
            num_workers=self.num_workers,
            collate_fn=default_collate,
            generator=torch.Generator(),
        )

    def center_view(self) -> CenterView:
        """The view that features are computed on."""
        return CenterView(resize=self.network.resize, crop=self.network.image_size)

    def _images(self, split: str, view: str = 'center') -> ImageFolder:
        """The folder of a split, with one of the views as its pipeline."""
        crop: list[Any] = [self.center_view()]
        if view == 'augmented':
            random = MultiCrop(
                global_crops=dict(size=self.network.image_size, scale=(0.08, 1.0), count=1),
                global_recipes=dict(flip=0.5, jitter=0.0, gray=0.0, blur=0.0, solarize=0.0),
                local_crops=dict(count=0),
                interpolation='bilinear',  # what papers probe with, by torchvision's default; central views are bicubic
            )
            crop = [random, _only_view]
        dataset = copy.copy(self._folder(split))  # shares the list of files
        dataset.pipeline = Compose([LoadRGB(), *crop, PackViews()])
        return dataset

    def preprocess(self, batch: dict[str, Any]) -> Tensor:
        """The images of a batch, normalized as the network wants them, (B, 3, H, W) float32 on the device."""
        images = batch['inputs'].to(self.device, non_blocking=True).float()
        mean, std = (images.new_tensor(values).view(1, -1, 1, 1) for values in (self.network.mean, self.network.std))
        return (images - mean) / std

    def _folder(self, split: str) -> ImageFolder:
        if split not in self.folders:
            raise UsageError(f"there is no split {split!r}, only 'train' and 'val'.{nearest(split, self.folders)}")
        return self.folders[split]


def _path(folder: ImageFolder | str | os.PathLike[str]) -> str | os.PathLike[str]:
    return folder.folder if isinstance(folder, ImageFolder) else folder


def _only_view(results: dict[str, Any]) -> dict[str, Any]:
    """One view in place of a list of one."""
    (results['img'],) = results['img']
    return results
