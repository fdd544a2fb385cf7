"""Retrieval on the revisited Oxford and Paris buildings (Radenovic et al., arXiv 1803.11285)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.nn import functional

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks.plain_pickle import read_plain_pickle
from mstkit.evaluation.protocols.average_precision import (
    DEFAULT_RANKS,
    check_ranks,
    log_left_out,
    precision_at,
    trapezoid_average_precision,
)

# For each protocol: grades that are relevant, and grades that are removed from the ranking. All other images are wrong.
PROTOCOLS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    'easy': (('easy',), ('hard', 'junk')),
    'medium': (('easy', 'hard'), ('junk',)),
    'hard': (('hard',), ('easy', 'junk')),
}
_GRADES = ('easy', 'hard', 'junk')
_KEYS = ('imlist', 'qimlist', 'gnd')


class GroundTruth(NamedTuple):
    """The ground truth of a gallery and its queries.

    Attributes:
        images: names of the gallery's images, without folder and suffix.
        queries: names of the query images.
        boxes: for each query the building's (left, top, right, bottom) in pixels; None if the file has none.
        grades: for each query the indices into ``images`` that are ``'easy'``, ``'hard'`` and ``'junk'``.
    """

    images: tuple[str, ...]
    queries: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float] | None, ...]
    grades: tuple[dict[str, tuple[int, ...]], ...]


def read_ground_truth(path: str | os.PathLike[str]) -> GroundTruth:
    """Reads the official ``gnd_roxford5k.pkl`` or ``gnd_rparis6k.pkl``, or JSON with the same keys.

    The keys: ``imlist`` and ``qimlist`` are lists of names; ``gnd`` has one dict for each query with the lists of
    indices ``easy``, ``hard`` and ``junk`` and the box ``bbx``. No code in the file is executed.

    Args:
        path: a file that ends in ``.json``, or a pickle.

    Raises:
        UsageError: the file cannot be read, or is not such a ground truth.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f'the ground truth {path} does not exist: give gnd_roxford5k.pkl or gnd_rparis6k.pkl.')
    if path.suffix.lower() == '.json':
        try:
            data = json.loads(path.read_text(encoding='utf-8-sig'))
        except ValueError as error:
            raise UsageError(f'the ground truth {path} is no JSON ({error}): write it again.') from error
    else:
        data = read_plain_pickle(path)
    try:
        return _checked(data)
    except _Wrong as error:
        raise UsageError(
            f'{path} is no ground truth of revisited Oxford or Paris: {error}. Give gnd_roxford5k.pkl, '
            'gnd_rparis6k.pkl, or JSON with the keys imlist, qimlist and gnd.'
        ) from None


@torch.no_grad()
def revisited_scores(
    queries: Tensor, gallery: Tensor, truth: GroundTruth, ranks: Sequence[int] = DEFAULT_RANKS
) -> dict[str, float]:
    """Ranks the gallery for each query by cosine and compares with the ground truth.

    Args:
        queries: (Q, D) features.
        gallery: (M, D) features.
        truth: of these queries and images.
        ranks: the k of mP@k.

    Returns:
        Percent by ``{protocol}_mAP`` and ``{protocol}_mP@{k}``, for the protocols ``easy``, ``medium`` and ``hard``:
        means over the queries that have a relevant image. A protocol without such a query is left out, which is logged.

    Raises:
        UsageError: features that are not finite.
    """
    check_ranks(ranks)
    for name, features, count in (('queries', queries, len(truth.queries)), ('gallery', gallery, len(truth.images))):
        if len(features) != count:
            raise ValueError(f'{len(features)} features of {name} for {count} of the ground truth')
        if not bool(torch.isfinite(features).all()):
            raise UsageError(f'features of the {name} are not finite: the weights are broken (diverged, or damaged).')
    cosine = functional.normalize(queries.float(), dim=1) @ functional.normalize(gallery.float(), dim=1).T
    order = cosine.argsort(dim=1, descending=True, stable=True).cpu()
    scores: dict[str, float] = {}
    for protocol in PROTOCOLS:
        rows = [_query_scores(order[i], grades, protocol, ranks) for i, grades in enumerate(truth.grades)]
        values = torch.stack(rows)
        usable = ~values[:, 0].isnan()
        if not usable.any():
            print_log(f'retrieval: no query has a relevant image in the protocol {protocol}.', 'current')
            continue
        log_left_out(int(usable.sum()), len(usable), f'retrieval, protocol {protocol}')
        names = [f'{protocol}_mAP', *(f'{protocol}_mP@{k}' for k in ranks)]
        scores.update(zip(names, (100 * values[usable].mean(dim=0)).tolist(), strict=True))
    return scores


def _query_scores(order: Tensor, grades: Mapping[str, Sequence[int]], protocol: str, ranks: Sequence[int]) -> Tensor:
    """AP and P@k, (1 + len(ranks),), of one ranking of indices (M,); NaN without relevant images."""
    relevant, left_out = (torch.zeros(len(order), dtype=torch.bool) for _ in range(2))
    for flags, names in zip((relevant, left_out), PROTOCOLS[protocol], strict=True):
        for name in names:
            flags[list(grades[name])] = True
    # Images that are left out are removed from the ranking, so that those below move up.
    hits = relevant[order[~left_out[order]]][None]
    return torch.cat([trapezoid_average_precision(hits), *(precision_at(hits, k) for k in ranks)])


class _Wrong(Exception):
    """An error in a ground truth; the message is a clause."""


def _checked(data: Any) -> GroundTruth:
    if not isinstance(data, dict) or any(key not in data for key in _KEYS):
        held = f'a dict with {", ".join(map(str, list(data)[:5]))}' if isinstance(data, dict) else type(data).__name__
        raise _Wrong(f'it holds {held}, not a dict with {", ".join(_KEYS)}')
    for key in ('imlist', 'qimlist'):
        if not isinstance(data[key], list) or not data[key] or not all(isinstance(name, str) for name in data[key]):
            raise _Wrong(f'{key} is no list of names')
    images, queries, entries = data['imlist'], data['qimlist'], data['gnd']
    if not isinstance(entries, list) or len(entries) != len(queries):
        count = len(entries) if isinstance(entries, list) else 'no'
        raise _Wrong(f'gnd has {count} entries for {len(queries)} queries')
    boxes, grades = [], []
    for name, entry in zip(queries, entries, strict=True):
        if not isinstance(entry, dict) or any(not isinstance(entry.get(grade), list) for grade in _GRADES):
            raise _Wrong(f'the entry of {name} lacks one of the lists {", ".join(_GRADES)}')
        graded = {grade: tuple(entry[grade]) for grade in _GRADES}
        for index in (index for indices in graded.values() for index in indices):
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(images):
                raise _Wrong(f'the entry of {name} has the index {index!r}, but there are {len(images)} images')
        every = [index for indices in graded.values() for index in indices]
        if len(set(every)) != len(every):
            raise _Wrong(f'the entry of {name} gives an image twice')
        grades.append(graded)
        boxes.append(_box(entry.get('bbx'), name))
    if not any(entry['easy'] or entry['hard'] for entry in grades):
        raise _Wrong('no query has an easy or hard image')
    return GroundTruth(tuple(images), tuple(queries), tuple(boxes), tuple(grades))


def _box(box: Any, name: str) -> tuple[float, float, float, float] | None:
    if box is None:
        return None
    box = box[0] if isinstance(box, list) and len(box) == 1 else box  # a row of a matrix
    numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(side, (int, float)) for side in box)
    if not numbers or not (box[0] < box[2] and box[1] < box[3]):
        raise _Wrong(f'the box of {name} is {box!r}')
    left, top, right, bottom = (float(side) for side in box)
    return left, top, right, bottom


def find_images(folder: str | os.PathLike[str], truth: GroundTruth) -> tuple[list[Path], list[Path]]:
    """Finds the image files of a ground truth, ``FOLDER/jpg/NAME.jpg``.

    Returns:
        The files of the queries and of the gallery.

    Raises:
        UsageError: there is no such folder, or images are missing.
    """
    images = Path(folder) / 'jpg'
    if not images.is_dir():
        raise UsageError(f'there is no folder {images}: give the folder in which jpg/ holds the images.')
    there = {entry.name for entry in os.scandir(images)}
    missing = [name for name in (*truth.queries, *truth.images) if f'{name}.jpg' not in there]
    if missing:
        raise UsageError(
            f'{len(missing)} of the {len(truth.queries) + len(truth.images)} images that the ground truth names are '
            f'not in {images}, the first is {missing[0]}.jpg: give the ground truth of these images, or unpack '
            'all of them.'
        )
    queries, gallery = ([images / f'{name}.jpg' for name in names] for names in (truth.queries, truth.images))
    return queries, gallery
