"""Evaluates networks with a suite of evaluations: ``mstkit evaluate SOURCE --train DIR --val DIR``.

Several sources, or the branches of a checkpoint, are compared: results.json, results.md and results.png in the work
dir. Features are cached, so that the same command continues after an interruption.
"""

from __future__ import annotations

import argparse
import functools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import mstkit.registry  # noqa: F401  (first: it imports torch and mmpretrain, see mstkit/_dependencies.py)

# isort: split
import torch
from mmengine.utils import import_modules_from_strings

from mstkit.engine.config.config_options import OptionsAction
from mstkit.errors import UsageError, exit_cleanly
from mstkit.evaluation import EvaluatedNetwork, FeatureCache, open_sets
from mstkit.evaluation.image_hits import ImageHits, JudgesImages, Judgment, names_of_images, write_hits
from mstkit.evaluation.suite import (
    Evaluator,
    SuiteResult,
    build_suite,
    known_evaluations,
    run_suite,
    settings_by_evaluation,
)
from mstkit.evaluation.suite_files import is_work_dir, write_beside, write_results
from mstkit.evaluation.suite_table import DEVIATION, markdown_table, plain_table
from mstkit.networks import KINDS_IN_WORDS, Network, open_networks
from mstkit.utils.files import write_atomically
from mstkit.utils.home_folder import expanded
from mstkit.utils.output_paths import output_folder
from mstkit.visualization.dot_plot import draw_dots

GROUP = 'measure'  # of mstkit --help

IMAGE = 'results.png'


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', nargs='+', help=KINDS_IN_WORDS)
    parser.add_argument('--train', required=True, metavar='DIR', help='images to learn from, one sub-folder per class')
    parser.add_argument('--val', required=True, metavar='DIR', help='images to judge, with the same classes')
    parser.add_argument('--allow-overlap', action='store_true', help='measure although val has images of train')
    parser.add_argument(
        '--suite', default='knn,linear,lowshot,cluster', metavar='E,E', help=f'among {", ".join(known_evaluations())}'
    )
    parser.add_argument(
        '--set', nargs='+', action=OptionsAction, default={}, metavar='E.SETTING=VALUE', help='such as knn.ks=10,20'
    )
    parser.add_argument('--import', nargs='+', dest='imports', default=[], metavar='MODULE', help='your evaluations')
    parser.add_argument('--branch', help='student or teacher; default: all that a checkpoint has')
    parser.add_argument('--work-dir', default='work_dirs/evaluation', metavar='DIR', help='for the results')
    parser.add_argument(
        '--hits', metavar='DIR', help='for which val images are right, EVALUATION.npz each (of a single network)'
    )
    parser.add_argument('--cache', metavar='DIR', help='for features; WORK_DIR/feature_cache by default')
    parser.add_argument('--seed', type=int, default=0, help='of all random choices')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--batch-size', type=int, default=64, help='images per forward pass')
    parser.add_argument('--num-workers', type=int, default=2, help='processes that load images')
    return parser.parse_args()


def build(args: argparse.Namespace) -> dict[str, Evaluator]:
    """Imports the modules of --import and builds the suite."""
    for module in args.imports:
        try:
            import_modules_from_strings(module)
        except ImportError as error:
            raise UsageError(f'--import {module}: {error}; is its folder in PYTHONPATH?') from error
    return build_suite([name.strip() for name in args.suite.split(',') if name.strip()], args.set)


def open_all(args: argparse.Namespace) -> list[tuple[str, Network]]:
    """Opens the networks; returns (source, network) with unique names, and prints what was loaded."""
    opened = [
        (source, network)
        for source in dict.fromkeys(args.source)
        for network in open_networks(source, args.branch, args.device)
    ]
    names = [network.name for _, network in opened]
    for source, network in opened:
        if names.count(network.name) > 1:
            network.name = f'{network.name} ({source})'
        print(f'{network.name}: {network.origin}')
    return opened


def prepare(args: argparse.Namespace, suite: dict[str, Evaluator]) -> list[tuple[EvaluatedNetwork, SuiteResult]]:
    """Everything that may be wrong shows here, before any features are computed."""
    if args.batch_size < 1 or args.num_workers < 0:
        raise UsageError(f'--batch-size {args.batch_size} --num-workers {args.num_workers}: give at least 1 and 0.')
    train, val = open_sets(args.train, args.val, allow_overlap=args.allow_overlap)
    pairs = []
    for source, network in open_all(args):
        evaluated = EvaluatedNetwork(network, train, val, args.device, args.seed, args.batch_size, args.num_workers)
        for evaluator in suite.values():
            evaluator.check(evaluated)
        learned_from, judged_on = (str(Path(folder.folder).resolve()) for folder in (train, val))
        result = SuiteResult(
            network.name, source, network.branch, network.fingerprint, learned_from, judged_on, seed=args.seed
        )
        result.settings = settings_by_evaluation(args.set)
        pairs.append((evaluated, result))
    cache = FeatureCache(args.cache or Path(args.work_dir) / 'feature_cache')
    for evaluated, _ in pairs:
        evaluated.cache = cache
    return pairs


def check_hits(suite: dict[str, Evaluator]) -> None:
    """Refuses --hits for evaluations that classify no images."""
    without = [name for name, evaluator in suite.items() if not isinstance(evaluator, JudgesImages)]
    if without:
        raise UsageError(f'--hits: {", ".join(without)} cannot say which val images are right; leave that out.')


def keep_hits(folder: Path, images: tuple[str, ...], name: str, judgment: Judgment) -> None:
    """Writes which val images an evaluation has classified correctly."""
    write_hits(folder / f'{name}.npz', ImageHits(images, judgment.hits.numpy(), judgment.metric))


def write_page(results: Sequence[SuiteResult], folder: Path) -> None:
    """Writes the table, failures and the plot as a Markdown page."""
    first = results[0]
    page = ['# Evaluation', f'Learned from {first.train}, judged on {first.val}; seed {first.seed}.']
    page.append(markdown_table(results))
    failed = [f'- {name} of {result.name}: {why}' for result in results for name, why in result.failed.items()]
    page += ['\n'.join(['Failed:', '', *failed])] if failed else []
    page += [f'![the numbers that stand for each evaluation]({IMAGE})'] if draw(results, folder / IMAGE) else []
    page += [f'```bash\npython {shlex.join(sys.argv)}\n```']
    write_atomically(folder / 'results.md', ('\n\n'.join(page) + '\n').encode())


def draw(results: Sequence[SuiteResult], path: Path) -> bool:
    """Plots the headlines; returns False if there are none."""
    values: dict[str, dict[str, float]] = {}
    deviations: dict[str, dict[str, float]] = {}
    for result in results:
        for evaluation, metrics in result.metrics.items():
            for metric in result.headlines[evaluation]:
                row = f'{evaluation}: {metric}'
                values.setdefault(row, {})[result.name] = metrics[metric]
                deviations.setdefault(row, {})[result.name] = metrics.get(metric + DEVIATION, 0.0)
    if values:
        draw_dots(values, [result.name for result in results], path, deviations=deviations)
    return bool(values)


@exit_cleanly
def main() -> None:
    """Runs the suite and writes the results; exits with 1 if an evaluation failed."""
    args = parse_args()
    output_folder('--work-dir', args.work_dir)
    if args.cache:
        output_folder('--cache', args.cache)
    suite = build(args)
    if args.hits:
        output_folder('--hits', args.hits)
        check_hits(suite)
    waiting = prepare(args, suite)
    if args.hits and len(waiting) > 1:
        names = ', '.join(result.name for _, result in waiting)
        raise UsageError(f'--hits {args.hits}: give a single network (--branch chooses one), not {names}.')
    results, folder = [result for _, result in waiting], Path(args.work_dir)
    while waiting:  # pop, so that the features of finished networks are freed
        evaluated, result = waiting.pop(0)
        run_suite(
            suite,
            evaluated,
            result,
            lambda _: write_results(results, folder / 'results.json'),
            functools.partial(keep_hits, Path(args.hits), names_of_images(evaluated)) if args.hits else None,
        )
        checkpoint = expanded(result.source)
        if checkpoint.is_file() and is_work_dir(checkpoint.parent):
            print(f'{result.name}: results are in {write_beside(checkpoint, result)}')
    write_page(results, folder)
    print(f'\n{plain_table(results)}\n\n{folder / "results.md"}, results.json and {IMAGE}')
    for result in results:
        for name, why in result.failed.items():
            print(f'error: {name} of {result.name}: {why}')
    if any(result.failed for result in results):
        sys.exit(1)
