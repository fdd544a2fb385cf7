"""Comparison of several networks on the same images: measures of their attention, and CKA of their layers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mstkit.analysis.attention_measures import AttentionMeasures, BlockMeasures
from mstkit.analysis.cka import LinearCKA, centered_gram
from mstkit.analysis.head_divergence import per_head


class NetworkMeasures(NamedTuple):
    """One network.

    Attributes:
        name: unique among the compared networks.
        about: a short description of the network.
        blocks: measures of the attention of each block.
        grams: for each batch of images (L, n, n) float64, :func:`mstkit.analysis.cka.centered_gram` of each block.
    """

    name: str
    about: str
    blocks: Sequence[BlockMeasures]
    grams: Sequence[Tensor]


class DroppedCurve(NamedTuple):
    """A metric as a function of the number of dropped last blocks.

    Attributes:
        network: name of the network.
        metric: name of the metric.
        where: 'end' or 'stage3'; see :func:`mstkit.analysis.truncation_loss.truncations`.
        points: (blocks dropped, value), beginning with the whole network.
    """

    network: str
    metric: str
    where: str
    points: Sequence[tuple[int, float]]


class Comparison(NamedTuple):
    """The data of one figure.

    Attributes:
        networks: in the order in which they are shown.
        cka: (L1, L2) for each pair of networks by their names, also of a network with itself.
        dropped: curves; may be empty.
    """

    networks: Sequence[NetworkMeasures]
    cka: Mapping[tuple[str, str], Tensor]
    dropped: Sequence[DroppedCurve] = ()


@torch.no_grad()
def measure_network(network: Any, name: str, about: str, batches: Iterable[Tensor]) -> NetworkMeasures:
    """Measures a network in one pass; of a batch of n images, only n x n numbers per block are kept.

    Args:
        network: a ``mstkit.networks.Network``.
        name: see :class:`NetworkMeasures`.
        about: likewise.
        batches: normalized images (n, 3, H, W), n at least 4; the same images in the same order for all networks.
    """
    measures, grams = AttentionMeasures(), []
    for images in batches:
        layers: list[Tensor] = []
        network.watch(
            images,
            on_tokens=lambda block, tokens, layers=layers: layers.append(centered_gram(tokens)),
            on_attention=measures.update,
        )
        grams.append(torch.stack(layers))
    return NetworkMeasures(name, about, measures.result(), grams)


def compare_layers(first: NetworkMeasures, second: NetworkMeasures) -> Tensor:
    """CKA of each block of one network with each of another: (L1, L2) float64."""
    measure = LinearCKA()
    for one, two in zip(first.grams, second.grams, strict=True):
        measure.update(one, two)
    return measure.result()


def compare_networks(networks: Sequence[NetworkMeasures], dropped: Sequence[DroppedCurve] = ()) -> Comparison:
    """Compares networks by CKA: each with itself and with all later ones."""
    cka = {
        (one.name, two.name): compare_layers(one, two) for index, one in enumerate(networks) for two in networks[index:]
    }
    return Comparison(networks, cka, dropped)


COLUMNS = (
    'network', 'measure', 'layer', 'stage', 'head', 'value', 'other_network', 'other_layer', 'other_head', 'dropped',
)  # fmt: skip


def comparison_csv(comparison: Comparison) -> str:
    """All numbers as CSV, one per line, with the columns :data:`COLUMNS`; cells that do not apply are empty.

    Layers, stages and heads count from 1. The divergences of a head to all others have no ``other_head``, those of
    two heads do.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator='\n')
    writer.writeheader()
    for network in comparison.networks:
        for block in network.blocks:
            place = dict(network=network.name, layer=block.block + 1, stage=block.stage + 1)
            writer.writerows({**place, **row} for row in _of_block(block))
    for (one, two), matrix in comparison.cka.items():
        for (layer, other), value in _cells(matrix):
            writer.writerow(
                dict(network=one, measure='cka', layer=layer, value=value, other_network=two, other_layer=other)
            )
    for curve in comparison.dropped:
        measure = f'{curve.metric}_without_last_of_{curve.where}'
        for count, value in curve.points:
            writer.writerow(dict(network=curve.network, measure=measure, value=value, dropped=count))
    return text.getvalue()


def _of_block(block: BlockMeasures) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    matrices = dict(kl=block.divergence.kl, kl_symmetric=block.divergence.symmetric, js=block.divergence.js)
    heads = {'attention_distance_px': block.distance, 'attention_entropy_nats': block.entropy}
    heads |= {f'{name}_nats': per_head(matrix) for name, matrix in matrices.items() if len(matrix) > 1}
    for measure, values in heads.items():
        rows += [dict(measure=measure, head=head, value=value) for head, value in enumerate(values.tolist(), 1)]
    for name, matrix in matrices.items():
        rows += [
            dict(measure=f'{name}_nats', head=head, other_head=other, value=value)
            for (head, other), value in _cells(matrix)
            if head != other
        ]
    rows.append(dict(measure='uniform_distance_px', value=block.uniform_distance))
    rows.append(dict(measure='uniform_entropy_nats', value=block.uniform_entropy))
    return rows


def _cells(matrix: Tensor) -> list[tuple[tuple[int, int], float]]:
    rows = enumerate(matrix.tolist(), 1)
    return [((row, column), value) for row, values in rows for column, value in enumerate(values, 1)]
