"""A cache of features on disk, which continues interrupted extractions and is keyed by weights, files and settings."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from mmengine import dist
from mmengine.logging import print_log
from torch.utils.data import DataLoader, Dataset, Subset

from mstkit.datasets.unreadable_images import replaced_in
from mstkit.errors import UsageError
from mstkit.evaluation.features import (
    Encoder,
    check_labeled,
    extract_features,
    feature_loader,
    log_replaced,
)
from mstkit.structures import FeatureBank
from mstkit.utils.files import write_atomically
from mstkit.utils.progress_bar import track

CHUNK = 4096
DTYPE = 'float32'
FORMAT = 1  # to be increased when a change of the code changes features
FEATURES, LABELS, ENTRY = 'features.npy', 'labels.npy', 'entry.json'

T = TypeVar('T')


class FeatureCache:
    """A folder of features; it, or any folder in it, may be deleted while no process writes there.

    An entry is a sub-folder named by a hash. It holds ``labels.npy`` (M,), ``entry.json``, which describes the
    features, and ``features.npy`` (M, D), which is written last. Until then each finished chunk of images has its own
    file, so that an interrupted extraction continues after the last chunk.

    Args:
        folder: created if missing; it has to be the same for all processes.
        chunk: images per file of an unfinished entry, over all ranks.

    Raises:
        UsageError: the folder cannot be created or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], chunk: int = CHUNK) -> None:
        self.folder = Path(folder)
        self.chunk = chunk
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f'the feature cache {folder} cannot be created: {error.strerror}.') from error
        if not os.access(self.folder, os.W_OK):
            raise UsageError(f'the feature cache {folder} cannot be written to: give another folder.')

    def bank(
        self,
        identity: Mapping[str, Any],
        encode: Encoder,
        dataset: Dataset,
        device: torch.device | str,
        preprocess: Callable[[dict], Any],
        description: str,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> FeatureBank:
        """Reads the features of a data set; those that are missing are computed by :func:`extract_features`.

        Args:
            identity: everything that determines the features (weights, kind of feature, transform, files), as JSON
                data. An entry is used only for an equal identity.
            encode, device, preprocess, description: as for :func:`extract_features`.
            dataset: labeled images with class names.
            batch_size, num_workers: as for :func:`feature_loader`.

        Returns:
            Features and labels on the CPU. The features are memory-mapped, so that only parts in use are read;
            changing them does not change the file.

        Raises:
            UsageError: the data set is empty or unlabeled, or the entry is damaged.
        """
        classes = check_labeled(dataset, f'data set of "{description}"')
        if classes is None:
            raise UsageError(f'the data set of "{description}" does not name its classes.')
        entry = self.folder / key_of(identity)
        found = _from_rank_zero((entry / FEATURES).is_file())
        if not found:
            parts = {entry / f'{rows.start:010d}-{rows.stop:010d}.npz': rows for rows in self._chunks(dataset)}
            missing = _from_rank_zero([path for path in parts if not path.is_file()])
            loaders = {path: feature_loader(Subset(dataset, parts[path]), batch_size, num_workers) for path in missing}
            if len(missing) < len(parts):
                done = sum(len(rows) for path, rows in parts.items() if path not in loaders)
                print_log(f'{description}: continuing after {done} images.', logger='current')
            _extract(loaders, encode, device, preprocess, description)
            if dist.is_main_process():
                about = {**identity, 'description': description, 'images': sum(map(len, parts.values()))}
                _join(entry, list(parts), about)
            dist.barrier()
        return _read(entry, classes, description, say=found)

    def _chunks(self, dataset: Dataset) -> list[range]:
        size = len(dataset)  # type: ignore[arg-type]
        return [range(start, min(start + self.chunk, size)) for start in range(0, size, self.chunk)]


def key_of(identity: Mapping[str, Any]) -> str:
    """The name of an entry: 40 hex digits, a hash of the identity."""
    text = json.dumps({**identity, 'dtype': DTYPE, 'format': FORMAT}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def digest_of_files(root: str | os.PathLike[str], paths: Iterable[str]) -> str:
    """A hex digest of a list of files: their order, paths below ``root``, sizes and modification times.

    Missing files count too, without size and time.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = os.stat(path)
            state = [status.st_size, status.st_mtime_ns]
        except OSError:
            state = []
        digest.update(json.dumps([os.path.relpath(path, root), *state]).encode() + b'\n')
    return digest.hexdigest()


def _from_rank_zero(value: T) -> T:
    """Returns rank 0's value on every rank."""
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def _extract(
    loaders: Mapping[Path, DataLoader],
    encode: Encoder,
    device: torch.device | str,
    preprocess: Callable[[dict], Any],
    description: str,
) -> None:
    """Computes the features of all chunks, and writes each to its file; one progress bar for all."""
    batches = sum(map(len, loaders.values()))
    bar: Any = track(range(batches), batches, description, enabled=dist.is_main_process())
    replaced: list[str] = []

    def note(batch: dict) -> None:
        next(bar, None)
        replaced.extend(replaced_in(batch))

    try:
        for path, loader in loaders.items():
            replaced.clear()
            bank = extract_features(encode, loader, device, preprocess, description, progress=False, on_batch=note)
            everywhere = sorted({name for own in dist.all_gather_object(replaced) for name in own})
            if dist.is_main_process():
                _write_part(path, bank, everywhere)
    finally:
        bar.close()


def _write_part(path: Path, bank: FeatureBank, replaced: list[str]) -> None:
    features, labels, names = bank.features.numpy(), bank.labels.numpy(), np.array(replaced, dtype=str)
    write_atomically(path, lambda file: np.savez(file, features=features, labels=labels, replaced=names))


def _join(entry: Path, parts: list[Path], about: dict[str, Any]) -> None:
    """Joins the files of the chunks to the files of the entry, one chunk in memory at a time, and removes them."""
    try:
        labels, replaced, width = [], set(), 0
        for path in parts:
            with np.load(path) as part:
                labels.append(part['labels'])
                replaced |= set(part['replaced'].tolist())
                width = part['features'].shape[1]

        def write(file: BinaryIO) -> None:
            shape = (sum(map(len, labels)), width)
            header = dict(descr=np.dtype(DTYPE).str, fortran_order=False, shape=shape)
            np.lib.format.write_array_header_1_0(file, header)
            for path in parts:
                with np.load(path) as part:
                    file.write(part['features'].astype(DTYPE).tobytes())

        write_atomically(entry / LABELS, lambda file: np.save(file, np.concatenate(labels)))
        about = {**about, 'replaced': sorted(replaced)}
        write_atomically(entry / ENTRY, (json.dumps(about, indent=2) + '\n').encode())
        write_atomically(entry / FEATURES, write)
    except FileNotFoundError:
        if not (entry / FEATURES).is_file():  # else another run has finished the same entry
            raise
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise _damaged(entry, error) from error
    for path in parts:
        path.unlink(missing_ok=True)


def _read(entry: Path, classes: tuple[str, ...], description: str, say: bool) -> FeatureBank:
    """Opens a finished entry; ``say`` logs the images that could not be read when it was made."""
    try:
        # 'c', copy on write: torch has no read-only tensors and warns about read-only arrays.
        features = torch.from_numpy(np.load(entry / FEATURES, mmap_mode='c'))
        labels = torch.from_numpy(np.load(entry / LABELS))
        about = json.loads((entry / ENTRY).read_text(encoding='utf-8'))
        if len(features) != len(labels) or len(labels) != about['images']:
            raise ValueError(f'{len(features)} features, {len(labels)} labels, {about["images"]} images')
    except (ValueError, KeyError, EOFError, OSError) as error:
        raise _damaged(entry, error) from error
    if say:
        log_replaced(about['replaced'], description)
    return FeatureBank(features, labels, classes)


def _damaged(entry: Path, error: Exception) -> UsageError:
    return UsageError(f'the cached features in {entry} cannot be read ({error}): remove that folder.')
