"""Loads a pre-trained backbone into the backbone of another model, completely or not at all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mmpretrain.models import BEiTViT, VisionTransformer
from torch import Tensor, nn

from mstkit.errors import UsageError
from mstkit.interop.backbone_names import left_out, own_names
from mstkit.interop.checkpoint import BRANCH_PREFIXES, branch_state
from mstkit.interop.foreign_checkpoints import plain_names, recognize
from mstkit.interop.literal_config import parse_config_text
from mstkit.interop.resizing import Sizes, resize_tensor, sizes_of
from mstkit.interop.vit_settings import rotary_base_of, settings_hint
from mstkit.structures import PlacedByRotation
from mstkit.utils.relative_positions import spread_shared_table

# Norms on a backbone's outputs. Pre-training has only the final one; downstream models have others, or none.
OUTPUT_NORM = re.compile(r'(norm\d+|ln[12])\.(weight|bias)')
BIAS_INDEX = '.relative_position_index'
OWN_VIT_OF_MMSEG = '.attn.attn.in_proj_weight'


class LoadReport(NamedTuple):
    """Which tensors of a backbone were loaded from a file.

    Attributes:
        source: the file and the branch.
        loaded: names of the loaded tensors, including resized ones.
        resized: name, shape in the file and shape in the backbone of interpolated tensors.
        missing: output norms that pre-training does not have, and in a partial load whatever did not fit; they stay as
            initialized.
        unexpected: tensors of the file that are not used: output norms that the backbone lacks, a [MASK] embedding, and
            in a partial load whatever did not fit.
        share: ``len(loaded)`` as a fraction of ``len(loaded) + len(missing)``, 0 to 1.
        left_out: parts of the file that belong to no backbone, such as a decoder, with their number of tensors.
    """

    source: str
    loaded: tuple[str, ...]
    resized: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    share: float
    left_out: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report as lines of text."""
        found = [
            f'backbone from {self.source}: loaded {len(self.loaded)} of {len(self.loaded) + len(self.missing)} tensors '
            f'({100 * self.share:.1f} %), resized {len(self.resized)}, missing {len(self.missing)}, '
            f'unexpected {len(self.unexpected)}'
        ]
        # One line for all tensors of one kind and shape, for example a Swin's bias tables of every block.
        kinds = Counter((name.split('.')[-1], old, new) for name, old, new in self.resized)
        found += [
            f'  resized {name}{f" of {count} blocks" if count > 1 else ""}: {old} to {new}'
            for (name, old, new), count in kinds.items()
        ]
        if self.missing:
            found.append(f'  not pre-trained, stay as initialized: {", ".join(self.missing)}')
        if self.unexpected:
            found.append(f'  not used, the backbone has no such part: {", ".join(self.unexpected)}')
        if self.left_out:
            found.append(f'  left out, of no backbone: {", ".join(self.left_out)}')
        return found

    def __str__(self) -> str:
        return '\n'.join(self.lines())


def load_backbone(
    module: nn.Module, checkpoint: Mapping[str, Any], branch: str = 'student', source: str = 'the checkpoint'
) -> LoadReport:
    """Loads the backbone of one branch of a checkpoint into a module whose state dict has mmpretrain's keys.

    These are the ViT and Swin of mmpretrain and mstkit, and the Swin of mmdet and mmseg. Position embeddings and
    relative position bias tables are resized to the module's grid and window, and the patch embedding to its patches,
    see :func:`mstkit.interop.resizing.resize_tensor`; a shared bias table is copied to every layer if the module has
    one table per layer. mmpretrain's BEiT, whose tensors have other names, can be loaded into a
    :class:`MaskedVisionTransformer` of the same architecture.

    Args:
        module: the backbone to load into.
        checkpoint: from :func:`mstkit.interop.read_checkpoint`.
        branch: ``'student'`` or ``'teacher'``.
        source: the file, for messages and the report.

    Returns:
        Which tensors were loaded.

    Raises:
        UsageError: no such branch, a different architecture, or missing tensors; the module is then unchanged.
    """
    weights, report = fit_backbone(module, checkpoint, branch, source)
    module.load_state_dict({**module.state_dict(), **weights}, strict=True)
    return report


def fit_backbone(
    module: nn.Module,
    checkpoint: Mapping[str, Any],
    branch: str = 'student',
    source: str = 'the checkpoint',
    partial: bool = False,
) -> tuple[dict[str, Tensor], LoadReport]:
    """Like :func:`load_backbone`, but returns the tensors instead of loading them; same arguments and errors.

    Args:
        partial: take what fits, and list in the report what does not: a part of another network, by the user's explicit
            word. At least one tensor has to fit.

    Returns:
        The tensors, in the module's shapes, and the report.
    """
    try:
        found = branch_state(checkpoint, branch)
    except UsageError as error:
        raise UsageError(f'{source}: {error}') from error
    own = module.state_dict()
    state = own_names({name: value for name, value in found.items() if isinstance(value, Tensor)}, own)
    spread_shared_table(state, own)
    if any(name.endswith(OWN_VIT_OF_MMSEG) for name in own):
        raise UsageError(
            f'{source} cannot be loaded into the {type(module).__name__} of {type(module).__module__}, which names its '
            "tensors in another way: use type='mstkit.MaskedVisionTransformer' or type='mmpretrain.VisionTransformer' "
            'as the backbone.'
        )
    _check_rotary(module, checkpoint, f'the {branch} of {source}')
    final = _final_norm(own)
    missing = [name for name in own if name not in state and not name.endswith(BIAS_INDEX)]
    untrained = [name for name in missing if OUTPUT_NORM.fullmatch(name) and not name.startswith(final)]
    unexpected = [name for name in state if name not in own]
    unused = [name for name in unexpected if OUTPUT_NORM.fullmatch(name) or name == 'mask_token']
    weights, misfits = _fit(module, own, state, sizes_of(checkpoint, state))
    problems = [
        f'{what} {len(names)} ({_some(names, count)})'
        for what, names, count in (
            ('missing', [name for name in missing if name not in untrained], 3),
            ('unexpected', [name for name in unexpected if name not in unused], 3),
            ('other shape', misfits, 2),
        )
        if names
    ]
    if problems and not (partial and weights):
        in_file, in_module = _sketch(state), _sketch(own)
        kinds = '' if in_file == in_module else f': it holds {in_file}, the backbone is {in_module}'
        raise UsageError(
            f'the {branch} of {source} does not fit the {type(module).__name__} of this model{kinds} '
            f'({"; ".join(problems)}); use a checkpoint of that network, or the arch that it was trained with.'
            f'{recognize(list(found)) if len(missing) == len(own) else settings_hint(state, own)}'
        )
    _check_heads(module, checkpoint, f'the {branch} of {source}')
    if problems:
        untrained = [name for name in own if name not in weights and not name.endswith(BIAS_INDEX)]
        unused = [name for name in state if name not in weights and not name.endswith(BIAS_INDEX)]
    resized = tuple(
        (name, tuple(state[name].shape), tuple(value.shape))
        for name, value in weights.items()
        if value is not state[name]
    )
    share = len(weights) / (len(weights) + len(untrained))
    beside = checkpoint.get('left_out')
    if beside is None:
        beside = left_out(plain_names(checkpoint['state_dict']), BRANCH_PREFIXES[branch])
    report = LoadReport(f'{source} ({branch})', tuple(weights), resized, tuple(untrained), tuple(unused), share, beside)
    return weights, report


def _fit(
    module: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: Sizes
) -> tuple[dict[str, Tensor], list[str]]:
    """Resizes the tensors that module and file have in common to the module's shapes.

    Returns:
        The tensors, and a description of each one that does not fit.
    """
    weights: dict[str, Tensor] = {}
    misfits = []
    for name, value in state.items():
        if name not in own:
            continue
        wanted = own[name].shape
        if name.endswith(BIAS_INDEX) and value.shape != wanted:
            continue  # an index that depends on the window size alone: keep the module's
        fitted = resize_tensor(name, value, module, own[name], source)
        if fitted is None or fitted.shape != wanted:
            square = ' (no square grid)' if fitted is None else ''
            misfits.append(f'{name} is {tuple(value.shape)} in the file{square} and {tuple(wanted)} in the backbone')
        else:
            weights[name] = fitted
    return weights, misfits


def _check_heads(module: nn.Module, checkpoint: Mapping[str, Any], origin: str) -> None:
    """Refuses a ViT with another number of heads than in the file's config (tensor shapes do not depend on it)."""
    if not isinstance(module, VisionTransformer | BEiTViT):
        return
    zoo: Any = module.arch_zoo  # what arch='deit-small' means, the same in all of mmpretrain's ViTs
    heads = module.layers[0].attn.num_heads
    if 'heads' in (checkpoint.get('meta') or {}).get('assumed', ()):
        return  # no tensor and nothing beside them tells
    try:
        arch = parse_config_text(checkpoint['meta']['cfg'])['model']['backbone']['arch']
        trained = (zoo[arch.lower()] if isinstance(arch, str) else arch)['num_heads']
    except (KeyError, TypeError, AttributeError, UsageError):
        return
    if trained != heads:
        raise UsageError(
            f'{origin} was trained with {trained} attention heads, the {type(module).__name__} of this model has '
            f'{heads}: use the arch that it was trained with.'
        )


def _check_rotary(module: nn.Module, checkpoint: Mapping[str, Any], origin: str) -> None:
    """Refuses a ViT with rotary positions for one without them, and the other way round: no tensor tells."""
    try:
        backbone = parse_config_text(checkpoint['meta']['cfg'])['model']['backbone']
        trained = rotary_base_of(backbone)
    except (KeyError, TypeError, AttributeError, UsageError):
        return
    own = module.rotary_base if isinstance(module, PlacedByRotation) else None
    if trained != own:
        wanted = 'no rotary positions' if trained is None else f"positions='rotary', rotary_base={trained:g}"
        raise UsageError(
            f'{origin} was trained with {wanted}, the {type(module).__name__} of this model with '
            f'{"none" if own is None else f"rotary_base={own:g}"}: give a MaskedVisionTransformer the positions that '
            'it was trained with.'
        )


def _sketch(state: Mapping[str, Tensor]) -> str:
    """Describes the network that tensors belong to, for a message."""
    projection = state.get('patch_embed.projection.weight')
    stages = Counter(
        match[1] for name in state if (match := re.fullmatch(r'stages\.(\d+)\.blocks\.\d+\.norm1\.weight', name))
    )
    layers = sum(bool(re.fullmatch(r'layers\.\d+\.ln1\.weight', name)) for name in state)
    if projection is None or projection.ndim != 4 or not (stages or layers):
        inner = [name for name in state if re.search(r'\.\d+\.', name)] or list(state)
        return f'tensors with other names ({_some(inner)})'
    kind, blocks = ('Swin', '-'.join(map(str, stages.values()))) if stages else ('ViT', str(layers))
    width, _, height, breadth = projection.shape
    return f'a {kind} of width {width}, {blocks} blocks and patches of {height}x{breadth}'


def _final_norm(own: Mapping[str, Tensor]) -> str:
    """Prefix of the names of a backbone's final norm, which pre-training always has."""
    stages = [int(match[1]) for name in own if (match := re.match(r'stages\.(\d+)\.', name))]
    return f'norm{max(stages)}.' if stages else 'ln1.'


def _some(words: Iterable[str], count: int = 3) -> str:
    words = list(words)
    return ', '.join(words[:count]) + (', ...' if len(words) > count else '')
