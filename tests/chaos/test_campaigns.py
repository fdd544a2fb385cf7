"""Short forms of the campaigns, and that what they look for would be found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mstkit.datasets import ImageFolder
from tests.chaos.damaged_images import DAMAGES
from tests.chaos.outcomes import Outcome, write_outcome
from tests.chaos.small_runs import CLASSES, broken_files, difference, write_images
from tests.programs import ROOT

COUNTS = dict(kills=3, signals=3, disk=2, data=2, numbers=4, limits=5, arguments=200, configs=6)


@pytest.mark.slow
@pytest.mark.parametrize('campaign', COUNTS)
def test_a_short_campaign_finds_nothing(tmp_path, campaign):
    done = subprocess.run(
        [sys.executable, 'tools/dev/chaos.py', campaign, '--count', str(COUNTS[campaign]), '--out', tmp_path],
        cwd=ROOT,
        env={**os.environ, 'TMPDIR': str(tmp_path), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=900,
    )
    if 'cannot be mounted' in done.stderr or 'mounts of its own' in done.stderr:
        pytest.skip('a disk can be mounted by the administrator only')
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / f'{campaign}.json').read_text())
    assert found['survived'] == found['tried'] and not found['faults']
    equally_many = campaign == 'arguments'  # of each component: rounded up
    assert found['tried'] == COUNTS[campaign] or (equally_many and COUNTS[campaign] < found['tried'] < 500)
    assert found['settings']['count'] == COUNTS[campaign]


def test_files_that_are_not_whole_are_found(tmp_path):
    whole, torn = tmp_path / 'a.pth', tmp_path / 'b.pth'
    torch.save(dict(a=torch.zeros(100)), whole)
    torn.write_bytes(whole.read_bytes()[:300])
    (tmp_path / 'knn.jsonl').write_text('{"a": 1}\n{"a": ')
    (tmp_path / 'good.jsonl').write_text('{"a": 1}\n')
    (tmp_path / 'cell.json').write_text('{')
    pixels = torch.randint(0, 255, (40, 40, 3), dtype=torch.uint8).numpy()
    (tmp_path / 'panel.png').write_bytes(DAMAGES['a_png.jpg'][0](pixels)[:300])
    (tmp_path / '.hidden.pth.host_1.partial').write_bytes(b'half')
    found = [text.split(' ')[0] for text in broken_files(tmp_path)]
    assert found == ['b.pth', 'cell.json', 'knn.jsonl', 'panel.png']


def test_a_bit_of_difference_is_found():
    def checkpoint(value: float, iteration: int = 3) -> dict:
        state = dict(a=torch.tensor([1.0, value]))
        return dict(state_dict=state, optimizer=dict(lr=1), param_schedulers=[], meta=dict(epoch=1, iter=iteration))

    assert difference(checkpoint(2.0), checkpoint(2.0)) is None
    assert difference(checkpoint(2.0), checkpoint(2.0000002)) == 'state_dict'
    assert difference(checkpoint(2.0), checkpoint(2.0, 4)) == 'iter'


def test_the_damages_are_what_they_say(tmp_path):
    pixels = torch.randint(0, 255, (40, 40, 3), dtype=torch.uint8).numpy()
    for name, (make, readable) in DAMAGES.items():
        folder = tmp_path / name / 'x'
        folder.mkdir(parents=True)
        (folder / name).write_bytes(make(pixels))
        (folder / 'good.png').write_bytes(DAMAGES['a_png.jpg'][0](pixels))
        images = ImageFolder(str(tmp_path / name), '', [dict(type='LoadRGB')], serialize_data=False)
        replaced = [images[index].get('replaced') for index in range(2)]
        assert any(replaced) is not readable, name


def test_what_was_found_is_counted_and_kept(tmp_path, capsys):
    outcome = Outcome('kills')
    outcome.count(None, files=2)
    outcome.count('it hangs', files=3)
    assert (outcome.tried, outcome.survived, outcome.facts) == (2, 1, dict(files=5))
    assert 'FAULT: it hangs' in capsys.readouterr().out
    found = json.loads(write_outcome(tmp_path, outcome, dict(count=2)).read_text())
    assert found['faults'] == ['it hangs'] and found['settings'] == dict(count=2)


def test_the_images_of_the_campaigns_are_a_folder_of_classes(tmp_path):
    write_images(tmp_path, 8, 4)
    for split, count in (('train', 8), ('val', 4)):
        images = ImageFolder(str(tmp_path), split, labeled=True)
        assert len(images) == count and set(images.metainfo['classes']) <= {str(i) for i in range(CLASSES)}
        assert Path(images.get_data_info(0)['img_path']).exists()
