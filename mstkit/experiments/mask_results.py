"""What was measured of the masks of one method, and the file that keeps it apart from checkpoints and folders."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mstkit.errors import UsageError
from mstkit.evaluation.image_hits import ImageHits
from mstkit.utils.files import write_atomically

FORMAT = 1
SUFFIX = '_hits.json'  # of the files, whose names begin as those of the page


class TrainedCell(NamedTuple):
    """What a finished training says besides its accuracies.

    Attributes:
        hidden: the share of hidden patches, mean over the run; None if unknown.
        seconds: wall time of the training; None if unknown.
    """

    hidden: float | None
    seconds: float | None


@dataclass(frozen=True)
class MaskResults:
    """What was measured of the masks of one method.

    Attributes:
        config: the name of the config.
        networks: the names of the choices, in order, and of random weights.
        twins: the name of the random choice that hides as many patches, by choice.
        settings: digests of what decides a result but the seed and the place of the images, by network and by
            measurement; results are comparable where they agree.
        hits: which validation images are right, by (measurement, network, seed).
        trained: the trainings that are finished, by (network, seed).
        method: the name of the config where several are compared; else empty.
    """

    config: str
    networks: tuple[str, ...]
    twins: Mapping[str, str]
    settings: Mapping[str, str]
    hits: Mapping[tuple[str, str, int], ImageHits]
    trained: Mapping[tuple[str, int], TrainedCell]
    method: str = ''

    @property
    def measures(self) -> list[str]:
        """The names of the measurements, in order."""
        return list(dict.fromkeys(measure for measure, _, _ in self.hits))

    @property
    def seeds(self) -> list[int]:
        """The seeds of which anything is measured, in order."""
        return list(dict.fromkeys(seed for _, _, seed in self.hits))

    def accuracies(self, network: str, measure: str) -> dict[int, float]:
        """Accuracy in percent by seed; of what is finished."""
        return {seed: found.accuracy for (m, n, seed), found in self.hits.items() if (m, n) == (measure, network)}

    def cells(self, network: str) -> list[TrainedCell]:
        """The finished trainings of a choice, one per seed."""
        return [cell for (name, _), cell in self.trained.items() if name == network]


def write_results(path: Path, results: MaskResults) -> None:
    """Writes a file of results, atomically, in JSON; it holds no paths, so that it can be handed on.

    ``right`` holds a bit for each image of ``images``, the first in the highest bit of the first byte, as base64.

    Raises:
        UsageError: two measurements are of other validation images.
    """
    lists = {found.images for found in results.hits.values()}
    if len(lists) > 1:
        raise UsageError(f'{path}: the measurements are of different validation images; measure again.')
    networks: dict[str, Any] = {name: {} for name in results.networks}
    for (name, seed), cell in results.trained.items():
        networks[name].setdefault(str(seed), {}).update(cell._asdict())
    for (measure, name, seed), found in results.hits.items():
        right = base64.b64encode(np.packbits(found.hits).tobytes()).decode()
        networks[name].setdefault(str(seed), {}).setdefault('right', {})[measure] = right
    content = dict(
        format=FORMAT,
        config=results.config,
        twins=dict(results.twins),
        settings=dict(results.settings),
        metrics={measure: found.metric for (measure, _, _), found in results.hits.items()},
        networks=networks,
        images=list(next(iter(lists), ())),
    )
    write_atomically(path, (json.dumps(content, indent=1, ensure_ascii=False) + '\n').encode())


def read_results(path: Path) -> MaskResults:
    """Reads a file of :func:`write_results`.

    Raises:
        UsageError: it is missing, damaged, or of a later version.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        if content['format'] != FORMAT:
            raise ValueError(f'format {content["format"]!r}, where {FORMAT} is known')
        images, metrics = tuple(map(str, content['images'])), content['metrics']
        hits, trained = {}, {}
        for name, seeds in content['networks'].items():
            for seed, cell in seeds.items():
                if 'seconds' in cell:
                    trained[name, int(seed)] = TrainedCell(_number(cell['hidden']), _number(cell['seconds']))
                for measure, right in cell.get('right', {}).items():
                    bits = np.frombuffer(base64.b64decode(right, validate=True), dtype=np.uint8)
                    if len(bits) != -(-len(images) // 8):
                        raise ValueError(f'{len(bits)} bytes for {len(images)} images')
                    found = np.unpackbits(bits, count=len(images)).astype(bool)
                    hits[measure, name, int(seed)] = ImageHits(images, found, str(metrics[measure]))
        twins, settings = ({str(k): str(v) for k, v in content[key].items()} for key in ('twins', 'settings'))
        return MaskResults(str(content['config']), tuple(content['networks']), twins, settings, hits, trained)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise UsageError(f'{path} is no file of results of masks ({type(error).__name__}: {error}).') from error


def join_results(files: Mapping[str, MaskResults]) -> list[MaskResults]:
    """Joins the results of several files, such as those of other seeds on other machines; one for each config.

    Args:
        files: results by the name of their file.

    Raises:
        UsageError: two files disagree on what they have in common: settings, twins, images, or a result.
    """
    groups: dict[str, dict[str, MaskResults]] = {}
    for file, results in files.items():
        groups.setdefault(results.config, {})[file] = results
    several = len(groups) > 1
    return [_join(group, config, config if several else '') for config, group in groups.items()]


def _join(files: Mapping[str, MaskResults], config: str, method: str) -> MaskResults:
    owners: dict[tuple[str, ...], str] = {}
    known: dict[tuple[str, ...], Any] = {}

    def agree(file: str, what: tuple[str, ...], value: Any) -> None:
        if known.setdefault(what, value) != value:
            raise UsageError(
                f'{owners[what]} and {file} do not belong together: {" ".join(what)} is not the same in both.'
            )
        owners.setdefault(what, file)

    for file, results in files.items():
        for name, digest in results.settings.items():
            agree(file, ('what', name, 'was made with'), digest)
        for choice, twin in results.twins.items():
            agree(file, ('the twin of', choice), twin)
        for (measure, network, seed), found in results.hits.items():
            agree(file, ('the list of validation images',), found.images)
            agree(file, ('the metric of', measure), found.metric)
            agree(file, (measure, 'of', network, 'with seed', str(seed)), found.hits.tobytes())
    every = list(files.values())
    return MaskResults(
        config,
        tuple(dict.fromkeys(name for results in every for name in results.networks)),
        _merged([results.twins for results in every]),
        _merged([results.settings for results in every]),
        dict(sorted(_merged([results.hits for results in every]).items(), key=lambda item: item[0][2])),
        _merged([results.trained for results in every]),
        method,
    )


def _merged(parts: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
    return {key: value for part in parts for key, value in part.items()}


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
