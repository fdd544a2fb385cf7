"""Reads the encoders of any checkpoint, under mstkit's names, with what they were built from."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from mstkit.errors import UsageError, nearest
from mstkit.formats.anatomy import Anatomy
from mstkit.formats.file_hints import hints_of
from mstkit.formats.inference import Hints, infer
from mstkit.formats.naming import Naming
from mstkit.formats.namings import NAMINGS
from mstkit.formats.weight_file import WeightFile, read_weight_file
from mstkit.interop.checkpoint import BRANCH_PREFIXES
from mstkit.interop.foreign_checkpoints import READ, kind_of

# Embeddings of hidden patches, which only pre-training needs: ours and MAE's, iBOT's.
MASK_TOKENS = ('mask_token', 'masked_embed')
_TEACHERS = re.compile(r'(^|[._])(teacher|momentum|ema|target|encoder_k)(\w*)[._]')
# In the evaluation of released networks the side of the crop is 7/8 of the resized image's.
CROPPED = 8 / 7
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class Encoder(NamedTuple):
    """One encoder of a file.

    Attributes:
        state: its tensors, under our names.
        naming: how the file names them.
        theirs: its tensors as the file names them, without what is before the encoder's names.
        mask_token: the embedding of hidden patches beside it; None where there is none.
        hints: what is known beside the tensors.
    """

    state: dict[str, Tensor]
    naming: Naming
    theirs: dict[str, Tensor]
    mask_token: Tensor | None
    hints: Hints

    def anatomy(self) -> tuple[Anatomy, dict[str, str]]:
        """See :func:`mstkit.formats.infer`; not needed where the tensors go into a network that is there."""
        return infer(self.state, self.hints)


class Weights(NamedTuple):
    """The encoders of a file.

    Attributes:
        file: what was read.
        kind: whose it is, in words.
        branches: 'student' and 'teacher', or one of them; a file with one encoder has the student.
        rest: tensors of no encoder, under the file's names.
        hints: how images are prepared.
    """

    file: WeightFile
    kind: str
    branches: dict[str, Encoder]
    rest: dict[str, Tensor]
    hints: Hints

    def left_out(self) -> tuple[str, ...]:
        """What belongs to no encoder, with the count of its tensors."""
        tops = Counter(name.split('.')[0] for name in self.rest)
        return tuple(f'{top} ({count} tensor{"s" * (count > 1)})' for top, count in tops.items())

    def config(self, branch: str) -> dict[str, Any]:
        """A config in mstkit's words: the backbone, and how images are prepared for it."""
        return config_of(self.branches[branch].anatomy()[0], self.hints)

    def checkpoint(self) -> dict[str, Any]:
        """As a checkpoint of mstkit, for everything that reads those."""
        state: dict[str, Tensor] = {}
        for branch, encoder in self.branches.items():
            prefix = BRANCH_PREFIXES[branch]
            state |= {prefix + name: value for name, value in encoder.state.items()}
            if encoder.mask_token is not None:
                state[f'{prefix}mask_token'] = encoder.mask_token
        first = next(iter(self.branches))
        meta: dict[str, Any] = dict(kind=self.kind)
        try:
            meta |= dict(cfg=config_text(self.config(first)), assumed=self.branches[first].anatomy()[1])
        except UsageError as error:
            meta |= dict(unknown=str(error))
        return dict(state_dict={**state, **self.rest}, meta=meta)


def prepared(anatomy: Anatomy, hints: Hints) -> Hints:
    """How images are prepared for an encoder: by what is known, else as for released networks on ImageNet."""
    return hints.or_else(Hints(mean=MEAN, std=STD, resize=round(min(anatomy.image) * CROPPED)))


def config_of(anatomy: Anatomy, hints: Hints) -> dict[str, Any]:
    """A config in mstkit's words: the backbone, and how images are prepared for it."""
    known = prepared(anatomy, hints)
    view = dict(type='CenterView', resize=known.resize, crop=min(anatomy.image))
    pipeline = [dict(type='LoadRGB'), view, dict(type='PackViews')]
    values = {name: [float(value) for value in getattr(known, name)] for name in ('mean', 'std')}
    return dict(
        model=dict(backbone=anatomy.config(), data_preprocessor=values),
        # Where a config of mstkit says how evaluated images are prepared.
        default_hooks=dict(knn=dict(type='KNNHook', val_dataset=dict(pipeline=pipeline))),
    )


def config_text(config: Mapping[str, Any]) -> str:
    """A config as it stands in a checkpoint, see :func:`mstkit.interop.parse_config_text`."""
    return ''.join(f'{name} = {value!r}\n' for name, value in config.items())


def read_weights(path: str | os.PathLike[str], kind: str | None = None, said: Hints | None = None) -> Weights:
    """Reads the encoders of a file or folder.

    Args:
        path: of it.
        kind: a name of :data:`NAMINGS`; None recognizes it.
        said: what the user says; it counts before what the file says.

    Raises:
        UsageError: the file cannot be read, its kind is not recognized, or its encoder is not one that mstkit has.
    """
    return encoders_of(read_weight_file(path), kind, said)


def encoders_of(file: WeightFile, kind: str | None = None, said: Hints | None = None) -> Weights:
    """The encoders of a file that has been read; arguments and errors as for :func:`read_weights`."""
    try:
        return _encoders(file, kind, said or Hints())
    except UsageError as error:
        raise UsageError(f'{file.path}: {error}') from error


def _encoders(file: WeightFile, kind: str | None, said: Hints) -> Weights:
    known = kind_of(file.content)
    naming, prefixes = _naming_of(file, kind)
    hints = said.or_else(hints_of(file)).or_else(Hints(rotary=naming.rotary, eps=naming.eps))
    if known is not None:
        mean = None if known.normalization is None else (known.normalization,) * 3
        hints = hints.or_else(Hints(offset=known.offset or None, pool=known.pool, mean=mean, std=mean))
    branches: dict[str, Encoder] = {}
    used: set[str] = set()
    for prefix in prefixes:
        branch = 'teacher' if len(prefixes) > 1 and _TEACHERS.search(prefix) else 'student'
        if branch in branches:
            raise UsageError(
                f'it has several encoders, behind {" and ".join(map(repr, prefixes))}, and nothing tells which is the '
                'student: save the tensors of one in a file of their own'
            )
        theirs = {name[len(prefix) :]: value for name, value in file.tensors.items() if name.startswith(prefix)}
        state, left = naming.to_ours(theirs)
        used |= {prefix + name for name in theirs if name not in left}
        place = next((name for name in left if name.split('.')[-1] in MASK_TOKENS), None)
        if place is not None:
            used.add(prefix + place)
        own = {name: value for name, value in theirs.items() if name not in left}
        mask_token = None if place is None else theirs[place]
        branches[branch] = Encoder(state, naming, own, mask_token, hints)
    ordered = {name: branches[name] for name in BRANCH_PREFIXES if name in branches}
    container = _container(file, prefixes)
    rest = {
        name.removeprefix(container): value
        for name, value in file.tensors.items()
        if name not in used and not _is_of_program(name)
    }
    words = known.words if known is not None else naming.words
    return Weights(file, words, ordered, rest, hints)


def _naming_of(file: WeightFile, kind: str | None) -> tuple[Naming, list[str]]:
    names = list(file.tensors)
    if kind is not None:
        chosen = [naming for naming in NAMINGS if naming.name == kind]
        if not chosen:
            known = dict.fromkeys(naming.name for naming in NAMINGS)
            raise UsageError(f'there is no kind {kind!r}.{nearest(kind, known)} Kinds are {", ".join(known)}')
        for naming in chosen:
            if prefixes := naming.prefixes(names):
                return naming, prefixes
        raise UsageError(f'it has not {chosen[0].words}: no {chosen[0].marks[0]} is in it')
    for naming in NAMINGS:
        if prefixes := naming.prefixes(names):
            return naming, prefixes
    known_kind = kind_of(file.content)
    told = '' if known_kind is None else f'; it looks like a checkpoint of {known_kind.words}'
    if known_kind is not None:
        told += ', without its encoder’s tensors' if known_kind.advice == READ else f': {known_kind.advice}'
    raise UsageError(
        f'no encoder is recognized in its {len(names)} tensors ({", ".join(names[:3])}{", …" * (len(names) > 3)}){told}'
        f'. mstkit reads ViT and Swin under the names of {_listed(dict.fromkeys(naming.name for naming in NAMINGS))}'
    )


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f'{", ".join(most)} and {last}'


def _container(file: WeightFile, prefixes: list[str]) -> str:
    """The key of the file that its model is under, with a point; empty where there is none."""
    first = prefixes[0].split('.')[0]
    of_all = all(prefix.startswith(f'{first}.') for prefix in prefixes)
    return f'{first}.' if of_all and isinstance(file.content.get(first), Mapping) else ''


def _is_of_program(name: str) -> bool:
    """Whether a tensor is of the run and not of the model."""
    return name.split('.')[0] in ('message_hub', 'param_schedulers', 'meta', 'fp16_scaler', 'scaler', 'amp')
