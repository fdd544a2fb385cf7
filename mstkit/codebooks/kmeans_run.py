"""A tokenizer by k-means, from a folder of images to a file; a killed run goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mstkit.codebooks.code_statistics import CodeStatistics, code_statistics
from mstkit.codebooks.feature_sources import KeptNetwork, whiten
from mstkit.codebooks.image_batches import ImageSet
from mstkit.codebooks.patch_collection import Collection, collect, cut_patches, nearest_rows
from mstkit.codebooks.run_state import RunState
from mstkit.codebooks.spherical_kmeans import SphericalKMeans
from mstkit.errors import UsageError
from mstkit.models.tokenizers import PatchFeatures, RawPatches, TokenizerFile, nearest_codes, write_tokenizer
from mstkit.utils.checks import check_count
from mstkit.utils.progress_bar import track


@dataclass(frozen=True)
class KMeansSettings:
    """How a codebook is made by k-means.

    Attributes:
        codes: K.
        patches: about how many patches it is made of.
        steps: at most so many steps, each over all patches, or passes over them where they are more than a batch.
        init: see :class:`SphericalKMeans`.
        batch: likewise.
        seed: of all that is random.
    """

    codes: int
    patches: int = 200_000
    steps: int = 50
    init: Literal['k-means++', 'random'] = 'k-means++'
    batch: int = 1 << 18
    seed: int = 0

    def __post_init__(self) -> None:
        check_count('--codes', self.codes, 2, 1 << 16)
        check_count('--patches', self.patches, 2)
        check_count('--steps', self.steps, 1)
        check_count('--batch', self.batch, 1)
        check_count('--seed', self.seed, 0, 2**31)


class Trained(NamedTuple):
    """What came of a training.

    Attributes:
        statistics: of the codes among the patches that they were made of.
        restarted: how often a dead code was started again.
        steps: that were done.
        rows: (C, E, 3, s, s) uint8, for some codes the patches nearest to each, with what is around them.
        chosen: those codes, by how often they occur.
        counts: (K,), how often each code occurs.
    """

    statistics: CodeStatistics
    restarted: int
    steps: int
    rows: Tensor
    chosen: list[int]
    counts: Tensor


def train_kmeans(
    out: str | os.PathLike[str],
    source: KeptNetwork | RawPatches,
    images: ImageSet,
    settings: KMeansSettings,
    origin: dict[str, Any],
    device: torch.device | str = 'cpu',
    workers: int = 0,
    batch_size: int = 32,
    shown: tuple[int, int] = (16, 8),
    pause: float = 5.0,
    say: Callable[[str], object] = print,
) -> Trained:
    """Makes the codebook and writes the tokenizer.

    Args:
        out: the file.
        source: what makes the features.
        images: of which the patches are.
        settings: of k-means.
        origin: plain values that say where network and images come from; they are kept in the file, and a state of a
            run with others is not resumed.
        device: where features and distances are computed.
        workers: processes that read images.
        batch_size: images that go through the network at once.
        shown: of how many codes how many patches are given back.
        pause: seconds between two states of the run.
        say: is told in words what is being done.

    Raises:
        UsageError: fewer patches than codes, features that are not finite, or a state of another run.
    """
    state = RunState(out, {**asdict(settings), **origin, 'images': len(images)}, pause)
    features, kind, kept = (
        (source, 'PatchTokenizer', None)
        if isinstance(source, RawPatches)
        else (source.source, 'KMeansTokenizer', source.settings)
    )
    features.to(device)
    grid = features.grid
    length = grid[0] * grid[1]
    if len(images) * length < settings.codes:
        raise UsageError(
            f'--codes {settings.codes} are more than the {len(images) * length} patches of {len(images)} images: give '
            'fewer codes or more images'
        )
    found = state.load('features')
    if found is None:
        function = (
            (lambda pixels: source.patches(pixels, grid))
            if isinstance(source, RawPatches)
            else (lambda pixels: features(pixels, grid))
        )
        patches = max(settings.patches, settings.codes)
        rows = collect(function, images, length, patches, settings.seed, batch_size, workers, device)
        found = rows._asdict()
        state.save('features', found)
        if images.unreadable.reasons:
            say(f'{len(images.unreadable.reasons)} images cannot be read and are left out: '
                f'{", ".join(list(images.unreadable.reasons)[:3])}')  # fmt: skip
    rows = Collection(**found)
    values = rows.features
    if isinstance(source, RawPatches):
        whiten(source.cpu(), values)
        values = (values - source.mean) @ source.whitening
    if len(values) < settings.codes:
        raise UsageError(f'--codes {settings.codes} are more than the {len(values)} patches that could be read')
    values = F.normalize(values, dim=1)
    clusters = _run(values, settings, state, device, say)
    plain = dict(patch_size=features.patch_size, image_size=features.image_size) if kept is None else kept
    about = {**origin, **asdict(settings), 'images': len(images), 'patches': len(values)}
    about['restarted'] = clusters.restarted
    made = write_codebook(out, kind, plain, features, clusters.centers, values, rows, images, about, shown)
    state.remove()
    return made._replace(steps=clusters.step, restarted=clusters.restarted)


def write_codebook(
    out: str | os.PathLike[str],
    kind: str,
    settings: dict[str, Any],
    source: PatchFeatures,
    centers: Tensor,
    values: Tensor,
    rows: Collection,
    images: ImageSet,
    about: dict[str, Any],
    shown: tuple[int, int],
) -> Trained:
    """Counts codes, cuts examples and writes the file.

    Args:
        out: the file.
        kind: of the tokenizer.
        settings: of what makes the features.
        source: what makes the features.
        centers: (K, D).
        values: (N, D), the features of length 1.
        rows: whose they are.
        images: where they are.
        about: what the file says of itself; counts, usage and perplexity are added.
        shown: of how many codes how many patches are given back.
    """
    ids = nearest_codes(values, centers)
    counts = torch.bincount(ids, minlength=len(centers))
    first = nearest_rows(values, centers, range(len(centers)), 1)[:, 0]
    grid, side = source.grid, source.patch_size
    examples = cut_patches(images, rows.images[first], rows.cells[first], grid, side)
    statistics = code_statistics(counts)
    about = {**about, 'counts': counts, 'used': statistics.used, 'perplexity': statistics.perplexity}
    tensors = {name: one.detach().cpu() for name, one in source.state_dict().items()}
    write_tokenizer(out, TokenizerFile(kind, settings, tensors, centers.cpu(), examples, about))
    chosen = _spread(counts, shown[0])
    near = nearest_rows(values, centers, chosen, shown[1])
    flat = near.flatten()
    seen = cut_patches(images, rows.images[flat], rows.cells[flat], grid, side, context=1)
    return Trained(statistics, 0, 0, seen.unflatten(0, tuple(near.shape)), chosen, counts)


def _run(
    values: Tensor, settings: KMeansSettings, state: RunState, device: torch.device | str, say: Callable[[str], object]
) -> SphericalKMeans:
    """The steps of k-means, from where an earlier run was."""
    before = state.load('state')
    first = None if before is None else before['centers']
    clusters = SphericalKMeans(
        values, settings.codes, settings.seed, settings.init, settings.batch, device, centers=first
    )
    if before is not None:
        clusters.load_state_dict(before)
        say(f'resumed at step {clusters.step}')
    total = settings.steps * clusters.steps_per_pass
    for _ in track(range(clusters.step, total), total - clusters.step, 'k-means'):
        if clusters.at_rest:
            break
        clusters.advance()
        state.save('state', clusters.state_dict(), now=False)
    return clusters


def _spread(counts: Tensor, number: int) -> list[int]:
    """Some codes from the most to the least frequent one of those that occur, evenly spread over that order."""
    order = counts.argsort(descending=True, stable=True)
    order = order[: int((counts > 0).sum())]
    number = min(number, len(order))
    return [int(order[index * len(order) // number]) for index in range(number)]
