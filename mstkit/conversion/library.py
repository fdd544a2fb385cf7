"""A library for whose networks weights are written: its names, its network, its files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.formats import Anatomy, Hints, Naming, SwinAnatomy, ViTAnatomy
from mstkit.formats.naming import COMPUTED
from mstkit.interop import read_data


class Features(NamedTuple):
    """What two networks are compared by.

    Attributes:
        first: (B, C), the class token after the last norm; where there is no such token or norm, the pooled feature.
        patches: (B, L, C), the patch tokens after the last norm.
    """

    first: Tensor
    patches: Tensor


class Library(ABC):
    """One library or program: builds its own network of an anatomy, and loads it from files strictly.

    A new one is one subclass, an entry of :data:`mstkit.conversion.LIBRARIES`, and a :class:`Naming` where it has names
    of its own.

    Attributes:
        name: of ``--to``.
        words: the name in words.
        folder: whether it keeps weights in a folder with its settings; else in a file.
        endings: of the names of its files.
    """

    name: ClassVar[str]
    words: ClassVar[str]
    folder: ClassVar[bool] = False
    endings: ClassVar[tuple[str, ...]] = ('.pth', '.pt', '.safetensors')

    @abstractmethod
    def naming(self, anatomy: Anatomy) -> Naming:
        """How it names the tensors of an encoder.

        Raises:
            UsageError: it has no such encoder, with what it lacks.
        """

    @abstractmethod
    def build(self, anatomy: Anatomy) -> nn.Module:
        """Its own network, without a classifier, with whatever weights."""

    @abstractmethod
    def features(self, network: Any, images: Tensor) -> Features:
        """What the network makes of images (B, 3, H, W)."""

    def how_to_load(self, path: Path, anatomy: Anatomy) -> str:
        """Python that loads what was written."""
        raise NotImplementedError

    def state(self, state: Mapping[str, Tensor], anatomy: Anatomy) -> tuple[dict[str, Tensor], list[str]]:
        """An encoder's tensors under the library's names.

        Args:
            state: ours.
            anatomy: of the encoder.

        Returns:
            Theirs, and what was added or left out without a change of the result, in sentences.
        """
        naming = self.naming(anatomy)
        adapted, notes = with_whole_bias(state)
        return naming.to_theirs(adapted, anatomy.depths), notes

    def load(self, theirs: Mapping[str, Tensor], anatomy: Anatomy) -> nn.Module:
        """Its own network with these weights.

        Args:
            theirs: under its names, of one of its versions.
            anatomy: of the encoder.

        Raises:
            UsageError: a tensor is missing, unknown or of another shape.
        """
        network = self.build(anatomy)
        load_all(network, theirs, self.words)
        network.eval()  # on its own line: mmpretrain's returns nothing
        return network

    def write(self, path: Path, theirs: dict[str, Tensor], anatomy: Anatomy, hints: Hints, meta: Any) -> None:
        """Writes weights, into a file or a folder as :attr:`folder` says.

        Args:
            path: that does not exist yet.
            theirs: under its names.
            anatomy: of the encoder.
            hints: how images are prepared.
            meta: what mstkit notes: where the weights come from.
        """
        save(path, theirs)

    def reopen(self, path: Path, anatomy: Anatomy) -> nn.Module:
        """The network from what was written, by the library's own means where it has them."""
        return self.load(read_data(path), anatomy)


def load_all(network: nn.Module, theirs: Mapping[str, Tensor], words: str) -> None:
    """Loads weights, all of them; what is computed from the sizes may be missing or too much.

    Raises:
        UsageError: otherwise.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in theirs and not COMPUTED.fullmatch(name)]
    unexpected = [name for name in theirs if name not in own and not COMPUTED.fullmatch(name)]
    shapes = [name for name in theirs if name in own and own[name].shape != theirs[name].shape]
    for what, names in (('misses', missing), ('does not know', unexpected), ('has another shape for', shapes)):
        if names:
            more = f' and {len(names) - 1} more' if len(names) > 1 else ''
            raise UsageError(f'the network of {words} {what} {names[0]}{more}')
    network.load_state_dict({**own, **{name: value for name, value in theirs.items() if name in own}}, strict=True)


def with_whole_bias(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Biases of queries and values alone become one of all three, with zeros for the keys."""
    found = dict(state)
    names = [name for name in found if name.endswith('.q_bias')]
    for name in names:
        queries, values = found.pop(name), found.pop(name.replace('q_bias', 'v_bias'))
        found[name.replace('q_bias', 'qkv.bias')] = torch.cat((queries, torch.zeros_like(queries), values))
    return found, [f'{len(names)} biases of keys, zeros, are added'] if names else []


def with_bias(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """A bias of zeros for queries, keys and values where there is none."""
    found, notes = with_whole_bias(state)
    names = [name for name in found if name.endswith('.attn.qkv.weight')]
    added = [name.replace('weight', 'bias') for name in names if name.replace('weight', 'bias') not in found]
    for name in added:
        found[name] = torch.zeros(found[name.replace('bias', 'weight')].shape[0])
    return found, notes + ([f'{len(added)} biases of zeros are added'] if added else [])


def with_layer_scale(state: Mapping[str, Tensor], anatomy: ViTAnatomy) -> tuple[dict[str, Tensor], list[str]]:
    """Factors of one (LayerScale) for a library whose networks always have them."""
    if anatomy.layer_scale:
        return dict(state), []
    found = dict(state)
    for i in range(anatomy.depth):
        for part in ('attn.gamma1', 'ffn.gamma2'):
            found[f'layers.{i}.{part}.weight'] = torch.ones(anatomy.width)
    return found, [f'{2 * anatomy.depth} factors of one (LayerScale) are added']


def lacks(words: str, anatomy: Anatomy, absent: Mapping[str, bool]) -> None:
    """Refuses an encoder that a library has no network for.

    Args:
        words: the library.
        anatomy: of the encoder.
        absent: parts in words, and whether the encoder has them.

    Raises:
        UsageError: it has one.
    """
    found = [part for part, there in absent.items() if there]
    if found:
        kind = 'Swin' if isinstance(anatomy, SwinAnatomy) else 'ViT'
        raise UsageError(f'{words} has no {kind} with {" and ".join(found)}, as this one ({anatomy.words()})')


def save(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes tensors, as safetensors where the name says so, else as ``torch.save`` does."""
    if path.suffix == '.safetensors':
        # imported here: a conversion to a file of torch does not need it
        from safetensors.torch import save as as_bytes

        # By Python: safetensors' own function writes a file that other users cannot read, whatever the umask says.
        noted = {'format': 'pt', **(metadata or {})}
        path.write_bytes(as_bytes({name: value.contiguous() for name, value in state.items()}, noted))
    else:
        torch.save(state, path)
