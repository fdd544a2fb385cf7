"""What a process that trains on the CPU asks of its system."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from mstkit.engine.parallel import cpu_settings
from mstkit.errors import UsageError
from tests import warm

needs_glibc = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='glibc only')

PAGES = """
import resource, torch
from mstkit.engine.parallel.cpu_settings import keep_freed_memory
def work():
    return sum(float((torch.ones(10_000_000) + i).sum()) for i in range(10))
def faults():
    work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
returned = faults()
assert keep_freed_memory()
print(faults(), returned)
"""


@needs_glibc
def test_kept_memory_is_not_taken_from_the_system_again():
    done = subprocess.run([warm.python(), '-c', PAGES], capture_output=True, text=True, check=True)
    kept, returned = map(int, done.stdout.split()[-2:])
    assert kept < 100 < 10_000 < returned


def test_denormals_become_zero_where_no_gpu_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(cpu_settings, 'keep_freed_memory', lambda: True)
    try:
        assert cpu_settings.prepare_cpu(keep_memory=False, flush_denormal=False) == []
        said = cpu_settings.prepare_cpu()
        assert said[0] == 'freed memory is kept for reuse'
        if len(said) == 2:  # a processor that can
            assert float(torch.tensor(1e-39) * 1) == 0
    finally:
        torch.set_flush_denormal(False)


def test_a_gpu_needs_none_of_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(cpu_settings, 'keep_freed_memory', lambda: pytest.fail('called'))
    assert cpu_settings.prepare_cpu() == []


def test_settings_of_a_config():
    assert cpu_settings.settings_of({}) == {}
    assert cpu_settings.settings_of(dict(cpu=dict(keep_memory=False))) == dict(keep_memory=False)
    with pytest.raises(UsageError, match=r'cpu\.threads is not known; there are keep_memory and flush_denormal'):
        cpu_settings.settings_of(dict(cpu=dict(threads=2)))
    with pytest.raises(UsageError, match=r'env_cfg\.cpu\.keep_memory is True or False, not 1'):
        cpu_settings.settings_of(dict(cpu=dict(keep_memory=1)))
