"""A network that a part of a method asks and that is not trained."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.errors import UsageError
from mstkit.networks.network import Network
from mstkit.networks.open_network import open_networks
from mstkit.utils.checks import check_one_of, check_text
from mstkit.utils.device_copies import copied_to


class FrozenNetwork(nn.Module):
    """Base class beside that of the part: opens the network, and recognizes it when a run is resumed.

    The network's weights are not in the checkpoints of the run, which would repeat a file that is there: a resumed run
    opens ``source`` again, and the checkpoint's fingerprint of the weights has to be the same.

    Attributes:
        purpose: what the network did in the run, for the message about other weights.
        source: where it comes from, see :func:`mstkit.networks.open_networks`.
        branch: of a checkpoint of mstkit, see :meth:`open`.
        normalization: the method's mean and standard deviation of the channels on the scale 0..255, (3,) or (1,) both;
            None if its images are not normalized.
    """

    purpose: ClassVar[str]
    source: str
    branch: str | None
    fingerprint: Tensor
    normalization: tuple[Tensor, Tensor] | None = None

    def set_source(self, source: str, branch: str | None) -> None:
        """Notes where the network comes from; raises UsageError for what is no text and no branch."""
        name = type(self).__name__
        self.source = check_text(f'{name}.source', source)
        self.branch = None if branch is None else check_one_of(f'{name}.branch', branch, ('student', 'teacher'))

    def open(self) -> None:
        """Opens the source; of a checkpoint with two branches, where none is named, the teacher.

        Raises:
            UsageError: it cannot be opened, or has no such branch.
        """
        try:
            self.take(open_networks(self.source, self.branch)[-1])
        except UsageError as error:
            raise UsageError(f'{type(self).__name__}.source: {error}') from error

    def take(self, network: Network) -> None:
        """Takes a network for its own."""
        # In a list, so that its weights are no part of the model: neither saved nor sent to other processes.
        self._networks = [network]
        as_bytes = torch.tensor(list(bytes.fromhex(network.fingerprint)), dtype=torch.uint8)  # (32,)
        self.register_buffer('fingerprint', as_bytes)

    @property
    def network(self) -> Network:
        """The network."""
        return self._networks[0]

    def renormalized(self, images: Tensor) -> Tensor:
        """Images of the method (B, 3, H, W), normalized as the network wants them."""
        mean, std = (torch.tensor(values) for values in (self.network.mean, self.network.std))
        of_method = self.normalization or (torch.zeros(1), torch.ones(1))
        if torch.equal(of_method[0].expand(3), mean) and torch.equal(of_method[1].expand(3), std):
            return images
        scale, shift = of_method[1] / std, (of_method[0] - mean) / std
        both = torch.stack((scale, shift))[..., None, None].to(images.dtype)  # (2, 3, 1, 1)
        scale, shift = copied_to(both, images.device)
        return images * scale + shift

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        found = state_dict.get(f'{prefix}fingerprint')
        if found is not None and not torch.equal(found.cpu(), self.fingerprint.cpu()):
            raise UsageError(
                f'{type(self).__name__}.source is {self.source!r}, whose weights are not those {self.purpose}: give '
                'the source of that run'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Images or maps (B, C, H, W), bilinear and antialiased, at another size (height, width)."""
    if maps.shape[-2:] == torch.Size(size):
        return maps
    return F.interpolate(maps.float(), size, mode='bilinear', antialias=True)
