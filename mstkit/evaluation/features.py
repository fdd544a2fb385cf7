"""Features of a labeled set of images: each rank computes its share, and all are gathered in file order."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, overload

import torch
from mmengine import dist
from mmengine.dataset import default_collate
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from mstkit.datasets.dataset_interface import ListedDataset, metainfo_of
from mstkit.datasets.unreadable_images import replaced_in
from mstkit.errors import UsageError
from mstkit.evaluation.shares import ShareSampler, in_file_order
from mstkit.structures import ClassTokenBackbone, FeatureBank, TokenEncoder, averages_patches
from mstkit.utils.checks import check_count, check_workers
from mstkit.utils.progress_bar import track
from mstkit.utils.undisturbed import evaluation_mode

Encoder = Callable[[Tensor], Tensor]


class PooledEncoder(nn.Module):
    """A backbone as a function from images (B, 3, H, W) to its pooled features (B, C), in float32.

    Being a module, it is put into evaluation mode by :func:`extract_features`.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        return pooled_features(self.backbone, images).float()


def pooled_features(backbone: nn.Module, images: Tensor) -> Tensor:
    """Computes one feature per image, (B, C), with a backbone of mstkit or of another library.

    Args:
        backbone: a :class:`mstkit.structures.TokenEncoder`; or a module that returns tokens (B, L, C), with the CLS
            token first if it has one (:class:`mstkit.structures.ClassTokenBackbone`), maps (B, C, h, w), features
            (B, C), or a tuple whose last element is one of these, as in mmpretrain.
        images: (B, 3, H, W), normalized.

    Raises:
        UsageError: the backbone returns something else.
    """
    if isinstance(backbone, TokenEncoder):
        tokens = backbone.forward_tokens(images)
        return tokens.patch_tokens.mean(dim=1) if averages_patches(backbone) else tokens.pooled
    # mmpretrain's backbones for masked image modeling hide patches unless they are told not to.
    masked = 'mask' in inspect.signature(backbone.forward).parameters
    output = backbone(images, mask=None) if masked else backbone(images)
    while isinstance(output, tuple | list) and output:
        output = output[-1]
    if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
        raise UsageError(
            f'{type(backbone).__name__} returns {type(output).__name__}, from which one feature per image cannot be '
            'computed: it has to return tokens (B, L, C), maps (B, C, h, w) or features (B, C)'
        )
    if output.ndim == 4:
        return output.mean(dim=(2, 3))
    if output.ndim == 3:
        with_class_token = isinstance(backbone, ClassTokenBackbone) and backbone.cls_token is not None
        return output[:, 0] if with_class_token else output.mean(dim=1)
    return output


def feature_loader(
    dataset: Dataset, batch_size: int = 64, num_workers: int = 0, equal_shares: bool = False
) -> DataLoader:
    """Builds the loader that :func:`extract_features` expects: this rank's share of a data set, in file order.

    It has its own random generator, so that iterating it does not change the state of torch's global one. During a
    training ``equal_shares`` gives all ranks as many batches, see :class:`ShareSampler`.
    """
    check_count('batch_size', batch_size, 1)
    check_workers('num_workers', num_workers)
    size: int = len(dataset)  # type: ignore[arg-type]
    sampler = ShareSampler(size, dist.get_rank(), dist.get_world_size(), equal_shares)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=default_collate,
        generator=torch.Generator(),
    )


def check_labeled(dataset: Any, name: str) -> tuple[str, ...] | None:
    """Finds the class names of a data set, and refuses one that has no labels or no images.

    Args:
        dataset: a data set of mmengine's kind, or a ``Subset`` of one.
        name: of the data set, for messages.

    Returns:
        The class names, or None if the data set has labels but no class names.

    Raises:
        UsageError: no images, or no labels.
    """
    if len(dataset) == 0:
        raise UsageError(f'the {name} has no images.')
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    if isinstance(dataset, ListedDataset) and dataset.get_data_info(0).get('gt_label') is None:
        raise UsageError(
            f'the {name} has no labels, and k-NN needs them: use a folder with one sub-folder per class, '
            'or leave k-NN out.'
        )
    classes = metainfo_of(dataset).get('classes')
    return tuple(str(word) for word in classes) if classes else None


@overload
def extract_features(
    encode: Encoder,
    loader: DataLoader,
    device: torch.device | str,
    preprocess: Callable[[dict], Any],
    description: str,
    progress: bool = True,
    on_batch: Callable[[dict], object] | None = None,
) -> FeatureBank: ...


@overload
def extract_features(
    encode: Mapping[str, Encoder],
    loader: DataLoader,
    device: torch.device | str,
    preprocess: Callable[[dict], Any],
    description: str,
    progress: bool = True,
    on_batch: Callable[[dict], object] | None = None,
) -> dict[str, FeatureBank]: ...


def extract_features(
    encode: Encoder | Mapping[str, Encoder],
    loader: DataLoader,
    device: torch.device | str,
    preprocess: Callable[[dict], Any],
    description: str,
    progress: bool = True,
    on_batch: Callable[[dict], object] | None = None,
) -> FeatureBank | dict[str, FeatureBank]:
    """Computes the features of every image of a data set, once, and returns them in file order on every rank.

    Gradients are off; encoders that are modules run in evaluation mode, and their mode is restored afterwards.
    (``no_grad`` rather than ``inference_mode``: tensors that a network caches, such as a window mask, have to be
    usable in the next training step.)

    Args:
        encode: maps images (B, 3, H, W) to features (B, D); or several by name, which share one pass over the images.
        loader: batches ``{'inputs', 'data_samples'}`` of this rank's share, in a fixed order
            (see :func:`feature_loader`). Images that a padding sampler gives to two ranks count once.
        device: the device of the encoders.
        preprocess: maps a batch to normalized images, or to a dict that holds them under ``'inputs'``, as the data
            preprocessors of mmengine do.
        description: for the progress line.
        progress: show progress, on rank 0 only.
        on_batch: called with every finished batch of this rank.

    Returns:
        Features and labels on the CPU, in float32 and int64; or a dict of these with the names of ``encode``.

    Raises:
        UsageError: the data set is empty or unlabeled, or its sampler shuffles.
    """
    encoders = dict(encode) if isinstance(encode, Mapping) else {'': encode}
    classes = check_labeled(loader.dataset, f'data set of "{description}"')
    own = _share_of(loader)
    rows: dict[str, list[Tensor]] = {name: [] for name in encoders}
    labels: list[Tensor] = []
    replaced: list[str] = []
    with torch.no_grad(), contextlib.ExitStack() as modes:
        modes.enter_context(evaluation_mode(*(part for part in encoders.values() if isinstance(part, nn.Module))))
        shown = progress and dist.is_main_process()
        for batch in track(loader, len(loader), description, enabled=shown):
            labels.append(_labels_of(batch['data_samples'], description))
            replaced += replaced_in(batch)
            prepared = preprocess(batch)
            images = (prepared['inputs'] if isinstance(prepared, Mapping) else prepared).to(device)
            for name, encoder in encoders.items():
                rows[name].append(encoder(images).float().cpu())
            if on_batch is not None:
                on_batch(batch)

    log_replaced(replaced, description)
    size = len(loader.dataset)  # type: ignore[arg-type]
    all_labels = in_file_order(torch.cat(labels) if labels else torch.empty(0, dtype=torch.int64), own, size, device)
    names = classes or tuple(str(index) for index in range(int(all_labels.max()) + 1))
    if all_labels.min() < 0 or all_labels.max() >= len(names):
        raise UsageError(
            f'the data set of "{description}" has labels from {int(all_labels.min())} to {int(all_labels.max())}, '
            f'but names {len(names)} classes.'
        )
    banks = {}
    for name in encoders:
        # A rank without images (more ranks than images) still has to take part, with zero rows of the right width.
        width = max(dist.all_gather_object(rows[name][0].shape[1] if rows[name] else 0))
        features = torch.cat(rows.pop(name)) if rows[name] else torch.empty(0, width)
        banks[name] = FeatureBank(in_file_order(features, own, size, device), all_labels, names)
    return banks if isinstance(encode, Mapping) else banks['']


def _share_of(loader: DataLoader) -> Tensor:
    """The indices of this rank's images, in the order of the loader."""
    indices = torch.tensor(list(loader.sampler), dtype=torch.int64)
    shuffles = getattr(loader.sampler, 'shuffle', False)  # samplers of all packages call it so, without a common class
    if list(loader.sampler) != indices.tolist() or shuffles or loader.drop_last:
        raise UsageError(
            f'features need a loader that keeps the order and every image, but {type(loader.sampler).__name__} '
            'shuffles, or the loader drops some; build it with mstkit.evaluation.feature_loader.'
        )
    return indices


def _labels_of(data_samples: Any, description: str) -> Tensor:
    """The class index of each sample of a batch, (B,) int64."""
    # An unlabeled sample has no such attribute.
    labels = [getattr(sample, 'gt_label', None) for sample in data_samples]
    if any(label is None or torch.as_tensor(label).numel() != 1 for label in labels):
        raise UsageError(
            f'images of "{description}" have no label, or more than one; k-NN needs exactly one class per image.'
        )
    return torch.stack([torch.as_tensor(label).reshape(()).to(torch.int64) for label in labels])


def log_replaced(own: list[str], description: str) -> None:
    """Logs the files, over all ranks, that could not be read and were replaced; ``own`` are those of this rank."""
    paths = sorted({path for part in dist.all_gather_object(own) for path in part})
    if paths:
        more = f' and {len(paths) - 5} more' if len(paths) > 5 else ''
        print_log(
            f'{description}: {len(paths)} unreadable images were replaced by others: {", ".join(paths[:5])}{more}',
            logger='current',
            level=logging.WARNING,
        )
