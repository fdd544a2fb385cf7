"""VQ-KD (BEiT v2, Peng et al., arXiv 2208.06366, section 2.2): a codebook from a teacher, and its training."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mstkit.codebooks.feature_sources import KeptNetwork
from mstkit.codebooks.image_batches import ImageSet
from mstkit.codebooks.kmeans_run import Trained, write_codebook
from mstkit.codebooks.patch_collection import collect
from mstkit.codebooks.run_state import RunState
from mstkit.codebooks.spherical_kmeans import SphericalKMeans, keyed
from mstkit.errors import UsageError
from mstkit.models.decoders import ViTDecoder
from mstkit.models.tokenizers import EncodedPatches, nearest_codes
from mstkit.structures import TokenOutput
from mstkit.utils.checks import check_count, check_number
from mstkit.utils.progress_bar import track
from mstkit.utils.undisturbed import undisturbed_randomness

FIRST = 4  # features per code of which k-means makes the first codebook
FIRST_STEPS = 10


@dataclass(frozen=True)
class VQKDSettings:
    """How a tokenizer is trained from a teacher.

    Attributes:
        codes: K.
        epochs: passes over the images.
        width: channels of encoder and decoder.
        layers: of the encoder; the decoder has one.
        batch_size: images per step.
        lr: of AdamW, after a twentieth of the steps as warm-up; then a cosine to 0.
        code_dims: channels of the codes.
        decay: of the moving average that the codes are.
        commitment: weight of the distance between an encoding and its code.
        seed: of all that is random.
    """

    codes: int
    epochs: int = 20
    width: int = 192
    layers: int = 4
    batch_size: int = 32
    lr: float = 5e-4
    code_dims: int = 32
    decay: float = 0.99
    commitment: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_count('--codes', self.codes, 2, 1 << 16)
        for name in ('epochs', 'layers', 'batch_size', 'code_dims'):
            check_count(f'--{name.replace("_", "-")}', getattr(self, name), 1)
        if check_count('--width', self.width, 4) % 4:
            raise UsageError(f'--width is {self.width}: give a multiple of 4')
        check_number('--lr', self.lr, above=0)
        check_number('decay', self.decay, 0, 1)
        check_number('commitment', self.commitment, 0)


class VQKD(nn.Module):
    """Encoder, codebook and decoder.

    Args:
        teacher: what is to be told from the codes.
        settings: of the training.
    """

    centers: Tensor

    def __init__(self, teacher: KeptNetwork, settings: VQKDSettings) -> None:
        super().__init__()
        source, width = teacher.source, settings.width
        heads = next(heads for heads in (width // 64, 4, 2, 1) if heads and width % heads == 0)
        arch = dict(embed_dims=width, num_layers=settings.layers, num_heads=heads, feedforward_channels=4 * width)
        network = dict(type='mstkit.MaskedVisionTransformer', arch=arch, img_size=source.image_size)
        network['patch_size'] = source.patch_size
        normalization = {name: teacher.settings[name] for name in ('mean', 'std')}
        self.settings: dict[str, Any] = dict(
            network=network, image_size=source.image_size, code_dims=settings.code_dims, **normalization
        )
        with undisturbed_randomness():
            torch.manual_seed(settings.seed)
            self.encoder = EncodedPatches(**self.settings)
            for layer in self.encoder.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.trunc_normal_(layer.weight, std=0.02)
            self.decoder = ViTDecoder(settings.code_dims, source.dims, embed_dims=width, num_layers=1, num_heads=heads)
        self.register_buffer('centers', torch.zeros(settings.codes, settings.code_dims))
        self.decay, self.commitment, self.grid = settings.decay, settings.commitment, source.grid

    def encode(self, pixels: Tensor) -> Tensor:
        """Encodings (B, L, code_dims), of length 1, of pixels (B, 3, H, W), 0 to 255."""
        return F.normalize(self.encoder(pixels, self.grid), dim=-1)

    def loss(self, pixels: Tensor, features: Tensor) -> Tensor:
        """One minus the cosine of what is told and the teacher's features (B, L, D), and the commitment (eq. 1).

        Gradients pass the codebook as if it were not there (straight-through); the codes follow as a moving average.
        """
        encoded = self.encode(pixels)
        flat = encoded.detach().flatten(0, 1)
        ids = nearest_codes(flat, self.centers)
        codes = self.centers[ids].view_as(encoded)
        if self.training:
            self.centers = moved_codes(self.centers, flat, ids, self.decay)
        passed = encoded + (codes - encoded).detach()
        told = self.decoder(TokenOutput(passed, passed.mean(dim=1), self.grid))
        cosine = F.cosine_similarity(told, features, dim=-1).mean()
        return 1 - cosine + self.commitment * F.mse_loss(encoded, codes)


def moved_codes(centers: Tensor, encoded: Tensor, ids: Tensor, decay: float) -> Tensor:
    """Codes (K, D) of length 1 after a step: each moves toward the direction of the mean of its encodings.

    ``normalize(decay * code + (1 - decay) * normalize(mean))`` as in BEiT v2's code; a code without any stays.

    Args:
        centers: before.
        encoded: (M, D), of length 1.
        ids: (M,), their codes.
        decay: of the moving average.
    """
    sums = torch.zeros_like(centers).index_add_(0, ids, encoded)
    there = torch.bincount(ids, minlength=len(centers)) > 0
    moved = F.normalize(decay * centers + (1 - decay) * F.normalize(sums, dim=1), dim=1)
    return torch.where(there[:, None], moved, centers)


def train_vq_kd(
    out: str | os.PathLike[str],
    teacher: KeptNetwork,
    images: ImageSet,
    settings: VQKDSettings,
    origin: dict[str, Any],
    device: torch.device | str = 'cpu',
    workers: int = 0,
    shown: tuple[int, int] = (16, 8),
    pause: float = 5.0,
    say: Callable[[str], object] = print,
) -> Trained:
    """Trains and writes the tokenizer; a killed run goes on where it was, to the bit on the CPU.

    Args:
        out: the file.
        teacher: whose patch features are to be told.
        images: squares of the teacher's size; they are flipped at random.
        settings: of the training.
        origin: see :func:`train_kmeans`.
        device: of networks and codes.
        workers: processes that read images.
        shown: of how many codes how many patches are given back.
        pause: seconds between two states of the run.
        say: is told in words what is being done.

    Raises:
        UsageError: fewer patches than codes, a loss that is not finite, or a state of another run.
    """
    state = RunState(out, {'method': 'VQ-KD', **asdict(settings), **origin, 'images': len(images)}, pause)
    length = teacher.source.grid[0] * teacher.source.grid[1]
    if len(images) * length < settings.codes:
        raise UsageError(f'--codes {settings.codes} are more than the {len(images) * length} patches of the images')
    model, source = VQKD(teacher, settings).to(device), teacher.source.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), settings.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    steps = settings.epochs * -(-len(images) // settings.batch_size)
    before = state.load('state')
    done = 0
    if before is not None:
        model.load_state_dict(before['model'])
        optimizer.load_state_dict(before['optimizer'])
        done = before['step']
        say(f'resumed at step {done}')
    else:
        model.centers = _first_codes(model, images, settings, device, workers)
    model.train()
    for pixels in track(_batches(images, settings, done, steps, workers), steps - done, 'VQ-KD'):
        warm = max(1, steps // 20)
        rate = settings.lr * min((done + 1) / warm, 0.5 * (1 + math.cos(math.pi * done / steps)))
        for group in optimizer.param_groups:
            group['lr'] = rate
        shown_pixels = pixels.to(device)
        with torch.no_grad():
            features = source(shown_pixels, source.grid)
        loss = model.loss(shown_pixels, features)
        if not loss.isfinite():
            raise UsageError(
                f'the loss of VQ-KD is {loss.item()} at step {done}: give a smaller --lr, or another teacher'
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done += 1
        values = dict(model=model.state_dict(), optimizer=optimizer.state_dict(), step=done)
        state.save('state', values, now=False)
    model.eval()
    rows = collect(
        model.encode, images, length, 200_000, settings.seed, settings.batch_size, workers, device, 'tokens of patches'
    )
    model.requires_grad_(False).cpu()
    about = {**origin, **asdict(settings), 'images': len(images), 'patches': len(rows.features)}
    made = write_codebook(
        out, 'VQKDTokenizer', model.settings, model.encoder, model.centers, rows.features, rows, images, about, shown
    )
    state.remove()
    return made._replace(steps=done)


def _first_codes(model: VQKD, images: ImageSet, settings: VQKDSettings, device: Any, workers: int) -> Tensor:
    """k-means of the first encodings."""
    length = model.grid[0] * model.grid[1]
    count = min(len(images) * length, FIRST * settings.codes)
    found = collect(
        model.encode, images, length, count, settings.seed, settings.batch_size, workers, device, 'first codes'
    )
    if len(found.features) < settings.codes:
        raise UsageError(f'--codes {settings.codes} are more than the {len(found.features)} patches that could be read')
    clusters = SphericalKMeans(found.features, settings.codes, settings.seed)
    for _ in range(FIRST_STEPS):
        clusters.advance()
    return clusters.centers.to(device)


def _batches(images: ImageSet, settings: VQKDSettings, done: int, steps: int, workers: int) -> Iterator[Tensor]:
    """Pixels of each step from ``done`` on, (B, 3, H, W) float32; what is random depends on the step alone."""
    each = -(-len(images) // settings.batch_size)
    order = []
    for epoch in range(settings.epochs):
        whole = torch.randperm(len(images), generator=keyed(settings.seed, 11, epoch)).tolist()
        order += [whole[start : start + settings.batch_size] for start in range(0, len(images), settings.batch_size)]
    assert len(order) == steps == each * settings.epochs
    for step, batch in enumerate(images.batches(order[done:], workers), start=done):
        flipped = torch.rand(len(batch.pixels), generator=keyed(settings.seed, 12, step)) < 0.5
        yield torch.where(flipped[:, None, None, None], batch.pixels.flip(3), batch.pixels).float()
