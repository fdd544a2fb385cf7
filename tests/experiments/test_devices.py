"""What each of several trainings may use."""

from __future__ import annotations

import pytest
import torch

from mstkit.experiments.job_devices import slot_environments


@pytest.mark.parametrize(
    ('gpus', 'jobs', 'environment', 'expected'),
    [
        (0, 2, {}, [{'OMP_NUM_THREADS': '3'}] * 2),
        (0, 9, {}, [{'OMP_NUM_THREADS': '1'}] * 9),
        (0, 2, {'OMP_NUM_THREADS': '1'}, [{'OMP_NUM_THREADS': '1'}] * 2),
        (1, 2, {}, [{}] * 2),
        (2, 3, {}, [{'CUDA_VISIBLE_DEVICES': name} for name in '010']),
        (2, 2, {'CUDA_VISIBLE_DEVICES': '5,7'}, [{'CUDA_VISIBLE_DEVICES': name} for name in '57']),
    ],
)
def test_devices_are_dealt_out(monkeypatch, gpus, jobs, environment, expected):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
    monkeypatch.setattr('mstkit.experiments.job_devices.usable_cores', lambda: 6)
    assert slot_environments(jobs, environment) == expected
