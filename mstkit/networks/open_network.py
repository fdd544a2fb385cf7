"""Opens a network given as a command-line argument: a checkpoint, or a name of timm's or mmpretrain's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch

from mstkit.errors import UsageError, nearest
from mstkit.networks.from_config import open_checkpoint, open_mmpretrain, open_random
from mstkit.networks.from_timm import open_timm
from mstkit.networks.network import Network
from mstkit.utils.home_folder import expanded

KINDS: dict[str, Callable[[str], Network]] = {'timm': open_timm, 'mmpretrain': open_mmpretrain, 'random': open_random}
KINDS_IN_WORDS = (
    'FILE (a checkpoint of mstkit, or of another program), timm:NAME[@WEIGHTS], mmpretrain:NAME_OR_CONFIG.py[@WEIGHTS] '
    'or random:CONFIG.py[@SEED] or random:FILE.pth[@SEED] (that architecture with random weights)'
)


def open_networks(source: str, branch: str | None = None, device: str | torch.device = 'cpu') -> list[Network]:
    """Opens one network, or the student and the teacher of a checkpoint.

    Nothing is downloaded: without a weights file, a network of timm or mmpretrain has random weights.

    Args:
        source: ``FILE``, a checkpoint of mstkit, or a file or folder of another program that
            :func:`mstkit.formats.read_weights` knows; ``timm:NAME`` or ``timm:NAME@FILE``; ``mmpretrain:NAME``,
            ``mmpretrain:CONFIG.py`` or either with ``@FILE``; ``random:CONFIG.py`` or ``random:FILE.pth``, the same
            architecture with random weights of seed 0, or of another one behind an ``@``.
        branch: ``'student'`` or ``'teacher'`` of a checkpoint of mstkit; None for both, if present. Ignored for other
            sources, which have one network.
        device: of the networks.

    Raises:
        UsageError: an unknown kind of source or name, a missing file or one that is no checkpoint, weights that do not
            match completely, a network that is neither a ViT nor a Swin, or a device that cannot be used.
    """
    kind, colon, rest = source.partition(':')
    if expanded(source).exists():
        networks = open_checkpoint(source, branch)
    elif colon and kind in KINDS:
        if not rest:
            raise UsageError(f'{source!r} names no network: give {KINDS_IN_WORDS}.')
        networks = [KINDS[kind](rest)]
    elif colon:
        raise UsageError(
            f'{source!r}: there is no kind of network called {kind!r}.{nearest(kind, KINDS)} Give {KINDS_IN_WORDS}.'
        )
    else:
        raise UsageError(f'there is no file {source!r}: give {KINDS_IN_WORDS}.')
    try:
        return [network.to(device) for network in networks]
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f'device {str(device)!r} cannot be used: {str(error).splitlines()[0]}') from error


def open_several(
    sources: Sequence[str], branch: str | None = None, device: str | torch.device = 'cpu'
) -> list[Network]:
    """Opens several sources for a comparison; networks of the same name are numbered.

    Arguments and errors as for :func:`open_networks`.
    """
    networks = [network for source in sources for network in open_networks(source, branch, device)]
    total, seen = Counter(network.name for network in networks), Counter[str]()
    for network in networks:
        name = network.name
        seen[name] += 1
        network.name = f'{name} ({seen[name]})' if total[name] > 1 else name
    return networks
