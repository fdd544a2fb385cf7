from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mstkit.evaluation.benchmarks.revisited import read_ground_truth, revisited_scores
from mstkit.networks import open_networks

from .tool_runs import load_tool, run_tool, write_config

GALLERY, QUERIES = 8, 3


@pytest.fixture(scope='module')
def tool():
    return load_tool('retrieval')


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('oxford')
    (root / 'jpg').mkdir()
    generator = np.random.default_rng(0)
    for index in range(GALLERY + QUERIES):
        height, width = (40, 64) if index % 2 else (72, 48)
        pixels = generator.integers(0, 150, (height, width, 3)) + 100 * np.eye(3, dtype=int)[index % 3]
        name = f'image_{index}' if index < GALLERY else f'query_{index - GALLERY}'
        Image.fromarray(pixels.astype(np.uint8)).save(root / 'jpg' / f'{name}.jpg')
    truth = {
        'imlist': [f'image_{index}' for index in range(GALLERY)],
        'qimlist': [f'query_{index}' for index in range(QUERIES)],
        'gnd': [
            {'easy': np.array([query]), 'hard': [3 + query], 'junk': [6], 'bbx': [4.0, 6.0, 36.0, 38.0]}
            for query in range(QUERIES)
        ],
    }
    (root / 'gnd.pkl').write_bytes(pickle.dumps(truth, 2))
    return root


def expected(source: str, data: Path, crop: bool, scales: tuple[float, ...]) -> dict[str, float]:
    """The same by hand: every image read, cut to whole patches and normalized by its own lines."""
    (network,) = open_networks(source)
    truth = read_ground_truth(data / 'gnd.pkl')
    features = {}
    for name in (*truth.images, *truth.queries):
        image: Image.Image = Image.open(data / 'jpg' / f'{name}.jpg')
        if crop and name.startswith('query'):
            image = image.crop((4, 6, 36, 38))
        image.thumbnail((56, 56), Image.Resampling.LANCZOS)
        pixels = torch.tensor(np.asarray(image)).permute(2, 0, 1)[None].float()
        rows = []
        for scale in scales:
            scaled = (pixels - 120) / 60
            if scale != 1:
                scaled = torch.nn.functional.interpolate(scaled, scale_factor=scale, mode='bilinear')
            height, width = (side // 8 * 8 for side in scaled.shape[2:])
            rows.append(network(scaled[..., :height, :width]).pooled)
        features[name] = torch.stack(rows).mean(dim=0)[0]
    queries, gallery = (torch.stack([features[name] for name in names]) for names in (truth.queries, truth.images))
    return revisited_scores(queries, gallery, truth)


@pytest.mark.parametrize('options', [(), ('--multiscale', '--crop-queries')])
def test_table_and_file_hold_the_right_numbers(tool, data, tmp_path, monkeypatch, capsys, options):
    source = write_config(tmp_path)
    arguments = (source, '--data', data, '--ground-truth', data / 'gnd.pkl', '--image-size', 56, '--num-workers', 0)
    assert run_tool(tool, monkeypatch, *arguments, '--json', tmp_path / 'new' / 'out.json', *options) == 0
    found = json.loads((tmp_path / 'new' / 'out.json').read_text())
    ((name, scores),) = found['networks'].items()
    by_hand = expected(source, data, bool(options), (1.0, 2**-0.5, 0.5) if options else (1.0,))
    assert scores == pytest.approx(by_hand)
    assert len({round(scores[f'{protocol}_mAP'], 6) for protocol in ('easy', 'medium', 'hard')}) > 1
    assert found['multiscale'] is bool(options)
    printed = capsys.readouterr().out
    assert '3 queries in 8 images' in printed
    (line,) = [line for line in printed.splitlines() if ' hard ' in line]
    assert line.split()[-4:] == [f'{scores[f"hard_{metric}"]:.2f}' for metric in ('mAP', 'mP@1', 'mP@5', 'mP@10')]
    assert line.startswith(name)


def test_mistakes_exit_with_2_and_one_sentence(tool, data, tmp_path, monkeypatch, capsys):
    source = write_config(tmp_path)
    other = tmp_path / 'other.json'
    entry = {'easy': [0], 'hard': [], 'junk': []}
    other.write_text(json.dumps({'imlist': ['all_souls_1'], 'qimlist': ['query_0'], 'gnd': [entry]}))
    nothing = tmp_path / 'nothing.json'
    nothing.write_text(json.dumps({'imlist': ['image_1'], 'qimlist': ['query_0'], 'gnd': [{**entry, 'easy': []}]}))
    boxless = tmp_path / 'boxless.json'
    boxless.write_text(json.dumps({'imlist': ['image_1'], 'qimlist': ['query_0'], 'gnd': [entry]}))
    truth, images = ('--ground-truth', data / 'gnd.pkl'), ('--data', data)
    cases = [
        ((source, '--data', tmp_path / 'none', *truth), 'there is no folder'),
        ((source, *images, '--ground-truth', tmp_path / 'none.pkl'), 'none.pkl does not exist'),
        ((source, *images, '--ground-truth', other), '1 of the 2 images that the ground truth names'),
        ((source, *images, '--ground-truth', nothing), 'no query has an easy or hard image'),
        ((source, *images, '--ground-truth', boxless, '--crop-queries'), 'has no box'),
        ((source, *images, *truth, '--image-size', 0), '--image-size 0'),
        ((source, *images, *truth, '--image-size', 7), 'give 8 or more'),
        (('tim:vit', *images, *truth), "no kind of network called 'tim'"),
    ]
    for arguments, message in cases:
        assert run_tool(tool, monkeypatch, *arguments, '--num-workers', 0) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith('error: ')
        assert message in lines[0]
