"""What every registered evaluation promises to a suite, and every program of tools/evaluation to its user.

Evaluations are found in the registry, programs in their folder; the one that docs/en/add_an_evaluation.md builds is
among them, so that whatever follows the page is covered as soon as it is registered.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import math
import pkgutil
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mstkit.datasets import ImageFolder
from mstkit.errors import UsageError
from mstkit.evaluation import EvaluatedNetwork, evaluators
from mstkit.evaluation.protocols.linear_head import LinearHead
from mstkit.evaluation.suite import Evaluator, SuiteResult, build_suite, known_evaluations, run_suite
from mstkit.evaluation.suite_files import write_results
from mstkit.networks import open_networks
from mstkit.registry import EVALUATORS
from tests.docs.pages import named_files, parser_of, text_of
from tests.programs import ROOT, load_program, run_program

from .checkpoints import save_checkpoint
from .frozen import COLORS, BrightNetwork, write_images
from .videos import write_davis

PAGE = 'class_means'  # the evaluation of docs/en/add_an_evaluation.md
NAMES = [*known_evaluations(), PAGE]
# Train images per class: a few, and as many as those ask for by default that ask for more (lowshot, 5 runs of 20).
SIZES = (10, 100)
every_evaluation = pytest.mark.parametrize('name', NAMES)


class TouchyNetwork(BrightNetwork):
    """Tells the classes apart perfectly, and shows what was done to it: a weight, batch statistics, dropout."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gain = nn.Parameter(torch.ones(3, 1, 1), requires_grad=False)
        self.norm = nn.BatchNorm2d(3, eps=0).requires_grad_(False)
        self.drop = nn.Dropout(0.5)
        self.eval()

    def colors(self, images: Tensor) -> Tensor:
        return super().colors(self.drop(self.norm(images)) * self.gain)

    def features(self, images: Tensor, last_blocks: int = 1, mean_patch: bool = False) -> Tensor:
        if not isinstance(last_blocks, int) or not 1 <= last_blocks <= len(self.blocks):
            raise UsageError(f'last_blocks is {last_blocks}; {self.name} has {len(self.blocks)} blocks.')
        return super().features(images, last_blocks, mean_patch)


@pytest.fixture(scope='module', autouse=True)
def page() -> Iterator[None]:
    """Registers the page's evaluation, by running the file that the page prints."""
    assert PAGE not in EVALUATORS.module_dict
    exec(compile(named_files()[f'{PAGE}.py'], f'{PAGE}.py', 'exec'), {'__name__': PAGE})
    yield
    EVALUATORS.module_dict.pop(PAGE)


@pytest.fixture(scope='module')
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """With train and val, the smallest first."""
    roots = [tmp_path_factory.mktemp('images') for _ in SIZES]
    for root, size in zip(roots, SIZES, strict=True):
        write_images(root / 'train', dict.fromkeys(COLORS, size), seed=0)
        write_images(root / 'val', dict.fromkeys(COLORS, 5), seed=1)
    return roots


@pytest.fixture(scope='module')
def data_of(folders: list[Path]) -> Callable[[str], Path]:
    """By its name, the first of the folders that an evaluation takes; where it takes none, its test says why."""

    @functools.cache
    def chosen(name: str) -> Path:
        for folder in folders[:-1]:
            with contextlib.suppress(UsageError):
                build(name, folder).check(evaluated_of(folder))
                return folder
        return folders[-1]

    return chosen


def evaluated_of(data: Path, network: BrightNetwork | None = None, **options: Any) -> EvaluatedNetwork:
    folders = (data / 'train', data / 'val')
    return EvaluatedNetwork(network or TouchyNetwork(), *folders, num_workers=0, **{'batch_size': 64, **options})


def near_and_far(data: Path) -> Path:
    """A folder beside that of the classes, of images that are brighter where they are nearer."""
    folder, bright = data.with_name(f'{data.name}_depth'), np.random.default_rng(0).integers(60, 250, (6, 4, 4, 1))
    for index, pixels in enumerate(bright.repeat(8, 1).repeat(8, 2).repeat(3, 3).astype(np.uint8)):
        depth = (6000 - 2 * pixels[..., 0].astype(int)).astype(np.uint16)  # the same everywhere, but for a tenth
        for kind, content in (('images', pixels), ('annotations', depth)):
            file = folder / kind / ('train' if index < 4 else 'val') / f'{index}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(file)
    return folder


def still(data: Path) -> Path:
    """A folder beside that of the classes, with a video of a red square that stays where it is."""
    folder = data.with_name(f'{data.name}_tracking')
    video = folder / 'val' / 'red'
    video.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers((20, 60, 150), (80, 120, 210), (32, 32, 3)).astype(np.uint8)
    pixels[9:23, 5:19] = [250, 60, 60]
    for number in range(1, 4):
        Image.fromarray(pixels).save(video / f'{number:08d}.png')
    (video / 'groundtruth.txt').write_text('5,9,14,14\n' * 3)
    return folder


def marked(data: Path) -> Path:
    """A folder beside that of the classes, of objects whose two keypoints are bright, and always in the same place."""
    folder, points = data.with_name(f'{data.name}_keypoints'), [10, 12, 2, 23, 20, 1]
    category = dict(id=1, name='object', keypoints=['one', 'other'])
    for split, count in (('train', 6), ('val', 3)):
        images, annotations = [], []
        for number in range(1, count + 1):
            pixels = np.random.default_rng(number).integers(0, 90, (32, 32, 3)).astype(np.uint8)
            pixels[10:14, 8:12], pixels[18:22, 21:25] = COLORS['red'], COLORS['blue']
            file = folder / f'{split}2017' / f'{number}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
            images.append(dict(id=number, file_name=file.name, width=32, height=32))
            box = dict(bbox=[4, 4, 24, 22], area=400, iscrowd=0)
            annotations.append(dict(id=number, image_id=number, category_id=1, keypoints=points, **box))
        content = dict(images=images, annotations=annotations, categories=[category])
        file = folder / 'annotations' / f'person_keypoints_{split}2017.json'
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    return folder


def build(name: str, data: Path) -> Evaluator:
    """From its defaults; what refuses those gets what it asks for, by the names of its settings."""
    try:
        return build_suite([name])[name]
    except UsageError as error:
        said = str(error)
    assert f'{name}.' in said, f'{name} cannot be built from its defaults and does not name the setting that it misses'
    # The class is the strongest channel of RGB.
    head = LinearHead(torch.eye(3)[[2, 1, 0]], torch.zeros(3), tuple(COLORS), 'last', 'f' * 64, 'bright')
    made = {'depth': near_and_far, 'keypoints': marked, 'tracking': still}
    known = {'head': head, 'data': made[name](data) if name in made else data}
    kind: Any = EVALUATORS.module_dict[name]
    return kind(**{setting: known[setting] for setting in known if setting in kind.__init__.__annotations__})


def measure(name: str, evaluated: EvaluatedNetwork, data: Path) -> tuple[Evaluator, dict[str, float]]:
    evaluator = build(name, data)
    evaluator.check(evaluated)
    return evaluator, evaluator(evaluated)


def headlines_of(evaluator: Evaluator, metrics: dict[str, float]) -> list[str]:
    """As a suite takes them."""
    named = getattr(evaluator, 'headlines', None)
    return list(named()) if named else [next(iter(metrics))]


@pytest.fixture(scope='module')
def measured(data_of: Callable[[str], Path]) -> Callable[[str], tuple[Evaluator, dict[str, float]]]:
    """An evaluation by its name, and what it measured, once for all tests."""
    return functools.cache(lambda name: measure(name, evaluated_of(data_of(name)), data_of(name)))


def seed_everything(seed: int) -> None:
    random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)


def draw() -> list[float]:
    return [random.random(), np.random.random(), torch.rand(1).item()]


def test_every_file_of_the_room_is_registered_by_importing_it():
    """A file that is not imported in ``evaluators/__init__.py`` is found by nobody."""
    files = {one.name for one in pkgutil.iter_modules(evaluators.__path__)}
    homes = {EVALUATORS.module_dict[name].__module__.rpartition('.')[2] for name in known_evaluations() if name != PAGE}
    assert homes == files and len(files) >= 7


@every_evaluation
def test_numbers_have_names_and_headlines_are_percent(name, measured):
    """On a network that tells the classes apart, which a share in place of percent would give 1."""
    evaluator, metrics = measured(name)
    assert metrics and all(isinstance(key, str) and key for key in metrics)
    assert all(isinstance(value, (int, float)) and math.isfinite(value) for value in metrics.values())
    headlines = headlines_of(evaluator, metrics)
    assert headlines and set(headlines) <= set(metrics)
    assert not any('/' in key for key in headlines), 'a detail stands in no table and in no plot'
    assert all(0 <= metrics[key] <= 100 for key in headlines)
    assert max(metrics[key] for key in headlines) == pytest.approx(100)
    for key in metrics:
        if key.endswith('_std'):
            assert key.removesuffix('_std') in metrics and metrics[key] >= 0
    assert json.loads(json.dumps(metrics)) == metrics


@every_evaluation
def test_the_same_numbers_again_whatever_random_numbers_were_drawn(name, data_of, measured):
    """And none of those that are drawn next, by a training beside it, is used up."""
    _, first = measured(name)
    seed_everything(2)
    expected = draw()
    seed_everything(2)
    assert measure(name, evaluated_of(data_of(name)), data_of(name))[1] == first
    assert draw() == expected


@every_evaluation
def test_network_and_features_are_left_as_they_were(name, data_of):
    """Banks are shared by the evaluations of a suite."""
    network = TouchyNetwork()
    evaluated, weights = evaluated_of(data_of(name), network), copy.deepcopy(network.state_dict())
    banks = {split: evaluated.bank(split) for split in ('train', 'val')}
    before = copy.deepcopy(banks)
    labels = {split: evaluated.labels(split).clone() for split in banks}
    measure(name, evaluated, data_of(name))
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    for split, bank in banks.items():
        assert evaluated.bank(split) is bank and bank.classes == before[split].classes
        assert torch.equal(bank.features, before[split].features) and torch.equal(bank.labels, before[split].labels)
        assert torch.equal(evaluated.labels(split), labels[split])


@every_evaluation
def test_a_check_reads_no_image_and_computes_no_features(name, data_of, monkeypatch, tmp_path):
    """It is made for every network of a comparison before the first one is measured."""
    network = TouchyNetwork()
    evaluated = evaluated_of(data_of(name), network)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError('the check reads images')

    monkeypatch.setattr('mstkit.datasets.image_reader.read_image', refuse)
    for method in ('bank', 'loader'):
        monkeypatch.setattr(evaluated, method, refuse)
    monkeypatch.chdir(tmp_path)
    evaluator = build(name, data_of(name))
    evaluator.check(evaluated)
    evaluator.check(evaluated)
    assert network.seen <= 4, 'a blank image is enough to see whether the features are there'
    assert list(tmp_path.iterdir()) == []


def uneven(root: Path, **counts: dict[str, int]) -> EvaluatedNetwork:
    """On folders of so many images per class, and of none of some, whose names are given as a list of classes would."""
    folders: dict[str, ImageFolder] = {}
    for split, images in counts.items():
        write_images(root / split, images, seed=2 + len(folders))
        folders[split] = ImageFolder(str(root / split), '', labeled=True, metainfo=dict(classes=tuple(COLORS)))
    return EvaluatedNetwork(TouchyNetwork(), **folders, num_workers=0)


SETS: dict[str, dict[str, dict[str, int]]] = {
    'one image per class': dict(train=dict.fromkeys(COLORS, 1), val=dict.fromkeys(COLORS, 1)),
    'two images per class': dict(train=dict.fromkeys(COLORS, 2), val=dict.fromkeys(COLORS, 2)),
    'a class without train images': dict(train=dict(blue=9, green=9), val=dict.fromkeys(COLORS, 3)),
    'a class without val images': dict(train=dict.fromkeys(COLORS, 9), val=dict(blue=3, red=3)),
    'one val image': dict(train=dict.fromkeys(COLORS, 9), val=dict(green=1)),
    'no class in both': dict(train=dict(blue=9), val=dict(green=3)),
}


@pytest.mark.parametrize('sets', SETS)
@every_evaluation
def test_a_check_that_passes_is_followed_by_numbers(name, sets, tmp_path):
    """What cannot be measured on so few images is refused, by the name of the evaluation or of its setting."""
    evaluated = uneven(tmp_path, **SETS[sets])
    evaluator = build(name, tmp_path)
    try:
        evaluator.check(evaluated)
    except UsageError as error:
        assert name in str(error) or any(color in str(error) for color in COLORS), error
        return
    metrics = evaluator(evaluated)
    assert metrics and all(math.isfinite(value) for value in metrics.values())


@every_evaluation
def test_blocks_that_the_network_does_not_have_are_refused_by_the_check(name, data_of):
    kind: Any = EVALUATORS.module_dict[name]
    if 'last_blocks' not in kind.__init__.__annotations__:
        # Tests of their own refuse theirs; tracking takes the last tokens alone.
        others = {'features', 'head', 'layers', 'region'} & set(kind.__init__.__annotations__)
        assert name == 'finetune' or others
        return
    for last_blocks in (5, 10**9):
        evaluator = build_suite([name], {f'{name}.last_blocks': last_blocks})[name]
        with pytest.raises(UsageError, match=str(last_blocks)):
            evaluator.check(evaluated_of(data_of(name)))


@every_evaluation
def test_features_that_are_not_finite_give_no_numbers(name, data_of):
    network = TouchyNetwork()
    network.gain.data[0] = math.nan
    evaluator, evaluated = build(name, data_of(name)), evaluated_of(data_of(name), network)
    with pytest.raises(UsageError, match='finite'):
        evaluator.check(evaluated)
        evaluator(evaluated)


def test_sets_without_images_or_with_one_class_are_refused_by_their_folders(folders, tmp_path):
    """Whatever the evaluation: its network is given nothing that could be measured."""
    data = folders[0]
    (tmp_path / 'empty').mkdir()
    write_images(tmp_path / 'alone', dict(blue=3))
    for folder, says in (('empty', 'holds no images'), ('alone', 'there are at least two'), ('none', 'does not exist')):
        for train, val in ((tmp_path / folder, data / 'val'), (data / 'train', tmp_path / folder)):
            with pytest.raises(UsageError, match=f'{tmp_path / folder} {says}|{tmp_path / folder} .*{says}'):
                EvaluatedNetwork(TouchyNetwork(), train, val)


def test_results_are_whole_whenever_the_suite_is_stopped(folders, tmp_path, monkeypatch):
    """Written after each evaluation; what was there stays until the next one is complete."""
    data = folders[-1]  # which all of them take
    evaluated, path, seen = evaluated_of(data), tmp_path / 'results.json', []
    names = [name for name in NAMES if name != 'linear']
    result = SuiteResult('bright', 'a.pth', '', 'f', 'train', 'val', seed=0)

    def write(result: SuiteResult) -> None:
        write_results([result], path)
        (content,) = json.loads(path.read_text())
        seen.append(list(content['metrics']))

    run_suite({name: build(name, data) for name in names}, evaluated, result, write)
    assert seen == [names[: count + 1] for count in range(len(names))] and result.failed == {}
    before = path.read_text()

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr('os.replace', stop)
    with pytest.raises(KeyboardInterrupt):
        write_results([], path)
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]


PROGRAMS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / 'tools' / 'evaluation').glob('*.py'))
every_program = pytest.mark.parametrize('program', PROGRAMS)


@pytest.fixture(scope='module')
def inputs(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What can be given to an option that a program asks for, by ``PROGRAM OPTION`` or by the option alone."""
    data, folder = folders[0], tmp_path_factory.mktemp('inputs')
    source = save_checkpoint(folder / 'epoch_1.pth')
    network, _ = open_networks(str(source))
    head = LinearHead(torch.zeros(3, 24), torch.zeros(3), tuple(COLORS), 'last', network.fingerprint, network.name)
    head.save(folder / 'head.pth')
    (folder / 'jpg').mkdir()
    for name in ('query', 'found', 'other'):
        Image.new('RGB', (40, 40)).save(folder / 'jpg' / f'{name}.jpg')
    entry = dict(easy=[0], hard=[1], junk=[], bbx=[0.0, 0.0, 40.0, 40.0])
    (folder / 'truth.json').write_text(json.dumps(dict(imlist=['found', 'other'], qimlist=['query'], gnd=[entry])))
    return {
        'positional': source,
        '--train': data / 'train',
        '--val': data / 'val',
        '--data': data,
        '--head': folder / 'head.pth',
        '--ground-truth': folder / 'truth.json',
        'retrieval --data': folder,
        'depth --data': near_and_far(data),
        'keypoints --data': marked(data),
        'tracking --data': still(data),
        'video_segmentation --data': write_davis(folder / 'davis'),
    }


def command(program: str, inputs: dict[str, Path]) -> dict[str, Path]:
    """What a program cannot do without, by option; its source is the positional one."""
    asked = [action for action in parser_of(program.removeprefix('tools/'))._actions if action.required]
    options = [action.option_strings[0] if action.option_strings else 'positional' for action in asked]
    assert options[0] == 'positional', 'the network comes first'
    return {option: inputs.get(f'{Path(program).stem} {option}', inputs[option]) for option in options}


def refused(program: str, words: dict[str, Path], *more: str) -> str:
    """The one sentence with which a program refuses its command line."""
    source, *others = words.items()
    done = run_program(program, source[1], *(word for pair in others for word in pair), *more, '--device', 'cpu')
    assert done.returncode == 2, done
    said = done.stderr.strip().splitlines()[-1]
    assert 'error: ' in said and 'Traceback' not in done.stderr
    return said


@every_program
def test_help(program):
    done = run_program(program, '--help')
    parser = parser_of(program.removeprefix('tools/'))
    assert done.returncode == 0
    assert all(option in done.stdout for action in parser._actions for option in action.option_strings[:1])
    assert f'python {program}``' in text_of(ROOT / program).partition('import')[0], 'the docstring shows the command'
    shown = f'``mstkit {Path(program).stem.replace("_", "-")} SOURCE '.replace('knn SOURCE', 'knn CHECKPOINT')
    assert shown in (load_program(program).__doc__ or '').partition('\n')[0], 'the first line shows the arguments'
    assert '--suite' not in done.stdout or all(name in done.stdout.replace('\n', ' ') for name in known_evaluations())


@every_program
def test_a_source_or_a_folder_that_is_not_there_or_empty_is_named(program, inputs, tmp_path):
    words = command(program, inputs)
    for option in words:
        assert str(tmp_path / 'none.pth') in refused(program, {**words, option: tmp_path / 'none.pth'})
        if words[option].is_dir():
            assert str(tmp_path) in refused(program, {**words, option: tmp_path})


@every_program
def test_a_branch_that_is_not_there_is_named(program, inputs):
    said = refused(program, command(program, inputs), '--branch', 'bough')
    assert 'bough' in said and 'teacher' in said


@every_program
def test_numbers_out_of_range_are_named(program, inputs):
    for action in parser_of(program.removeprefix('tools/'))._actions:
        if action.type in (int, float):
            option = action.option_strings[0]
            said = refused(program, command(program, inputs), option, '-1')
            assert '-1' in said and option.lstrip('-').replace('-', '_') in said.replace('-', '_'), (option, said)
