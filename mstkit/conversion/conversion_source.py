"""The encoder that is converted, wherever it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mstkit.conversion.libraries import library_of
from mstkit.errors import UsageError
from mstkit.formats import Anatomy, Encoder, Hints, WeightFile, read_weight_file
from mstkit.formats.reading import encoders_of, prepared
from mstkit.networks import Network, open_networks
from mstkit.utils.home_folder import expanded


@dataclass(frozen=True)
class Source:
    """An encoder that is converted.

    Attributes:
        words: what the user named.
        kind: whose file it is.
        library: whose network it is compared with, in words.
        branch: 'student' or 'teacher'.
        encoder: its tensors.
        anatomy: of it.
        hints: how images are prepared for it; mean and standard deviation are known.
        left_out: tensors of the file that belong to no encoder, counted.
        notes: what was assumed.
        network: as mstkit, timm or mmpretrain itself opens it; None for a file of another program.
    """

    words: str
    kind: str
    library: str
    branch: str
    encoder: Encoder
    anatomy: Anatomy
    hints: Hints
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    network: Network | None


def find_source(words: str, branch: str | None, kind: str | None, said: Hints) -> Source:
    """Reads what is converted.

    Args:
        words: a file, a folder, or a name with ``timm:`` or ``mmpretrain:``.
        branch: of a file with both; None for the teacher.
        kind: see :func:`mstkit.formats.read_weights`.
        said: what the user says.

    Raises:
        UsageError: it cannot be read, or has no such branch.
    """
    if not expanded(words).exists():
        network = open_networks(words)[0]
        state = network.backbone.state_dict()
        file = WeightFile(Path(words), state, dict(state), {}, {}, {})
        return _source(file, words, branch, kind, said.or_else(hints_of_network(network)), network)
    file = read_weight_file(words)
    if isinstance(file.meta.get('cfg'), str):
        networks = open_networks(words, branch)
        network = networks[-1]  # of two the teacher
        return _source(file, words, network.branch, kind, said.or_else(hints_of_network(network)), network)
    return _source(file, words, branch, kind, said, None)


def _source(
    file: WeightFile, words: str, branch: str | None, kind: str | None, said: Hints, network: Network | None
) -> Source:
    weights = encoders_of(file, kind, said)
    present = list(weights.branches)
    chosen = branch or present[-1]
    if chosen not in present:
        raise UsageError(f'{words} has no {chosen}, only a {present[0]}: leave --branch out.')
    encoder = weights.branches[chosen]
    try:
        anatomy, assumed = encoder.anatomy()
    except UsageError as error:
        raise UsageError(f'{words}: {error}.') from error
    left_out = list(weights.left_out())
    left_out += [f'mask_token of the {chosen} (1 tensor)'] if encoder.mask_token is not None else []
    others = [f'the {name} ({len(weights.branches[name].state)} tensors)' for name in present if name != chosen]
    hints = prepared(anatomy, weights.hints)
    kind_in_words = weights.kind if network is None else _opened(network)
    library = 'its own config' if network is not None else library_of(encoder.naming).words
    notes = tuple(assumed.values())
    if len(present) > 1:
        notes = (f'the {chosen} is converted; --branch chooses', *notes)
    return Source(words, kind_in_words, library, chosen, encoder, anatomy, hints, (*others, *left_out), notes, network)


def _opened(network: Network) -> str:
    return f'{network.branch} of a checkpoint with its config' if network.branch else f'opened as {network.name}'


def hints_of_network(network: Network) -> Hints:
    """What an opened network says beside its tensors."""
    backbone: Any = network.backbone
    first: Any = network.blocks[0].module
    norm = next((part for part in first.modules() if isinstance(part, nn.LayerNorm)), None)
    config: Mapping[str, Any] = network.config or {}
    attention = first.attn
    pool = getattr(backbone, 'global_pool', None)  # mstkit's and timm's ViT have it
    return Hints(
        heads=getattr(attention, 'num_heads', None),  # of a Swin of mmpretrain a part has it, and the tables tell
        image=_image(backbone, config),
        eps=None if norm is None else norm.eps,
        pool=pool,
        offset=network.interpolate_offset,
        mean=network.mean,
        std=network.std,
        resize=network.resize,
    )


def _image(backbone: Any, config: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) that the network is made for; libraries keep it in different places."""
    for value in (
        getattr(backbone, 'img_size', None),  # mmpretrain's ViT
        getattr(getattr(backbone, 'patch_embed', None), 'img_size', None),  # timm's
        config.get('img_size'),  # a Swin of mmpretrain's
    ):
        if isinstance(value, int):
            return value, value
        if isinstance(value, tuple | list) and len(value) == 2:
            return int(value[0]), int(value[1])
    return (224, 224) if config.get('type') else None
