"""Every command in the documentation is one that the tools understand."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from mstkit import toolbox
from mstkit.commands.ablate_command import split_words
from mstkit.engine.launch.command_line import parse_seeds
from mstkit.engine.launch.launch import load_config, read_config
from mstkit.experiments.ablation import make_plan
from mstkit.experiments.cell_evaluations import check_measures
from mstkit.models.maskers.random_twins import random_twin
from mstkit.registry import MODELS
from tests.programs import CHAOS

from .pages import (
    FOLDER_CONFIG,
    PAGES,
    ROOT,
    commands,
    commands_by_name,
    named_files,
    parser_of,
    spans,
    text_of,
    tool_of,
)
from .pages import tool as module_of

SCRIPTS = {  # what comes before the options of which tool
    'dist_train.sh': (('config', 'processes'), 'train.py'),
    'dist_test.sh': (('config', 'checkpoint', 'processes'), 'test.py'),
    'slurm_train.sh': (('partition', 'job', 'config', 'work_dir'), 'train.py'),
}
TOOLS = (
    'train.py',
    'test.py',
    'demo.py',
    'evaluation/evaluate.py',
    'evaluation/knn.py',
    'evaluation/backgrounds.py',
    'evaluation/retrieval.py',
    'evaluation/video_segmentation.py',
    'evaluation/depth.py',
    'evaluation/keypoints.py',
    'evaluation/tracking.py',
    'ablate.py',
    'analysis/compare_masks.py',
    'analysis/preview_masks.py',
    'analysis/attention_maps.py',
    'analysis/dark_secrets.py',
    'report.py',
    'transfer.py',
    'train_tokenizer.py',
    'make_scenes.py',
    'make_shards.py',
    'consolidate.py',
    'replay.py',
    'embed.py',
    'dataset_converters/cityscapes_train_ids.py',
)
CHOICES = ROOT / 'configs' / '_base_' / 'ablation_choices.py'
LAUNCH_OPTIONS = ('cfg_options', 'data_root', 'seed', 'epochs', 'resume', 'auto_scale_lr', 'amp')


@pytest.mark.parametrize(('page', 'command'), commands())
def test_commands_are_understood(page, command, inside):
    words = shlex.split(command, comments=True)
    while re.fullmatch(r'[A-Z_]+=\S*', words[0]):
        words.pop(0)
    program, *rest = words
    if program == 'make':
        check_make(rest)
    elif program == 'pip':
        check_pip(rest)
    elif program == 'source':
        assert rest == ['.venv/bin/activate']
    elif program == 'bash':
        check_script(rest[0].removeprefix('tools/'), rest[1:])
    elif program == 'mstkit':
        check_mstkit(rest)
    elif program == 'torchrun':
        assert rest[0] == '--nproc_per_node' and rest[1].isdigit() and rest[2] == '-m'
        check_module(rest[3], rest[4:])
    elif Path(program).name in ('python', 'python3') and rest[0] == '-m':
        check_module(rest[1], rest[2:])
    else:
        assert Path(program).name == 'python', command
        if rest[0].startswith(('benchmarks/', CHAOS)):
            check_benchmark(rest[0], rest[1:])
            return
        assert rest[0].startswith('tools/'), command
        check_tool(rest[0].removeprefix('tools/'), rest[1:])


@functools.cache
def known_options() -> set[str]:
    others = [name for name in commands_by_name() if tool_of(name) == name and name != 'toolbox']
    return {option for tool in (*TOOLS, *others) for option in parser_of(tool)._option_string_actions}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_options_in_the_text_exist(page, inside):
    known = known_options()
    for span in spans(page):
        if not span.startswith('--'):
            continue
        unknown = set(re.findall(r'--[a-z][a-z-]*', span)) - known
        assert not unknown, f'{page.name} names {unknown}'
        overrides = re.findall(r'[\w.]+=\S+', span)
        if overrides:
            check_tool('train.py', [FOLDER_CONFIG, '--data-root', 'DIR', '--cfg-options', *overrides])


def check_mstkit(words: list[str]) -> None:
    """A command of the table, with the arguments of its tool."""
    if words in (['--help'], ['--version']):
        return
    name, *rest = words
    assert name in commands_by_name(), f'mstkit {name}'
    if name == 'toolbox':
        check_module('mstkit.toolbox', rest)
    elif name == 'torchrun':
        assert rest[0].isdigit() and rest[1] in ('train', 'test')
        check_tool(f'{rest[1]}.py', rest[2:])
    else:
        check_tool(tool_of(name), rest)


def check_make(words: list[str]) -> None:
    makefile = text_of(ROOT / 'Makefile')
    variables = dict(word.split('=', 1) for word in words if '=' in word)
    (phony,) = re.findall(r'^\.PHONY: (.*)$', makefile, re.MULTILINE)
    for target in [word for word in words if '=' not in word]:
        assert target in phony.split(), f'make {target}'
    for name in variables:
        assert re.search(rf'^{name} \?=', makefile, re.MULTILINE), f'make {name}=...'
    check_tool('demo.py', shlex.split(variables.get('DEMO_ARGS', '')))


def check_pip(words: list[str]) -> None:
    assert words[0] == 'install'
    if words[1] == '-e':
        extras = re.fullmatch(r'\.\[([\w,]+)\]', words[2])
        assert extras is not None
        (known,) = re.findall(r'^EXTRAS = \((.*)\)$', text_of(ROOT / 'setup.py'), re.MULTILINE)
        assert all(f"'{extra}'" in known for extra in extras[1].split(','))
    else:
        runtime = text_of(ROOT / 'requirements' / 'runtime.txt')
        assert all(re.search(rf'^{name}>=', runtime, re.MULTILINE) for name in words[1:])


def check_module(module: str, arguments: list[str]) -> None:
    assert importlib.util.find_spec(module) is not None
    if module == 'mstkit.toolbox':
        assert toolbox.find_tool(arguments[0], arguments[1]).is_file()
    if module == 'mstkit':
        check_mstkit(arguments)
    if module == 'pytest':
        check_pytest(arguments)


def check_pytest(arguments: list[str]) -> None:
    """The files are the project's or of the documentation, and what -k selects is named in one of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument('files', nargs='+')
    parser.add_argument('-k', default='')
    given = parser.parse_args(arguments)
    texts = [named_files().get(file) or text_of(ROOT / file) for file in given.files]
    assert any(given.k in text for text in texts), f'-k {given.k} selects nothing'


def check_script(name: str, words: list[str]) -> None:
    before, tool = SCRIPTS[name]
    assert f'-lt {len(before)} ]' in text_of(ROOT / 'tools' / name)
    given = dict(zip(before, words, strict=False))
    assert len(given) == len(before)
    assert given.get('processes', '1').isdigit()
    positional = [given[name] for name in ('config', 'checkpoint') if name in given]
    check_tool(tool, [*positional, *words[len(before) :]])


def check_benchmark(program: str, words: list[str]) -> None:
    """Parses a command as the benchmark would; the config that it names is there."""
    try:
        args = parser_of(program).parse_args(words)
    except SystemExit:
        pytest.fail(f'{program} does not understand {words}')
    if getattr(args, 'config', 'CONFIG') != 'CONFIG':
        assert Path(args.config).is_file()


def check_tool(tool: str, words: list[str]) -> None:
    """Parses a command as the tool would; a training is also configured, up to the masker."""
    try:
        args = parser_of(tool).parse_args(words)
    except SystemExit:
        pytest.fail(f'{tool} does not understand {words}')
    if tool == 'transfer.py':
        assert module_of(tool).read_tasks(args)
    if not hasattr(args, 'cfg_options'):
        return
    if tool == 'ablate.py':
        options = {name: value for name, value in vars(args).items() if name in LAUNCH_OPTIONS}
        options['masks'] = split_words(args.masks, '--masks')
        options['random_twin'] = random_twin if args.twins else None
        for config in args.config:
            assert make_plan(config, args.vary, parse_seeds(args.seeds), CHOICES, args.k, **options).cells
        if args.measure:
            check_measures(split_words(args.measure, '--measure'), args.set)
        return
    path = module_of(tool).CONFIGS[args.images or 'scenes'] if tool == 'demo.py' else Path(args.config)
    if 'downstream' in path.parts:  # its data would be read
        assert 'pretrained' in read_config(path).default_hooks
        return
    options = {name: value for name, value in vars(args).items() if name in LAUNCH_OPTIONS}
    generated = path.stem.endswith('scenes')
    elsewhere = tool in ('analysis/preview_masks.py', 'demo.py')  # reads no data set of it, or fetches it first
    if options.get('data_root') or (elsewhere and not generated):
        options['data_root'] = 'DIR'
    else:
        assert str(path) != FOLDER_CONFIG, 'it has no --data-root'
    config, _ = load_config(path, **options)
    masker = config.model.get('masker')
    if masker is not None:
        built = MODELS.build(masker)
        for name, value in (args.cfg_options or {}).items():
            if name.startswith('model.masker.') and name != 'model.masker.type':
                # A single ratio is kept as a range of no width.
                assert getattr(built, name.rpartition('.')[2]) in (value, (value, value))
