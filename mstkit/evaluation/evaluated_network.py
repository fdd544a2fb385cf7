"""The input of an evaluation: a frozen network together with labeled folders of images."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, runtime_checkable

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


@runtime_checkable
class FrozenNetwork(Protocol):
    """Interface of a network to be evaluated: in evaluation mode, with frozen parameters.

    Attributes:
        name: a short name, for tables.
        layout: 'vit' or 'swin'.
        blocks: its transformer blocks, each with ``index``, ``stage`` and ``module``.
        image_size: height and width of its input images in pixels.
        resize: length in pixels to which the shorter side of an image is resized before the center crop.
        mean, std: normalization per channel, RGB, in 0..255.
        fingerprint: hex digest of the weights, the architecture, the branch and the way features are computed.
    """

    name: str
    layout: str
    blocks: tuple[Any, ...]
    image_size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def fingerprint(self) -> str:
        """See above."""

    def __call__(self, images: Tensor) -> TokenOutput:
        """Computes the tokens of normalized images (B, 3, H, W)."""

    def features(self, images: Tensor, last_blocks: int = 1, mean_patch: bool = False) -> Tensor:
        """Computes one feature per image, (B, D), from normalized images (B, 3, H, W)."""

    def layers(self, count: int) -> Callable[[Tensor], list[TokenOutput]]:
        """A function that gives the tokens of each of the last blocks for normalized images (B, 3, H, W)."""

    def watch(
        self,
        images: Tensor,
        on_tokens: Callable[[Any, Tensor], object] | None = None,
        on_attention: Callable[[Any], object] | None = None,
        blocks: Collection[int] | None = None,
    ) -> TokenOutput:
        """A forward pass that calls back with the tokens and the attention of each block, or of ``blocks`` only."""


class EvaluatedNetwork:
    """A network with a folder of train images and one of val images, both with one sub-folder per class.

    Args:
        network: the network to be evaluated, on ``device``.
        train: the folder of the training images. Several evaluated networks can share data sets opened by
            :func:`~mstkit.evaluation.open_sets`, given as ``train`` and ``val``.
        val: the folder of the validation images.
        device: the device on which features are computed and compared.
        seed: seed of all random choices of an evaluation.
        batch_size: images per forward pass, on each rank.
        num_workers: processes that load images.
        cache: features on disk; None keeps them only in memory.

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
        """Features of a split's images, in file order, identical on every rank; computed once.

        An image that cannot be read is replaced by another one with its label
        (:class:`mstkit.datasets.ImageFolder`), so that the bank's labels may differ from :meth:`labels`.

        Args:
            split: 'train' or 'val'.
            last_blocks, mean_patch: as in ``network.features``.

        Returns:
            Features and labels on the CPU, in float32 and int64; shared by all evaluations, which must not change them.


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
        """Everything that determines the features of a split: the key in the cache."""
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
        """Computes features of a blank image, which raises UsageError if the network does not have such features."""
        size = self.network.image_size
        with torch.no_grad():
            self.network.features(torch.zeros(1, 3, size, size, device=self.device), last_blocks, mean_patch)

    def loader(
        self,
        split: str,
        view: str = 'center',
        batch_size: int | None = None,
        scale: tuple[float, float] = (0.08, 1.0),
        indices: Sequence[int] | None = None,
    ) -> DataLoader:
        """Batches ``{'inputs': (B, 3, H, W) uint8, 'data_samples'}`` of this rank's share of a split.

        Args:
            split: 'train' or 'val'.
            view: 'center' keeps the file order, resizes each image and takes the center crop, with the network's
                sizes. 'augmented' shuffles, takes a random resized crop, and flips horizontally with probability 0.5
                (the linear probe of DINO, arXiv 2104.14294, section 4.1). Order and crops are determined by the seed
                and the epoch, set by ``loader.sampler.set_epoch(epoch)``.
            batch_size: images per batch; by default that of the network's forward passes.
            scale: smallest and largest share of the area that an augmented crop covers.
            indices: the images to take of the split; None for all.

        Raises:
            UsageError: there is no such split or view.
        """
        if view not in VIEWS:
            raise UsageError(f'there is no view {view!r} of an image, only {" and ".join(VIEWS)}.')
        dataset = self._images(split, view, scale)
        if indices is not None:
            dataset = dataset.get_subset(list(indices))
        if view == 'center':
            return feature_loader(dataset, batch_size or self.batch_size, self.num_workers)
        return DataLoader(
            dataset,
            batch_size=batch_size or self.batch_size,
            sampler=EpochSampler(dataset, seed=self.seed),
            num_workers=self.num_workers,
            collate_fn=default_collate,
            generator=torch.Generator(),
        )

    def center_view(self) -> CenterView:
        """The transform of images before features are computed: resize and center crop."""
        return CenterView(resize=self.network.resize, crop=self.network.image_size)

    def _images(self, split: str, view: str = 'center', scale: tuple[float, float] = (0.08, 1.0)) -> ImageFolder:
        """The folder of a split, with one of the views as its pipeline."""
        crop: list[Any] = [self.center_view()]
        if view == 'augmented':
            random = MultiCrop(
                global_crops=dict(size=self.network.image_size, scale=scale, count=1),
                global_recipes=dict(flip=0.5, jitter=0.0, gray=0.0, blur=0.0, solarize=0.0),
                local_crops=dict(count=0),
                interpolation='bilinear',  # torchvision's default, used in papers' probes; center crops are bicubic
            )
            crop = [random, _only_view]
        dataset = copy.copy(self._folder(split))  # shares the list of files
        dataset.pipeline = Compose([LoadRGB(), *crop, PackViews()])
        return dataset

    def preprocess(self, batch: dict[str, Any]) -> Tensor:
        """The images of a batch with the network's normalization, (B, 3, H, W) float32 on the device."""
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
    """A transform that replaces the list of a single view by that view."""
    (results['img'],) = results['img']
    return results
