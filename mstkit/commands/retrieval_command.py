"""Measures mAP on revisited Oxford or Paris: ``mstkit retrieval SOURCE --data DIR --ground-truth FILE``.

DIR/jpg/NAME.jpg are the images, FILE is the official gnd_roxford5k.pkl or gnd_rparis6k.pkl (or JSON with the same
keys). SOURCE is a checkpoint of mstkit, timm:NAME, mmpretrain:NAME or random:CONFIG. DINO (arXiv 2104.14294) uses
--image-size 224 for Oxford and --image-size 512 --multiscale for Paris.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import torch

from mstkit.errors import UsageError, exit_cleanly
from mstkit.evaluation.benchmarks.revisited import GroundTruth, find_images, read_ground_truth, revisited_scores
from mstkit.evaluation.benchmarks.whole_image_features import (
    SCALES,
    WholeImages,
    patch_stride,
    whole_image_features,
)
from mstkit.networks import KINDS_IN_WORDS, Network, open_networks
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import output_file

GROUP = 'measure'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Retrieval on the revisited Oxford and Paris buildings.')
    parser.add_argument('source', help=KINDS_IN_WORDS)
    parser.add_argument('--data', required=True, help='folder in which jpg/ holds the images')
    parser.add_argument('--ground-truth', required=True, help='gnd_roxford5k.pkl, gnd_rparis6k.pkl or JSON')
    parser.add_argument('--branch', help='student or teacher; default: all that the checkpoint has')
    parser.add_argument('--image-size', type=int, default=512, help='px, the longer side of larger images')
    parser.add_argument('--multiscale', action='store_true', help='mean of the features at 1, 1/sqrt(2) and 1/2')
    parser.add_argument('--crop-queries', action='store_true', help='search with the building’s box only')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--num-workers', type=int, default=2, help='processes that load images')
    parser.add_argument('--json', metavar='OUT', help='also write the numbers to this file')
    return parser.parse_args()


def measure(
    network: Network, truth: GroundTruth, images: Sequence[WholeImages], args: argparse.Namespace
) -> dict[str, float]:
    """The scores of one network."""
    stride = patch_stride(network, args.device)
    if args.image_size < stride:
        raise UsageError(
            f'--image-size is {args.image_size}, less than a patch of {network.name}: give {stride} or more.'
        )
    queries, gallery = [
        whole_image_features(
            network.features,
            part,
            network.mean,
            network.std,
            stride,
            SCALES if args.multiscale else (1.0,),
            args.device,
            args.num_workers,
            f'{name} of {network.name}',
        )
        for name, part in zip(('queries', 'gallery'), images, strict=True)
    ]
    return revisited_scores(queries, gallery, truth)


@exit_cleanly
def main() -> None:
    """Loads, extracts, ranks, prints."""
    args = parse_args()
    if args.json:
        output_file('--json', args.json)
    if args.image_size < 1 or args.num_workers < 0:
        raise UsageError(f'--image-size {args.image_size} --num-workers {args.num_workers}: give at least 1 and 0.')
    truth = read_ground_truth(args.ground_truth)
    boxes = truth.boxes if args.crop_queries else ()
    if None in boxes:
        raise UsageError(f'{args.ground_truth} has no box for some queries: leave --crop-queries out.')
    queries, gallery = find_images(args.data, truth)
    images = (WholeImages(queries, args.image_size, boxes), WholeImages(gallery, args.image_size))
    networks = open_networks(args.source, args.branch, args.device)
    results = {network.name: measure(network, truth, images, args) for network in networks}
    print(f'retrieval, percent; {len(truth.queries)} queries in {len(truth.images)} images')
    metrics = list(dict.fromkeys(name.partition('_')[2] for name in next(iter(results.values()))))
    wide = max(map(len, results)) + 2
    print(f'{"":{wide}}{"protocol":10}' + ''.join(f'{name:>8}' for name in metrics))
    for name, scores in results.items():
        for protocol in dict.fromkeys(key.partition('_')[0] for key in scores):
            print(
                f'{name:{wide}}{protocol:10}' + ''.join(f'{scores[f"{protocol}_{metric}"]:8.2f}' for metric in metrics)
            )
    if args.json:
        options = {name: getattr(args, name) for name in ('image_size', 'multiscale', 'crop_queries')}
        content = {'source': args.source, 'ground_truth': args.ground_truth, **options, 'networks': results}
        write_atomically(args.json, (json.dumps(content, indent=2) + '\n').encode())
