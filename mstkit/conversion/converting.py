"""Converts the encoder of a file into another library's format, with every tensor accounted for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mstkit.conversion.conversion_source import Source, find_source
from mstkit.conversion.gate import Difference, compare, trial_images
from mstkit.conversion.libraries import LIBRARIES, ONNX, library_of, opened_by
from mstkit.conversion.library import Features, Library
from mstkit.conversion.own_network import build_ours
from mstkit.errors import DiskError, UsageError, WorkStopped, nearest
from mstkit.formats import Hints
from mstkit.formats.reading import config_of, config_text
from mstkit.utils.files import is_refusal, refusal
from mstkit.utils.home_folder import expanded
from mstkit.utils.output_paths import output_file, output_folder
from mstkit.version import __version__


@dataclass(frozen=True)
class Conversion:
    """What was written, and what it was compared with.

    Attributes:
        path: the file or folder.
        source: what was read.
        library: into whose format.
        read: difference of mstkit's network from the source library's own; None where there is none to compare with.
        written: difference of the target library's network from mstkit's, by the name of the comparison.
        tensors: how many were written.
        notes: what was assumed, added or left out, in sentences.
        how_to_load: Python that loads it.
    """

    path: Path
    source: Source
    library: str
    read: Difference | None
    written: Mapping[str, Difference | float]
    tensors: int
    notes: tuple[str, ...] = field(default=())
    how_to_load: str = ''

    def lines(self) -> list[str]:
        """The report."""
        source = self.source
        found = [
            f'read: {source.words}, {source.kind}: {source.anatomy.words()}',
            f'tensors: {len(source.encoder.state)} of the encoder, all used; left out, of no encoder: '
            f'{", ".join(source.left_out) or "none"}',
        ]
        found += [f'note: {note}' for note in self.notes]
        if self.read is not None:
            found.append(f'compared with the network of {source.library} on the same images: {self.read}')
        for name, difference in self.written.items():
            told = difference if isinstance(difference, Difference) else f'{difference:.1e}'
            found.append(f'compared with {name} on the same images: {told}')
        found.append(f'written: {self.path} ({self.tensors} tensors)')
        return [*found, f'load it with: {self.how_to_load}']


def convert(
    source: str,
    to: str,
    out: str | os.PathLike[str],
    branch: str | None = None,
    kind: str | None = None,
    said: Hints | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Writes the encoder of a file in another format.

    The network of the target library is built, loaded strictly from what was written, and run beside mstkit's on the
    same images; so is that of the library that the file comes from. Nothing is written unless both agree.

    Args:
        source: a file or folder that :func:`mstkit.formats.read_weights` knows, or ``timm:NAME[@FILE]`` or
            ``mmpretrain:NAME[@FILE]``.
        to: a name of :data:`LIBRARIES`, or ``onnx``.
        out: the file or folder to write.
        branch: 'student' or 'teacher' of a file with both; None for the teacher.
        kind: of the file, a name of :data:`mstkit.formats.NAMINGS`; None recognizes it.
        said: what the user says of the network beside the tensors.
        overwrite: replace what is there.

    Raises:
        UsageError: a wrong argument or file, or the library has no such network; nothing is written.
        WorkStopped: the networks give other features, or a tensor is not accounted for; nothing is written.
        DiskError: the disk does not take it.
    """
    known = [*LIBRARIES, ONNX]
    if to not in known:
        raise UsageError(f'--to {to}: there is no such format.{nearest(to, known)} Formats are {", ".join(known)}.')
    path = _checked_out(expanded(out), to, overwrite)
    found = find_source(source, branch, kind, said or Hints())
    ours = build_ours(found.anatomy, found.encoder.state)
    images = trial_images(found.anatomy.image)
    own = LIBRARIES['safetensors']
    with torch.inference_mode():
        expected = own.features(ours, images)
        read, notes = _compare_with_source(found, expected, images)
        if to == ONNX:
            return _to_onnx(path, found, ours, read, notes)
        return _to_library(path, LIBRARIES[to], found, images, expected, read, notes)


def _checked_out(path: Path, to: str, overwrite: bool) -> Path:
    library = LIBRARIES.get(to)
    endings = ('.onnx',) if library is None else library.endings
    is_file = path.suffix in endings
    if not is_file and (library is None or not library.folder):
        raise UsageError(f'--out {path}: --to {to} writes a file whose name ends in {" or ".join(endings)}.')
    if library is not None and library.folder and not is_file and path.suffix in ('.bin', '.onnx', '.zip', '.json'):
        raise UsageError(f'--out {path}: --to {to} writes a folder; give a name without {path.suffix}.')
    if path.exists() and not overwrite:
        raise UsageError(f'--out {path} is there already: give another name, or --overwrite.')
    if overwrite and path.is_dir() and not (path / 'config.json').is_file() and any(path.iterdir()):
        raise UsageError(f'--out {path} is a folder with other things than a converted network: it is not replaced.')
    return output_file('--out', path) if is_file else output_folder('--out', path)


def _compare_with_source(
    found: Source, expected: Features, images: torch.Tensor
) -> tuple[Difference | None, list[str]]:
    notes = list(found.notes)
    if found.network is not None:  # opened by its own config, or timm's or mmpretrain's own
        features = opened_by(found.network.backbone).features(found.network.backbone, images)
        return compare(features, expected, f'the network of {found.words}'), notes
    library = library_of(found.encoder.naming)
    try:
        theirs = library.load(found.encoder.theirs, found.anatomy)
    except UsageError as error:
        return None, [*notes, f'what was read is not compared with the network of {library.words}: {error}']
    return compare(library.features(theirs, images), expected, f'the network of {library.words}'), notes


def _to_library(
    path: Path,
    library: Library,
    found: Source,
    images: torch.Tensor,
    expected: Features,
    read: Difference | None,
    notes: list[str],
) -> Conversion:
    theirs, added = library.state(found.encoder.state, found.anatomy)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f'.{path.name}.', suffix='.partial') as folder:
            partial = Path(folder) / path.name
            library.write(partial, dict(theirs), found.anatomy, found.hints, _meta(found))
            network = _reopened(library, partial, path, found)
            what = f'the network of {library.words} from the written file'
            features = library.features(network, images)
            try:
                difference = compare(features, expected, what)
            except WorkStopped as error:
                raise WorkStopped(f'{error}{_other_norms(network, found.anatomy.eps)}') from error
            del network
            if path.is_dir():  # whose replacement was allowed; it goes with the temporary folder
                path.replace(Path(folder) / 'replaced')
            partial.replace(path)
    except WorkStopped as error:
        text = str(error)
        raise WorkStopped(text if text.startswith(str(path)) else f'{path} is not written: {text}') from error
    except OSError as error:
        if is_refusal(error):
            raise DiskError(refusal(path, error)) from error
        raise
    how = library.how_to_load(path, found.anatomy)
    return Conversion(path, found, library.words, read, {what: difference}, len(theirs), tuple([*notes, *added]), how)


def _reopened(library: Library, partial: Path, path: Path, found: Source) -> nn.Module:
    try:
        return library.reopen(partial, found.anatomy)
    except UsageError as error:
        raise WorkStopped(f'{path} is not written: {error}') from error
    except Exception as error:  # another library may raise anything for weights that do not fit its network
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise WorkStopped(f'{path} is not written: {library.words} does not load it ({first[:200]})') from error


def _other_norms(network: nn.Module, eps: float) -> str:
    """Why networks may differ that have the same weights: what their norms add to variances."""
    theirs = {module.eps for module in network.modules() if isinstance(module, nn.LayerNorm)}
    if not theirs or eps in theirs:
        return ''
    return f'. Its norms add {min(theirs):.0e} to the variance, those of the origin {eps:.0e}'


def _to_onnx(path: Path, found: Source, ours: nn.Module, read: Difference | None, notes: list[str]) -> Conversion:
    # imported here: it needs onnx, which no other format does
    from mstkit.conversion.onnx_export import export_onnx

    assert found.hints.mean is not None and found.hints.std is not None
    with torch.inference_mode(False):
        written = export_onnx(
            ours,
            path,
            found.anatomy.image,
            found.hints.mean,
            found.hints.std,
            dict(source=f'{found.words}, {found.kind}'),
        )
    if written.largest_size is not None:
        notes = [*notes, f'the file takes images of at most {"x".join(map(str, written.largest_size))} px']
    if written.weights is not None:
        notes = [*notes, f'weights are in {written.weights.name} beside it: keep both together']
    count = len(found.encoder.state)
    compared: dict[str, Difference | float] = {
        f'onnxruntime, {name}': value for name, value in written.differences.items()
    }
    how = f"onnxruntime.InferenceSession('{path}').run(None, {{'images': images}})"
    return Conversion(path, found, 'onnx', read, compared, count, tuple(notes), how)


def _meta(found: Source) -> dict[str, Any]:
    text = config_text(config_of(found.anatomy, found.hints))
    return dict(cfg=text, converted_from=f'{Path(found.words).name}, {found.kind}', version=__version__)
