"""Files of features: NumPy's npz, and Parquet for pandas, polars and databases."""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from mstkit.embedding.part_files import Part
from mstkit.errors import UsageError
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import output_file

NPZ, PARQUET = '.npz', '.parquet'
ABOUT = 'mstkit'  # the key of the metadata in a Parquet file


class Contents(NamedTuple):
    """What a file holds besides the features.

    Attributes:
        names: of all listed images.
        labels: (images,) int64, or empty.
        classes: names of the labels, or empty.
        shape: of the features of one image.
        images: how many could be read.
        about: of which network they are, as JSON data.
    """

    names: Sequence[str]
    labels: np.ndarray
    classes: Sequence[str]
    shape: tuple[int, ...]
    images: int
    about: dict[str, Any]


def check_out(path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Checks the file that features will be written to, before any work.

    Raises:
        UsageError: it cannot be written, has another ending than .npz and .parquet, is there already, or needs a
            package that is not installed.
    """
    out = output_file('--out', path)
    if out.suffix not in (NPZ, PARQUET):
        raise UsageError(f'--out {out}: features are written as {NPZ} or {PARQUET}; give such a name.')
    if out.exists() and not overwrite:
        raise UsageError(f'--out {out} is there already: give another name, or --overwrite.')
    if out.suffix == PARQUET and importlib.util.find_spec('pyarrow') is None:
        raise UsageError(f'--out {out} needs pyarrow: pip install "mstkit[parquet]", or give a name in {NPZ}.')
    return out


def write_features(out: Path, parts: Callable[[], Iterable[Part]], contents: Contents) -> None:
    """Writes a file atomically, with one part of the features in memory at a time.

    Args:
        out: the file; its ending says in which format.
        parts: gives the parts, from the first on.
        contents: everything else.
    """
    write = _write_npz if out.suffix == NPZ else _write_parquet
    size = contents.images * int(np.prod(contents.shape)) * 4
    write_atomically(out, lambda file: write(file, parts, contents), size)


def _write_npz(file: BinaryIO, parts: Callable[[], Iterable[Part]], contents: Contents) -> None:
    read = np.concatenate([part.indices for part in parts()])
    arrays: dict[str, np.ndarray] = {'names': np.array([contents.names[index] for index in read], dtype=str)}
    if len(contents.classes):
        arrays |= {'labels': contents.labels[read], 'classes': np.array(contents.classes, dtype=str)}
    arrays['about'] = np.array(json.dumps(contents.about))
    with zipfile.ZipFile(file, 'w', allowZip64=True) as archive:
        with archive.open('features.npy', 'w', force_zip64=True) as entry:
            shape = (contents.images, *contents.shape)
            header = dict(descr=np.dtype(np.float32).str, fortran_order=False, shape=shape)
            np.lib.format.write_array_header_1_0(entry, header)
            for part in parts():
                entry.write(np.ascontiguousarray(part.features, dtype=np.float32).data)
        for name, array in arrays.items():
            with archive.open(f'{name}.npy', 'w', force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _write_parquet(file: BinaryIO, parts: Callable[[], Iterable[Part]], contents: Contents) -> None:
    # imported here: an optional package, of those alone who write this format
    import pyarrow
    from pyarrow import parquet

    width = int(np.prod(contents.shape))
    fields = [pyarrow.field('name', pyarrow.string())]
    if len(contents.classes):
        fields += [pyarrow.field('label', pyarrow.int64()), pyarrow.field('class', pyarrow.string())]
    fields.append(pyarrow.field('features', pyarrow.list_(pyarrow.float32(), width)))
    about = {ABOUT: json.dumps({**contents.about, 'shape': contents.shape})}
    with parquet.ParquetWriter(file, pyarrow.schema(fields, metadata=about)) as writer:
        for part in parts():
            if not len(part.indices):
                continue
            # Text of Parquet is UTF-8, which a file's name need not be.
            names = [contents.names[index].encode('utf-8', 'backslashreplace').decode() for index in part.indices]
            columns: list[Any] = [names]
            if len(contents.classes):
                labels = contents.labels[part.indices]
                columns += [labels, [contents.classes[label] for label in labels]]
            flat = pyarrow.array(np.ascontiguousarray(part.features, dtype=np.float32).reshape(-1))
            arrays = [pyarrow.array(column, field.type) for column, field in zip(columns, fields, strict=False)]
            arrays.append(pyarrow.FixedSizeListArray.from_arrays(flat, width))
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=writer.schema))
