"""Measures the k-NN accuracy of a checkpoint: ``mstkit knn CHECKPOINT --train DIR --val DIR``.

DIR has one sub-folder per class. The network and its normalization are those of the config in the checkpoint.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from mstkit.errors import UsageError, exit_cleanly
from mstkit.evaluation import (
    DEFAULT_KS,
    PooledEncoder,
    check_ks,
    extract_features,
    feature_loader,
    knn_accuracy,
    open_sets,
)
from mstkit.formats import read_pretrained
from mstkit.interop import BRANCH_PREFIXES, branch_state, load_strict, parse_config_text, trusted_part
from mstkit.networks import for_evaluation
from mstkit.registry import MODELS, TRANSFORMS
from mstkit.utils.config_parts import hook_configs
from mstkit.utils.files import write_atomically
from mstkit.utils.output_paths import output_file
from mstkit.utils.private_attributes import content_of
from mstkit.utils.shipped_files import find_config

GROUP = 'measure'  # of mstkit --help


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Weighted k-NN accuracy of the backbones in a checkpoint.')
    parser.add_argument('checkpoint', help='a checkpoint of mstkit, or of another program')
    parser.add_argument('--train', required=True, help='folder of the images of the bank, one sub-folder per class')
    parser.add_argument('--val', required=True, help='folder of the images to classify, with the same classes')
    parser.add_argument('--allow-overlap', action='store_true', help='measure although val has images of train')
    parser.add_argument('--branch', choices=tuple(BRANCH_PREFIXES), help='default: all that the checkpoint has')
    parser.add_argument('--k', type=int, nargs='+', default=list(DEFAULT_KS), help='numbers of neighbors')
    parser.add_argument('--temperature', type=float, default=0.07, help='of the votes')
    parser.add_argument('--config', help='config file, in place of the one in the checkpoint')
    parser.add_argument('--image-size', type=int, help='side of the central crop, in place of the config’s')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--num-workers', type=int, default=2, help='processes that load images')
    parser.add_argument('--json', metavar='OUT', help='also write the numbers to this file')
    return parser.parse_args()


def read_config(checkpoint: dict[str, Any], path: str | None) -> ConfigDict:
    """The config that describes the network: a file of the user's, or the text in the checkpoint."""
    if path is not None:
        config = content_of(Config.fromfile(find_config(path)))
    else:
        text = checkpoint.get('meta', {}).get('cfg')
        if not isinstance(text, str):
            if 'unknown' in checkpoint.get('meta', {}):
                raise UsageError(f'{checkpoint["meta"]["unknown"]}; or give the config of such a network by --config.')
            raise UsageError('the checkpoint carries no config; give the one that it was trained with by --config.')
        config = trusted(parse_config_text(text))
    if not isinstance(config.get('model'), dict) or 'backbone' not in config['model']:
        raise UsageError('the config has no model.backbone; give the config of a pre-training by --config.')
    return config


def trusted(config: ConfigDict) -> ConfigDict:
    """The config of a checkpoint, after checking that the parts built from it here are trusted classes."""
    model = config.get('model')
    if isinstance(model, dict) and 'backbone' in model:
        model['backbone'] = trusted_part(model['backbone'], 'model.backbone')
    for node, place in ((model, 'model.'), (config, '')):
        if isinstance(node, dict) and 'data_preprocessor' in node:
            node['data_preprocessor'] = trusted_part(node['data_preprocessor'], f'{place}data_preprocessor')
    for path, hook in hook_configs(config):
        images = hook.get('val_dataset')
        if isinstance(images, dict) and 'pipeline' in images:
            images['pipeline'] = trusted_part(images['pipeline'], f'{path}.val_dataset.pipeline', TRANSFORMS)
    return config


def view_pipeline(config: ConfigDict, image_size: int | None) -> list[dict[str, Any]]:
    """The transforms of an evaluated image: the config's own, or resize and central crop to a given size."""
    if image_size is not None:
        if image_size < 1:
            raise UsageError(f'--image-size is {image_size}; it must be at least 1.')
        view = dict(type='CenterView', resize=round(image_size * 256 / 224), crop=image_size)
        return [dict(type='LoadRGB'), view, dict(type='PackViews')]
    for _, hook in hook_configs(config):
        pipeline = hook.get('val_dataset', {}).get('pipeline') if hook.get('type') == 'KNNHook' else None
        if pipeline:
            # A config's data set may hold its images in memory; a folder's have to be read.
            has_reader = str(pipeline[0].get('type', '')).startswith('Load')
            return list(pipeline) if has_reader else [dict(type='LoadRGB'), *pipeline]
    raise UsageError('the config says nothing of how images are evaluated (no KNNHook); give --image-size.')


def build_device(name: str) -> torch.device:
    """The device; raises UsageError if it cannot be used."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f'device {name!r} cannot be used: {str(error).splitlines()[0]}') from error
    return device


def load_encoders(
    checkpoint: dict[str, Any], config: ConfigDict, branch: str | None, device: torch.device
) -> dict[str, nn.Module]:
    """Backbones with the checkpoint's weights, by branch; prints what was loaded."""
    keys = list(checkpoint['state_dict'])
    present = [name for name, prefix in BRANCH_PREFIXES.items() if any(key.startswith(prefix) for key in keys)]
    if branch is None and not present:
        raise UsageError(
            f'the checkpoint has no backbone; its keys start with {sorted({k.split(".")[0] for k in keys})}.'
        )
    encoders: dict[str, nn.Module] = {}
    for name in present if branch is None else [branch]:
        backbone = MODELS.build(config['model']['backbone'])
        if not hasattr(backbone, 'forward_tokens'):  # a backbone of the user's, of which nothing is declared
            raise UsageError(f'{type(backbone).__name__} gives no tokens (it has no forward_tokens).')
        print(load_strict(backbone, for_evaluation(branch_state(checkpoint, name), backbone), name))
        encoders[name] = PooledEncoder(backbone).to(device)
    return encoders


@exit_cleanly
def main() -> None:
    """Loads, extracts, compares, prints."""
    args = parse_args()
    if args.json:
        output_file('--json', args.json)
    ks = check_ks(args.k)
    device = build_device(args.device)
    checkpoint = read_pretrained(args.checkpoint)
    config = read_config(checkpoint, args.config)
    pipeline = view_pipeline(config, args.image_size)
    opened = open_sets(args.train, args.val, pipeline, args.allow_overlap)
    datasets = dict(zip(('train', 'val'), opened, strict=True))
    loaders = {name: feature_loader(one, args.batch_size, args.num_workers) for name, one in datasets.items()}
    encoders = load_encoders(checkpoint, config, args.branch, device)
    normalization = config['model'].get('data_preprocessor') or config.get('data_preprocessor') or {}
    preprocess = MODELS.build({'type': 'SelfSupDataPreprocessor', **normalization}).to(device)

    banks = {
        name: extract_features(encoders, loader, device, preprocess, f'{name} features')
        for name, loader in loaders.items()
    }
    results = {
        branch: knn_accuracy(banks['train'][branch], banks['val'][branch], ks, args.temperature, device=device)
        for branch in encoders
    }
    names = list(next(iter(results.values())))
    size = {name: len(dataset) for name, dataset in datasets.items()}
    print(f'k-NN, percent; bank {size["train"]} images, val {size["val"]} images')
    print(f'{"":10}' + ''.join(f'{name:>12}' for name in names))
    for branch, accuracy in results.items():
        print(f'{branch:10}' + ''.join(f'{accuracy[name]:12.2f}' for name in names))
    if args.json:
        content = {'checkpoint': args.checkpoint, 'images': size, 'branches': results}
        write_atomically(args.json, (json.dumps(content, indent=2) + '\n').encode())
