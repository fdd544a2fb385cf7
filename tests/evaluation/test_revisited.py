from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from mstkit.errors import UsageError
from mstkit.evaluation.benchmarks import revisited
from mstkit.evaluation.benchmarks.revisited import read_ground_truth, revisited_scores

QUERIES, IMAGES = 6, 30


def made() -> dict:
    """A ground truth in the official form: lists, and arrays for one query."""
    generator = np.random.default_rng(0)
    entries = []
    for index in range(QUERIES):
        grade = generator.integers(0, 6, IMAGES)
        entry = {name: np.flatnonzero(grade == value) for value, name in enumerate(('easy', 'hard', 'junk'))}
        if index:
            entry = {name: indices.tolist() for name, indices in entry.items()}
        entries.append({'bbx': [10.5, 20.0, 110.0, 140.0], **entry})
    entries[2]['hard'] = []  # nothing relevant in the protocol hard
    return {
        'imlist': [f'image_{index}' for index in range(IMAGES)],
        'qimlist': [f'query_{index}' for index in range(QUERIES)],
        'gnd': entries,
    }


def features() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(QUERIES, 8, generator=generator), 3 * torch.randn(IMAGES, 8, generator=generator)


def by_plain_loops(order: list[int], relevant: set[int], junk: set[int]) -> dict[str, float] | None:
    """One query, as the authors describe it: ranks of the relevant, each less the junk before it, then trapezoids."""
    if not relevant:
        return None
    places, before = [], 0
    for rank, image in enumerate(order):
        if image in junk:
            before += 1
        elif image in relevant:
            places.append(rank - before)
    area = 0.0
    for found, place in enumerate(places):
        left = found / place if place else 1.0
        area += (left + (found + 1) / (place + 1)) / 2 / len(relevant)
    scores = {'mAP': area}
    for k in (1, 5, 10):
        seen = min(k, places[-1] + 1)
        scores[f'mP@{k}'] = sum(place < seen for place in places) / seen
    return scores


@pytest.mark.parametrize('suffix', ['.pkl', '.json'])
def test_equals_plain_loops(tmp_path, suffix):
    data, path = made(), tmp_path / f'gnd{suffix}'
    if suffix == '.pkl':
        path.write_bytes(pickle.dumps(data, 2))
    else:
        path.write_text(json.dumps(data, default=lambda array: array.tolist()))
    truth = read_ground_truth(path)
    assert truth.boxes[0] == (10.5, 20.0, 110.0, 140.0)
    queries, gallery = features()
    measured = revisited_scores(queries, gallery, truth)
    cosine = torch.nn.functional.cosine_similarity(queries[:, None].double(), gallery[None].double(), dim=2)
    orders = cosine.argsort(dim=1, descending=True).tolist()
    for protocol in ('easy', 'medium', 'hard'):
        rows = []
        for order, entry in zip(orders, data['gnd'], strict=True):
            easy, hard, junk = (set(np.asarray(entry[name], int).tolist()) for name in ('easy', 'hard', 'junk'))
            relevant, left_out = {
                'easy': (easy, junk | hard),
                'medium': (easy | hard, junk),
                'hard': (hard, junk | easy),
            }[protocol]
            rows.append(by_plain_loops(order, relevant, left_out))
        counted = [row for row in rows if row is not None]
        assert len(counted) == (QUERIES - 1 if protocol == 'hard' else QUERIES)
        for name in ('mAP', 'mP@1', 'mP@5', 'mP@10'):
            assert measured[f'{protocol}_{name}'] == pytest.approx(100 * np.mean([row[name] for row in counted]))
    assert measured['hard_mAP'] != measured['medium_mAP']


def test_junk_first_costs_nothing(tmp_path):
    entry = {'easy': [2], 'hard': [], 'junk': [0, 1]}
    data = {'imlist': list('abcd'), 'qimlist': ['q'], 'gnd': [{**entry, 'hard': [3]}]}
    (tmp_path / 'g.json').write_text(json.dumps(data))
    gallery = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3]])
    scores = revisited_scores(torch.tensor([[1.0, 0.0]]), gallery, read_ground_truth(tmp_path / 'g.json'))
    assert [scores[f'{name}_mAP'] for name in ('easy', 'medium', 'hard')] == [100, 100, 100]


def test_wrong_ground_truths_get_one_message(tmp_path):
    def with_entry(**changes: object) -> dict:
        data = made()
        data['gnd'][3].update(changes)
        return data

    cases = [
        ([1, 2], 'it holds list'),
        ({'imlist': []}, 'it holds a dict with imlist, not'),
        ({**made(), 'imlist': [1]}, 'imlist is no list of names'),
        ({**made(), 'gnd': made()['gnd'][:4]}, '4 entries for 6 queries'),
        (with_entry(junk=None), 'query_3 lacks'),
        (with_entry(easy=[0, 30]), 'index 30, but there are 30 images'),
        (with_entry(easy=[0.5]), 'index 0.5'),
        (with_entry(easy=[0], hard=[], junk=[0]), 'gives an image twice'),
        (with_entry(bbx=[5, 5, 5, 9]), r'box of query_3 is \[5, 5, 5, 9\]'),
    ]
    for data, message in cases:
        (tmp_path / 'g.pkl').write_bytes(pickle.dumps(data))
        with pytest.raises(UsageError, match=message) as caught:
            read_ground_truth(tmp_path / 'g.pkl')
        assert '\n' not in str(caught.value)
    (tmp_path / 'g.json').write_text('{"imlist": ')
    with pytest.raises(UsageError, match='no JSON'):
        read_ground_truth(tmp_path / 'g.json')
    with pytest.raises(UsageError, match='does not exist'):
        read_ground_truth(tmp_path / 'none.pkl')


def test_no_positives_and_broken_features(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(revisited, 'print_log', lambda message, *_: said.append(message))
    data = made()
    for entry in data['gnd']:
        entry['hard'] = []
    (tmp_path / 'g.pkl').write_bytes(pickle.dumps(data))
    truth = read_ground_truth(tmp_path / 'g.pkl')
    queries, gallery = features()
    scores = revisited_scores(queries, gallery, truth, ranks=[5])
    assert list(scores) == ['easy_mAP', 'easy_mP@5', 'medium_mAP', 'medium_mP@5']
    assert said == ['retrieval: no query has a relevant image in the protocol hard.']
    with pytest.raises(UsageError, match='not finite'):
        revisited_scores(queries, gallery * float('inf'), truth)
    for entry in data['gnd']:
        entry['easy'] = []
    (tmp_path / 'g.pkl').write_bytes(pickle.dumps(data))
    with pytest.raises(UsageError, match='no query has an easy or hard image'):
        read_ground_truth(tmp_path / 'g.pkl')
