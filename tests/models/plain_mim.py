"""MAE, SimMIM and MaskFeat written plainly from their formulas, image by image, in float64, as a reference."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    made = x @ weights[f'{name}.weight'].T
    return made + weights[f'{name}.bias'] if f'{name}.bias' in weights else made


def normed(x: Tensor, weights: Weights, name: str) -> Tensor:
    centered = x - x.mean(dim=-1, keepdim=True)
    variance = (centered**2).mean(dim=-1, keepdim=True)
    return centered / (variance + 1e-6).sqrt() * weights[f'{name}.weight'] + weights[f'{name}.bias']


def attention(x: Tensor, weights: Weights, name: str, heads: int, biases: Tensor | None = None) -> Tensor:
    """Of the tokens (T, C) of one image; biases (T, T, heads) by the positions of query and key."""
    width = x.shape[1] // heads
    qkv = linear(x, weights, f'{name}.qkv')
    if f'{name}.q_bias' in weights:  # BEiT's, without one of the keys
        qkv = qkv + torch.cat((weights[f'{name}.q_bias'], 0 * weights[f'{name}.q_bias'], weights[f'{name}.v_bias']))
    mixed = []
    for head in range(heads):
        query, key, value = (qkv[:, part * x.shape[1] + head * width :][:, :width] for part in range(3))
        logits = query @ key.T / math.sqrt(width)
        if biases is not None:
            logits = logits + biases[:, :, head]
        mixed.append(torch.softmax(logits, dim=1) @ value)
    return linear(torch.cat(mixed, dim=1), weights, f'{name}.proj')


def layers(
    x: Tensor, weights: Weights, name: str, count: int, heads: int, grid: tuple[int, int] | None = None
) -> Tensor:
    """Of the tokens (T, C) of one image; where there are biases by position, of a class token and all of a grid."""
    for depth in range(count):
        layer = f'{name}.{depth}'
        table = weights.get('backbone.rel_pos_bias.relative_position_bias_table')
        table = weights.get(f'{layer}.attn.relative_position_bias_table', table)
        biases = None if table is None or grid is None else position_biases(table, grid)
        seen = attention(normed(x, weights, f'{layer}.ln1'), weights, f'{layer}.attn', heads, biases)
        x = x + weights.get(f'{layer}.attn.gamma1.weight', 1) * seen
        hidden = linear(normed(x, weights, f'{layer}.ln2'), weights, f'{layer}.ffn.layers.0.0')
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        made = linear(hidden, weights, f'{layer}.ffn.layers.1')
        x = x + weights.get(f'{layer}.ffn.gamma2.weight', 1) * made
    return x


def position_biases(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """BEiT's, (T, T, heads) of a class token and all patches: an entry for each offset, then three for the token."""
    height, width = grid
    cells = (2 * height - 1) * (2 * width - 1)
    rows = [torch.stack([table[cells + 2], *[table[cells]] * (height * width)])]
    for y in range(height):
        for x in range(width):
            row = [table[cells + 1]]
            for other in range(height):
                for place in range(width):
                    row.append(table[(y - other + height - 1) * (2 * width - 1) + x - place + width - 1])
            rows.append(torch.stack(row))
    return torch.stack(rows)


def position(row: int, column: int, dims: int) -> Tensor:
    """MAE's: sines and cosines of the column, then of the row."""
    values = []
    for place in (column, row):
        angles = [place / 10000 ** (i / (dims // 4)) for i in range(dims // 4)]
        values += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
    return torch.tensor(values, dtype=torch.float64)


def patches(image: Tensor, side: int) -> list[tuple[int, int, Tensor]]:
    """Row, column and pixels (3, side, side) of each patch, row by row."""
    rows, columns = image.shape[1] // side, image.shape[2] // side
    return [
        (row, column, image[:, row * side : (row + 1) * side, column * side : (column + 1) * side])
        for row in range(rows)
        for column in range(columns)
    ]


def embedded(pixels: Tensor, weights: Weights) -> Tensor:
    """A patch through the patch projection: (C,)."""
    projection = weights['backbone.patch_embed.projection.weight']
    return (projection * pixels).sum(dim=(1, 2, 3)) + weights['backbone.patch_embed.projection.bias']


def mae_target(pixels: Tensor, norm: bool) -> Tensor:
    """Pixel by pixel, the three channels of each side by side; by the patch's own mean and unbiased variance."""
    side = pixels.shape[1]
    values = torch.stack([pixels[c, y, x] for y in range(side) for x in range(side) for c in range(3)])
    if not norm:
        return values
    mean = values.sum() / len(values)
    variance = ((values - mean) ** 2).sum() / (len(values) - 1)
    return (values - mean) / (variance + 1e-6).sqrt()


def depth_of(weights: Weights, name: str) -> int:
    return len({key.split(f'{name}.')[1].split('.')[0] for key in weights if key.startswith(f'{name}.')})


def visible_tokens(
    image: Tensor,
    hidden: Tensor,
    weights: Weights,
    side: int,
    heads: int,
    depth: int,
    factors: Tensor | None = None,
) -> Tensor:
    """What the first ``depth`` layers make of class token and visible patches of one image, (1 + V, C).

    With factors (h, w) the embedding of each patch is multiplied by its own.
    """
    dims = weights['backbone.cls_token'].shape[-1]
    tokens = [weights['backbone.cls_token'].flatten()]  # its position is zero
    for row, column, pixels in patches(image, side):
        if not hidden[row, column]:
            token = embedded(pixels, weights) + position(row, column, dims)
            tokens.append(token if factors is None else factors[row, column] * token)
    return layers(torch.stack(tokens), weights, 'backbone.layers', depth, heads)


def decoded(
    seen: Tensor, hidden: Tensor, weights: Weights, decoder: str, heads: int, thrown: Tensor | None = None
) -> Tensor:
    """What MAE's decoder makes of class token and visible patches, before its last linear layer: (L, C).

    With AMT's throwing, some patches, (h, w) True, do not exist at all and have no row.
    """
    seen = linear(seen, weights, f'{decoder}.embed')
    dims, whole, visible = seen.shape[1], [seen[0]], 1
    for row, column in np.ndindex(*hidden.shape):
        if thrown is not None and thrown[row, column]:
            continue
        if hidden[row, column]:
            token = weights[f'{decoder}.mask_token'].flatten()
        else:
            token, visible = seen[visible], visible + 1
        whole.append(token + position(row, column, dims))
    made = layers(torch.stack(whole), weights, f'{decoder}.layers', depth_of(weights, f'{decoder}.layers'), heads)
    return normed(made, weights, f'{decoder}.norm')[1:]


def mae_loss(
    images: Tensor,
    mask: Tensor,
    weights: Weights,
    side: int,
    heads: tuple[int, int],
    norm: bool,
    thrown: Tensor | None = None,
    factors: Tensor | None = None,
) -> Tensor:
    """MAE's: images (B, 3, H, W), mask (B, h, w) True where hidden; heads of encoder and decoder.

    With AMT's throwing, some patches, (B, h, w) True, do not exist at all; factors (B, h, w) are those of embeddings.
    """
    thrown = torch.zeros_like(mask) if thrown is None else thrown
    factors = torch.ones(mask.shape, dtype=torch.float64) if factors is None else factors
    depth, decoder = depth_of(weights, 'backbone.layers'), 'objectives.predict.decoder'
    total, count = torch.zeros((), dtype=torch.float64), 0
    for image, hidden, gone, factor in zip(images.double(), mask, thrown, factors, strict=True):
        seen = visible_tokens(image, hidden | gone, weights, side, heads[0], depth, factor)
        seen = normed(seen, weights, 'backbone.ln1')
        made = linear(decoded(seen, hidden, weights, decoder, heads[1], gone), weights, f'{decoder}.predict')
        cut = [one for one in patches(image, side) if not gone[one[0], one[1]]]
        for (row, column, pixels), predicted in zip(cut, made, strict=True):
            if hidden[row, column]:
                total = total + ((predicted - mae_target(pixels, norm)) ** 2).mean()
                count += 1
    return total / count


Cells = dict[tuple[int, ...], Tensor]


def rescaled(cells: Cells, weights: Weights, name: str, scale: float) -> Cells:
    """The values of LocalMIM's finer or coarser grid from the tokens of the patches, by row and column."""
    for step in range(round(math.log2(scale)) if scale > 1 else 0):
        if step:
            cells = {place: normed(one, weights, f'{name}.layers.{3 * step - 2}') for place, one in cells.items()}
            cells = {place: one * 0.5 * (1 + torch.erf(one / math.sqrt(2))) for place, one in cells.items()}
        kernel, bias = (weights[f'{name}.layers.{3 * step}.{part}'] for part in ('weight', 'bias'))
        cells = {
            (2 * row + y, 2 * column + x): one @ kernel[:, :, y, x] + bias
            for (row, column), one in cells.items()
            for y in range(2)
            for x in range(2)
        }
    if scale < 1:
        n = round(1 / scale)
        cells = {
            (row, column): torch.stack([cells[n * row + y, n * column + x] for y in range(n) for x in range(n)]).mean(0)
            for row, column in {(row // n, column // n) for row, column in cells}
        }
    flat = weights[f'{name}.to_values.weight'].flatten(1).T
    return {place: one @ flat + weights[f'{name}.to_values.bias'] for place, one in cells.items()}


def local_mim_loss(
    images: Tensor,
    mask: Tensor,
    weights: Weights,
    side: int,
    heads: tuple[int, int],
    blocks: Mapping[str, tuple[int, float]],
    norm_pix: bool | None = None,
) -> Tensor:
    """LocalMIM's: for each objective its block, counted from 1, and its scale; HOG, or with ``norm_pix`` pixels."""
    depth, whole = depth_of(weights, 'backbone.layers'), torch.zeros((), dtype=torch.float64)
    for name, (block, scale) in blocks.items():
        own, total, share = f'objectives.{name}', torch.zeros((), dtype=torch.float64), 0.0
        cell = round(side / scale)
        for image, hidden in zip(images.double(), mask, strict=True):
            seen = visible_tokens(image, hidden, weights, side, heads[0], block)
            seen = normed(seen, weights, 'backbone.ln1' if block == depth else f'{own}.norm')
            tokens = decoded(seen, hidden, weights, f'{own}.decoder', heads[1])
            last, places = f'{own}.decoder.predict', list(np.ndindex(*hidden.shape))
            if scale == 1:
                made = dict(zip(places, linear(tokens, weights, last), strict=True))
            else:
                made = rescaled(dict(zip(places, tokens, strict=True)), weights, last, scale)
            histograms = hog(image, cell, 9, 0) if norm_pix is None else None
            for row, column, pixels in patches(image, cell):
                top, left = row * cell // side, column * cell // side
                covered = hidden[top : top + max(1, cell // side), left : left + max(1, cell // side)]
                weight = covered.double().mean().item()
                target = mae_target(pixels, norm_pix) if histograms is None else histograms[row, column].flatten()
                total = total + weight * ((made[row, column] - target) ** 2).mean()
                share += weight
        whole = whole + total / share
    return whole


def standard(x: Tensor) -> Tensor:
    """The last axis at mean 0 and variance 1."""
    centered = x - x.mean(dim=-1, keepdim=True)
    return centered / ((centered**2).mean(dim=-1, keepdim=True) + 1e-5).sqrt()


def dbot_loss(
    images: Tensor, mask: Tensor, weights: Weights, frozen: Weights, side: int, heads: tuple[int, int]
) -> Tensor:
    """dBOT's: smooth L1 with beta 2 of the standardized output of the last block of another ViT of the same kind."""
    depth, decoder = depth_of(weights, 'backbone.layers'), 'objectives.predict.decoder'
    errors = []
    for image, hidden in zip(images.double(), mask, strict=True):
        whole = torch.zeros_like(hidden)
        features = standard(visible_tokens(image, whole, frozen, side, heads[0], depth)[1:])
        seen = normed(visible_tokens(image, hidden, weights, side, heads[0], depth), weights, 'backbone.ln1')
        made = linear(decoded(seen, hidden, weights, decoder, heads[1]), weights, f'{decoder}.predict')
        error = (made - features)[hidden.flatten()].abs()
        errors.append(torch.where(error < 2, error**2 / 4, error - 1).flatten())
    return torch.cat(errors).mean()


def masked_tokens(image: Tensor, hidden: Tensor, weights: Weights, side: int, heads: int) -> Tensor:
    """What a ViT makes of an image with [MASK] tokens in hidden places: the normed patch tokens (L, C)."""
    depth = len({key.split('.')[2] for key in weights if key.startswith('backbone.layers.')})
    tokens = [weights['backbone.cls_token'].flatten()]
    for row, column, pixels in patches(image, side):
        tokens.append(weights['mask_token'] if hidden[row, column] else embedded(pixels, weights))
    placed = torch.stack(tokens)
    if 'backbone.pos_embed' in weights:
        placed = placed + weights['backbone.pos_embed'][0]
    grid = image.shape[1] // side, image.shape[2] // side
    return normed(layers(placed, weights, 'backbone.layers', depth, heads, grid), weights, 'backbone.ln1')[1:]


def hog(image: Tensor, cell: int, bins: int, window: int) -> Tensor:
    """Histograms of one image in float64: (rows of cells, columns of cells, 3, bins), each of length 1."""
    _, height, width = image.shape
    values = image.tolist()  # reading a tensor number by number takes twenty times as long

    def pixel(channel: int, y: int, x: int) -> float:
        y, x = abs(y), abs(x)  # the border is a mirror
        y = 2 * height - 2 - y if y >= height else y
        x = 2 * width - 2 - x if x >= width else x
        return values[channel][y][x]

    found = np.zeros((height // cell, width // cell, 3, bins))
    for channel in range(3):
        for y in range(height):
            for x in range(width):
                right, left, above, below = 0.0, 0.0, 0.0, 0.0
                for step, weight in ((-1, 1), (0, 2), (1, 1)):
                    right += weight * pixel(channel, y + step, x + 1)
                    left += weight * pixel(channel, y + step, x - 1)
                    above += weight * pixel(channel, y - 1, x + step)
                    below += weight * pixel(channel, y + 1, x + step)
                across, down = left - right, above - below
                vote = math.hypot(across, down)
                if window:
                    middle, deviation = (window - 1) / 2, window // 2
                    vote *= math.exp(-0.5 * ((y % window - middle) ** 2 + (x % window - middle) ** 2) / deviation**2)
                place = math.floor(math.atan2(across, down) / math.pi * bins) % bins
                found[y // cell, x // cell, channel, place] += vote
    lengths = np.sqrt((found**2).sum(axis=-1, keepdims=True))
    return torch.from_numpy(found / np.where(lengths > 0, lengths, 1.0))


def maskfeat_loss(images: Tensor, mask: Tensor, weights: Weights, side: int, heads: int) -> Tensor:
    """MaskFeat's with a ViT whose patches are cells of 8 px or several of them."""
    total, count, cells = torch.zeros((), dtype=torch.float64), 0, side // 8
    for image, hidden in zip(images.double(), mask, strict=True):
        seen = masked_tokens(image, hidden, weights, side, heads)
        made = linear(seen, weights, 'objectives.predict.decoder.to_values')
        histograms = hog(image, 8, 9, 16)
        for (row, column, _), predicted in zip(patches(image, side), made, strict=True):
            if hidden[row, column]:
                cut = histograms[row * cells : (row + 1) * cells, column * cells : (column + 1) * cells]
                for y in range(cells):
                    for x in range(cells):
                        for channel in range(3):
                            for place in range(9):
                                value = predicted[((channel * 9 + place) * cells + y) * cells + x]
                                total = total + (value - cut[y, x, channel, place]) ** 2
                count += 27 * cells**2
    return total / count


def simmim_loss(images: Tensor, mask: Tensor, weights: Weights, side: int, heads: int) -> Tensor:
    """SimMIM's with a ViT: the mean absolute error of hidden pixels, a patch's a channel after the other."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for image, hidden in zip(images.double(), mask, strict=True):
        seen = masked_tokens(image, hidden, weights, side, heads)
        made = linear(seen, weights, 'objectives.predict.decoder.to_values')
        for (row, column, pixels), predicted in zip(patches(image, side), made, strict=True):
            if hidden[row, column]:
                for channel in range(3):
                    for y in range(side):
                        for x in range(side):
                            value = predicted[channel * side**2 + y * side + x]
                            total = total + (value - pixels[channel, y, x]).abs()
                count += 3 * side**2
    return total / count


def beit_loss(images: Tensor, mask: Tensor, ids: Tensor, weights: Weights, side: int, heads: int) -> Tensor:
    """BEiT's: minus the log of the softmax at the id of each hidden patch; ids (B, L)."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for image, hidden, codes in zip(images.double(), mask, ids, strict=True):
        tokens = masked_tokens(image, hidden, weights, side, heads)
        for token, place, code in zip(tokens, hidden.flatten(), codes, strict=True):
            if place:
                logits = linear(token, weights, 'objectives.predict.decoder.to_values')
                total = total + torch.log(torch.exp(logits - logits.max()).sum()) + logits.max() - logits[code]
                count += 1
    return total / count


def data2vec_targets(images: Tensor, weights: Weights, side: int, heads: int, top: int) -> Tensor:
    """Mean of the outputs of the last ``top`` layers, each normalized, of the mean normalized: (B, L, C)."""
    depth, found = len({key.split('.')[2] for key in weights if key.startswith('backbone.layers.')}), []
    for image in images.double():
        cut = [embedded(pixels, weights) for _, _, pixels in patches(image, side)]
        grid = image.shape[1] // side, image.shape[2] // side
        tokens = torch.stack([weights['backbone.cls_token'].flatten(), *cut])
        ends = [
            layers(tokens, weights, 'backbone.layers', count, heads, grid)[1:]
            for count in range(depth - top + 1, depth + 1)
        ]
        found.append(standard(torch.stack([standard(end) for end in ends]).mean(dim=0)))
    return torch.stack(found)


def data2vec_loss(
    images: Tensor, mask: Tensor, weights: Weights, teacher: Weights, side: int, heads: int, top: int
) -> Tensor:
    """data2vec's: smooth L1 with beta 2, quadratic below an error of 2, of the channels of hidden patches."""
    targets, total, count = data2vec_targets(images, teacher, side, heads, top), torch.zeros(()).double(), 0
    for image, hidden, features in zip(images.double(), mask, targets, strict=True):
        tokens = masked_tokens(image, hidden, weights, side, heads)
        made = linear(tokens, weights, 'objectives.predict.decoder.to_values')
        errors = (made - features)[hidden.flatten()].abs()
        total = total + torch.where(errors < 2, errors**2 / 4, errors - 1).sum()
        count += errors.numel()
    return total / count
