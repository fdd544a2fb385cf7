"""Measures accuracy on exchanged backgrounds: ``mstkit backgrounds SOURCE --head linear_head.pth --data DIR``.

DIR holds the variants of ImageNet-9 (Backgrounds Challenge) in the official layout, DIR/VARIANT/val/NN_class/*.JPEG;
--class-map in_to_in9.json is for a head of ImageNet's 1000 classes. Without a map, DIR holds any variants whose class
folders are classes of the head. tools/evaluation/evaluate.py writes the head with the setting linear.save. SOURCE is a
checkpoint of mstkit, timm:NAME@FILE or mmpretrain:NAME@FILE.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import torch

from mstkit.datasets import ImageFolder
from mstkit.errors import exit_cleanly
from mstkit.evaluation import EvaluatedNetwork
from mstkit.evaluation.evaluators.backgrounds import BackgroundsEvaluator
from mstkit.evaluation.protocols.linear_head import LinearHead, load_head
from mstkit.networks import Network, open_networks
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import output_file

GROUP = 'measure'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Accuracy of a linear head while backgrounds are exchanged.')
    parser.add_argument('source', help='FILE.pth, timm:NAME@FILE or mmpretrain:NAME@FILE')
    parser.add_argument('--head', required=True, help='linear_head.pth, trained on this network')
    parser.add_argument('--data', required=True, help='folder of the variants')
    parser.add_argument('--class-map', help='in_to_in9.json, for a head of ImageNet’s 1000 classes')
    parser.add_argument('--variants', nargs='+', help='sub-folders of --data; default: those of ImageNet-9, or all')
    parser.add_argument('--branch', help='student or teacher; default: the one that the head was trained on')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--num-workers', type=int, default=2, help='processes that load images')
    parser.add_argument('--json', metavar='OUT', help='also write the numbers to this file')
    return parser.parse_args()


def network_of(head: LinearHead, networks: list[Network]) -> Network:
    """The network on which the head was trained; if it is not among them, the first one, which the head refuses."""
    return next((network for network in networks if network.fingerprint == head.fingerprint), networks[0])


@exit_cleanly
def main() -> None:
    """Loads, checks, measures, prints."""
    args = parse_args()
    if args.json:
        output_file('--json', args.json)
    head = load_head(args.head)
    evaluator = BackgroundsEvaluator(head, args.data, args.class_map, args.variants)
    network = network_of(head, open_networks(args.source, args.branch, args.device))
    head.check(network)
    # EvaluatedNetwork needs train and val images, but this evaluation reads the variants instead.
    metainfo = None if args.class_map else dict(classes=head.classes)
    images = ImageFolder(evaluator.folder(evaluator.variants[0]), split='', labeled=True, metainfo=metainfo)
    evaluated = EvaluatedNetwork(
        network, images, images, args.device, batch_size=args.batch_size, num_workers=args.num_workers
    )
    evaluator.check(evaluated)
    metrics = evaluator(evaluated)
    print(f'backgrounds, percent; {network.name}, head {Path(args.head).name} of {len(head.classes)} classes')
    names = {f'backgrounds_{variant}_top1': variant for variant in evaluator.variants}
    names['backgrounds_gap'] = 'gap (mixed_same - mixed_rand)'
    for name, words in names.items():
        if name in metrics:
            print(f'{words:30}{metrics[name]:8.2f}')
    if evaluator.missing:
        print(f'not in {args.data}: {", ".join(evaluator.missing)}')
    if args.json:
        content = {
            'source': args.source,
            'network': network.name,
            'head': args.head,
            'class_map': args.class_map,
            'missing': evaluator.missing,
            'metrics': metrics,
        }
        write_atomically(args.json, (json.dumps(content, indent=2) + '\n').encode())
