from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.errors import UsageError
from mstkit.evaluation import EvaluatedNetwork, labeled_folder
from mstkit.evaluation.benchmarks.imagenet9 import VARIANTS, find_variants, numbers_of, read_class_map
from mstkit.evaluation.evaluators import backgrounds
from mstkit.evaluation.evaluators.backgrounds import BackgroundsEvaluator
from mstkit.evaluation.protocols.linear_head import LinearHead

from .frozen import COLORS, BrightNetwork

FOLDERS = ('00_blue', '01_green', '02_red')


def write(folder: Path, colors: dict[str, list[str]], size: int = 32) -> None:
    """``folder/CLASS/i.JPEG`` in one color each, and something that is no image."""
    for name, shown in colors.items():
        (folder / name).mkdir(parents=True)
        for index, color in enumerate(shown):
            Image.fromarray(np.full((size, size, 3), COLORS[color], dtype=np.uint8)).save(
                folder / name / f'n0_{index}.JPEG', quality=95
            )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """original: 5 of 6 right, mixed_same 4 of 6, mixed_rand 1 of 3; and a folder of masks, which comes first."""
    root = tmp_path / 'bg_challenge'
    b, g, r = 'blue', 'green', 'red'
    write(root / 'original' / 'val', {'00_blue': [b, b, g], '01_green': [g], '02_red': [r, r]})
    write(root / 'mixed_same' / 'val', {'00_blue': [b, b, g], '01_green': [r], '02_red': [r, r]})
    write(root / 'mixed_rand' / 'val', {'00_blue': [g], '01_green': [g], '02_red': [b]})
    write(root / 'fg_mask' / 'val', {'00_blue': [r], '02_red': [b]})
    return root


def head_of(outputs: list[str], classes: list[str] | None = None) -> LinearHead:
    """Outputs that are each the strength of a color; of two with the same color, the first one wins."""
    channels = {'red': 0, 'green': 1, 'blue': 2}
    weight = torch.zeros(len(outputs), 3)
    for index, color in enumerate(outputs):
        weight[index, channels[color]] = 1 - 0.001 * index
    names = classes or [f'n{index:08}' for index in range(len(outputs))]
    return LinearHead(weight, torch.zeros(len(outputs)), tuple(names), 'last', 'f' * 64, 'bright')


@pytest.fixture
def evaluated(data: Path) -> EvaluatedNetwork:
    folder = labeled_folder(data / 'original' / 'val')
    return EvaluatedNetwork(BrightNetwork(), folder, folder, batch_size=4, num_workers=0)


@pytest.fixture
def said(monkeypatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(backgrounds, 'print_log', lambda text, **_: lines.append(text))
    return lines


def test_a_thousand_classes_become_nine(data: Path, evaluated: EvaluatedNetwork, tmp_path, said) -> None:
    """Six outputs stand for the thousand; the strongest one decides, also where it belongs to none of the nine."""
    path = tmp_path / 'in_to_in9.json'
    head = head_of(['red', 'green', 'blue', 'red', 'green', 'blue'])
    path.write_text(json.dumps({'0': 2, '1': 1, '2': 0, '3': -1, '4': -1, '5': -1}))
    evaluator = BackgroundsEvaluator(head, data, path)
    evaluator.check(evaluated)
    metrics = evaluator(evaluated)
    right = {'original': 5 / 6, 'mixed_same': 4 / 6, 'mixed_rand': 1 / 3}
    expected = {f'backgrounds_{name}_top1': 100 * share for name, share in right.items()}
    assert metrics == pytest.approx({'backgrounds_gap': 100 * (4 / 6 - 1 / 3), **expected})
    assert next(iter(metrics)) == 'backgrounds_gap'
    assert said == [
        f'backgrounds: 5 variants are not in {data} and are left out: mixed_next, only_fg, no_fg, only_bg_b, only_bg_t'
    ]
    # The same head, but its strongest red belongs to none: every red image is wrong now.
    path.write_text(json.dumps({'0': -1, '1': 1, '2': 0, '3': 2, '4': -1, '5': -1}))
    assert BackgroundsEvaluator(head, data, path)(evaluated)['backgrounds_original_top1'] == pytest.approx(50)


def test_a_head_of_the_folders_own_classes(data: Path, evaluated: EvaluatedNetwork) -> None:
    head = head_of(['blue', 'green', 'red'], list(FOLDERS))
    metrics = BackgroundsEvaluator(head, data, variants=['mixed_rand', 'original'])
    metrics.check(evaluated)
    assert metrics(evaluated) == pytest.approx(
        {'backgrounds_mixed_rand_top1': 100 / 3, 'backgrounds_original_top1': 500 / 6}
    )


def test_any_folder_of_variants(tmp_path, evaluated: EvaluatedNetwork, said) -> None:
    """Without val/, with fewer classes than the head, and in another order than the head's."""
    write(tmp_path / 'mine' / 'indoors', {'red': ['red', 'green'], 'blue': ['blue']})
    write(tmp_path / 'mine' / 'outdoors', {'green': ['blue'], 'red': ['red']})
    head = head_of(['red', 'blue', 'green'], ['red', 'blue', 'green'])
    head_file = tmp_path / 'heads' / 'bright.pth'
    head.save(head_file)
    evaluator = BackgroundsEvaluator(str(tmp_path / 'heads' / '{network}.pth'), tmp_path / 'mine')
    evaluator.check(evaluated)
    assert evaluator(evaluated) == pytest.approx({'backgrounds_indoors_top1': 200 / 3, 'backgrounds_outdoors_top1': 50})
    assert said == []


def test_with_a_map_images_are_shown_whole(tmp_path, evaluated: EvaluatedNetwork) -> None:
    """A border of the class's color, which the central view of other evaluations cuts away."""
    for name, color in (('00_blue', 'blue'), ('02_red', 'red')):
        pixels = np.full((64, 64, 3), COLORS[color], dtype=np.uint8)
        pixels[3:61, 3:61] = (10, 12, 10)
        (tmp_path / 'data' / 'original' / 'val' / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / 'data' / 'original' / 'val' / name / 'a.JPEG', quality=95)
    path = tmp_path / 'map.json'
    path.write_text(json.dumps({'0': 2, '1': 1, '2': 0}))
    head = head_of(['red', 'green', 'blue'])
    assert BackgroundsEvaluator(head, tmp_path / 'data', path)(evaluated) == {'backgrounds_original_top1': 100.0}


def test_mistakes(data: Path, evaluated: EvaluatedNetwork, tmp_path) -> None:
    head = head_of(['red', 'green', 'blue'])
    with pytest.raises(UsageError, match=r'backgrounds\.head'):
        BackgroundsEvaluator(data=data)
    with pytest.raises(UsageError, match=r'backgrounds\.data'):
        BackgroundsEvaluator(head)
    with pytest.raises(UsageError, match='does not exist'):
        BackgroundsEvaluator(head, tmp_path / 'nowhere')
    with pytest.raises(UsageError, match=r"no variant 'mixed_sane'.*Did you mean mixed_same"):
        BackgroundsEvaluator(head, data, variants=['original', 'mixed_sane'])
    with pytest.raises(UsageError, match=r'map .* does not exist.*leave the map out'):
        BackgroundsEvaluator(head, data, tmp_path / 'none.json').check(evaluated)
    with pytest.raises(UsageError, match=r'none of the 3 classes'):
        BackgroundsEvaluator(head, data).check(evaluated)
    folder = labeled_folder(data / 'original/val')
    other = EvaluatedNetwork(BrightNetwork('b', fingerprint='0'), folder, folder, num_workers=0)
    with pytest.raises(UsageError, match='trained on bright'):
        BackgroundsEvaluator(head, data).check(other)
    path = tmp_path / 'map.json'
    for content, says in (
        ({str(index): 0 for index in range(1000)}, 'names 1000 classes and the head has 3'),
        ({'0': 0, '1': 1, '2': 'two'}, "maps to 'two'"),
        ({'0': -1, '1': -1, '2': -1}, 'numbers from -1 on'),
        ({'a': 0}, 'no JSON object'),
        ([1, 2, 3], 'no JSON object'),
        ({'0': 0, '1': 1, '2': 1}, r"from 0 to 1 .*'02_red' is not"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(UsageError, match=says):
            BackgroundsEvaluator(head, data, path).check(evaluated)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UsageError, match='no sub-folders'):
        find_variants(tmp_path / 'empty')


def test_variants_are_found_by_name_and_not_by_position(data: Path) -> None:
    found, missing = find_variants(data)
    assert found == ['original', 'mixed_same', 'mixed_rand']
    assert set(found) | set(missing) == set(VARIANTS) and not set(found) & set(missing)


def test_reading_of_the_map_and_of_folder_names(tmp_path) -> None:
    path = tmp_path / 'map.json'
    path.write_text(json.dumps({'2': 8, '0': -1, '1': 3}))
    assert read_class_map(path, 3).tolist() == [-1, 3, 8]
    assert numbers_of(['02_wheeled vehicle', '08_fish', '0'], 8).tolist() == [2, 8, 0]
    with pytest.raises(UsageError, match='dog'):
        numbers_of(['00_dog', 'dog'], 8)
