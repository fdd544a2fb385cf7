"""A fingerprint of a data set, by which a resumed run finds out whether its images are the same."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset, ConcatDataset

from mstkit.datasets import ShardDataset
from mstkit.datasets.dataset_interface import WrappingDataset

# Of a larger data set, only this many evenly spaced names are hashed: adding or removing a file shifts all later ones.
_NAMES = 1 << 14


def fingerprint(dataset: Any) -> dict[str, Any]:
    """The number of samples in a data set, and a hash of their names in order.

    Names are paths relative to the folder that all of them share, so that a data set may be moved. Image labels are
    hashed too. Files are not opened.

    Args:
        dataset: the data set of a data loader.

    Returns:
        ``count``, and ``names``, which is None if the samples of the data set have no names.
    """
    names = _names(dataset)
    if names is None:
        return dict(count=len(dataset), names=None)
    paths = [name for name, _ in names if os.path.isabs(name) or os.sep in name]
    shared = os.path.commonpath(paths) if len({os.path.isabs(path) for path in paths}) == 1 else ''
    if shared in paths:
        shared = os.path.dirname(shared)
    digest = hashlib.sha256()
    for name, rest in names:
        inside = os.path.relpath(name, shared) if shared and name.startswith(shared) else name
        digest.update(f'{inside}\0{rest}\n'.encode(errors='surrogateescape'))
    return dict(count=len(dataset), names=digest.hexdigest()[:32])


def _names(dataset: Any) -> list[tuple[str, str]] | None:
    """(name, label as text) of evenly spaced samples of a data set; None if they have no names."""
    if isinstance(dataset, ShardDataset):
        return [(name, '') for name in dataset.sample_names()]
    if isinstance(dataset, ConcatDataset):
        parts = [_names(part) for part in dataset.datasets]
        return [name for part in parts for name in part or ()] if all(part is not None for part in parts) else None
    if not isinstance(dataset, BaseDataset):
        return _names(dataset.dataset) if isinstance(dataset, WrappingDataset) else None
    dataset.full_init()
    return [_name(dataset, int(index)) for index in _spread(len(dataset))]


def _name(dataset: BaseDataset, index: int) -> tuple[str, str]:
    info = BaseDataset.get_data_info(dataset, index)  # a subclass's get_data_info may read the image
    path = info.get('img_path') or info.get('filename')
    label = info.get('gt_label')
    rest = np.asarray(label).tolist() if label is not None else ''
    if path is not None:
        return os.fspath(path), str(rest)
    numbering = ('sample_idx', 'row')  # indices, which do not identify the sample
    known = {key: value for key, value in info.items() if isinstance(value, int | str) and key not in numbering}
    return str(sorted(known.items())), ''


def _spread(size: int) -> np.ndarray:
    return np.unique(np.linspace(0, max(size - 1, 0), min(size, _NAMES)).round().astype(int))
