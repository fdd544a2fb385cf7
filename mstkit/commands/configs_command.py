"""Lists the configs that come with mstkit: ``mstkit configs [WORDS] [--method M] [--backbone B] [--data D]``.

Every line is a name, which stands for the file in every command, and what it trains. With ``--paths``, or where a
single config is left, the file and the command that runs it are shown, too.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mstkit.errors import UsageError, exit_cleanly, nearest
from mstkit.utils.shipped_files import config_names, from_here, shipped

GROUP = 'help'  # of mstkit --help

DATA = {  # what --data may be
    'folder': 'your own images, hundreds to tens of thousands',
    'imagenet': 'ImageNet-1k, or a part of it',
    'scenes': 'the built-in images, no files needed',
    'downstream': 'a labeled task after pre-training',
}


@dataclass(frozen=True)
class Config:
    """A config.

    Attributes:
        name: such as ``mst/mst_vit-tiny_folder``.
        method: its folder, in ``downstream`` the package that trains it.
        backbone: such as ``vit-tiny`` or ``resnet18``.
        data: a key of :data:`DATA`.
        sentence: what it trains, the first line of its docstring.
        path: of the file.
        command: that runs it.
    """

    name: str
    method: str
    backbone: str
    data: str
    sentence: str
    path: str
    command: str


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('words', nargs='*', metavar='WORDS', help='each occurs in the name or the sentence')
    parser.add_argument('--method', metavar='M', help='a folder of configs, such as mae')
    parser.add_argument('--backbone', metavar='B', help='a network, or how its name begins: swin, vit-s')
    parser.add_argument('--data', choices=tuple(DATA), help='; '.join(f'{name}: {what}' for name, what in DATA.items()))
    parser.add_argument('--paths', action='store_true', help='with the file and the command of each')
    parser.add_argument('--json', action='store_true', help='print all of it as JSON')
    return parser.parse_args()


def read_configs() -> list[Config]:
    """All configs, without running them."""
    return [read(name) for name in config_names()]


def read(name: str) -> Config:
    """What the name and the docstring of a config say."""
    path = shipped(f'configs/{name}.py')
    lines = (ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or '').splitlines()
    folder, _, stem = name.rpartition('/')
    parts = folder.split('/')
    downstream = parts[0] == 'downstream'
    data = data_of(stem, downstream)
    command = f'mstkit train {name}'
    if downstream:
        command += ' --pretrained FILE'
    if stem.endswith(('folder', 'persons')):
        command += ' --data-root DIR'
    return Config(
        name, parts[-1] if downstream else parts[0], backbone_of(stem), data, lines[0], str(from_here(path)), command
    )


def data_of(stem: str, downstream: bool) -> str:
    """The key of :data:`DATA` that a file name stands for."""
    if downstream:
        return 'downstream'
    ending = stem.rpartition('_')[2]
    return ending if ending in ('folder', 'scenes') else 'imagenet'


def backbone_of(stem: str) -> str:
    """The network in a file name: the part that begins with the name of a family."""
    families = ('vit', 'deit', 'swin', 'resnet')
    return next(part for part in stem.split('_') if part.startswith(families))


def fitting(configs: Sequence[Config], args: argparse.Namespace) -> list[Config]:
    """Those that were asked for.

    Raises:
        UsageError: there is none; the message says which of the filters leaves none.
    """
    methods, backbones = ({getattr(one, name) for one in configs} for name in ('method', 'backbone'))
    if args.method is not None and args.method.lower() not in methods:
        raise UsageError(
            f'--method {args.method}: no config is of it.{nearest(args.method, methods)} '
            f'There are {", ".join(sorted(methods))}.'
        )
    if args.backbone is not None and not any(name.startswith(args.backbone.lower()) for name in backbones):
        raise UsageError(f'--backbone {args.backbone}: no config has it. There are {", ".join(sorted(backbones))}.')
    left = [
        one
        for one in configs
        if (args.method is None or one.method == args.method.lower())
        and (args.backbone is None or one.backbone.startswith(args.backbone.lower()))
        and (args.data is None or one.data == args.data)
        and all(word.lower() in f'{one.name} {one.sentence}'.lower() for word in args.words)
    ]
    if not left:
        raise UsageError(f'none of the {len(configs)} configs fits all of this; leave a word or an option out.')
    return left


@exit_cleanly
def main() -> None:
    """Lists."""
    args = parse_args()
    left = fitting(read_configs(), args)
    if args.json:
        print(json.dumps([asdict(one) for one in left], indent=2))
        return
    width = max(len(one.name) for one in left)
    for one in left:
        print(f'{one.name:{width}}  {one.sentence}')
        if args.paths or len(left) == 1:
            print(f'    {one.path}\n    {one.command}')
