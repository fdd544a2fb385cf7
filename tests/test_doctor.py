"""The doctor: what it finds on a sound machine and on broken ones, and its exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mstkit import doctor
from mstkit.doctor import (
    FOUNDATIONS,
    LATE,
    OK,
    PROBES,
    PROBLEM,
    WARNING,
    Finding,
    Outcome,
    diagnose,
    is_older,
    lower_bounds,
    probe,
)

ROOT = Path(__file__).resolve().parents[1]
CPU = Outcome(True, json.dumps({'device': 'cpu', 'threads': 2, 'build': '13.0'}))
NO_OPERATORS = Outcome(False)  # as the probe says it: exit code 1 and not a word


def machine(**broken: Outcome) -> Callable[[str], Outcome]:
    """A machine on which every probe works but those that are named (mmcv_operators for 'mmcv operators')."""
    names = {code: name.replace(' ', '_') for name, code in {**FOUNDATIONS, **PROBES}.items()}
    return lambda code: broken.get(names[code], CPU if names[code] == 'torch' else Outcome(True))


def packages(**other: str | None) -> Callable[[str], str | None]:
    """Everything installed at its lower bound, but for what is named (underscores for hyphens)."""
    table: dict[str, str | None] = {**lower_bounds(), 'opencv-python': '4.12.0.88'}
    table.update({name.replace('_', '-'): version for name, version in other.items()})
    return table.get


def row(findings: list[Finding], name: str) -> Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def exit_code(findings: list[Finding], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(doctor, 'diagnose', lambda: findings)
    return doctor.main()


def test_sound_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    findings = diagnose(machine(), packages())
    assert {finding.status for finding in findings if finding.name not in ('disk', 'shared memory')} == {OK}
    assert exit_code(findings, monkeypatch) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == 'doctor: pre-training can run'
    for name in ('torch', 'onedl-mmcv', 'device', 'mmcv operators', 'import mmdet', 'import mmseg'):
        assert name in printed


@pytest.mark.parametrize('version', [None, '2.3.1'])
def test_missing_or_old_package_is_a_problem_with_its_command(
    version: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = diagnose(machine(), packages(torch=version))
    assert row(findings, 'torch').status == PROBLEM
    assert exit_code(findings, monkeypatch) == 1
    printed = capsys.readouterr().out
    assert f"-m pip install 'torch>={lower_bounds()['torch']}'" in printed
    assert printed.splitlines()[-1].startswith('doctor: pre-training cannot run: 1 problem')


@pytest.mark.parametrize('name', ['onedl-mmdetection', 'onedl-mmsegmentation'])
def test_detection_and_segmentation_are_not_needed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = diagnose(machine(mmdet=Outcome(False, 'x'), mmseg=Outcome(False, 'x')), packages(**{name: None}))
    assert row(findings, name).status == WARNING
    assert row(findings, 'import mmdet').status == WARNING
    assert exit_code(findings, monkeypatch) == 0


def test_mmcv_without_operators_is_said_and_nothing_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = diagnose(machine(mmcv_operators=NO_OPERATORS), packages())
    operators = row(findings, 'mmcv operators')
    assert operators == Finding('mmcv operators', operators.found)
    assert operators.found.startswith("not compiled; Mask R-CNN and SETR work with torchvision's")
    assert row(findings, 'import mmdet') == Finding('import mmdet', 'works')
    assert exit_code(findings, monkeypatch) == 0
    assert row(diagnose(machine(), packages()), 'mmcv operators').found == 'compiled'


def test_operators_of_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    unusable = Outcome(False, 'ImportError: mmcv/_ext.so: undefined symbol: _ZN3c10')
    findings = diagnose(machine(mmcv_operators=unusable, mmdet=unusable, mmseg=unusable), packages())
    operators = row(findings, 'mmcv operators')
    assert (operators.status, operators.found) == (WARNING, unusable.text)
    assert 'compiled for another torch' in operators.advice
    assert operators.command.endswith('-m pip install --force-reinstall --no-deps --no-cache-dir onedl-mmcv')
    for name in ('import mmdet', 'import mmseg'):
        assert row(findings, name).advice.endswith('Mend what stands above first.')
    assert exit_code(findings, monkeypatch) == 0


def test_mmdet_that_is_broken_itself() -> None:
    findings = diagnose(machine(mmcv_operators=NO_OPERATORS, mmdet=Outcome(False, 'SyntaxError: x')), packages())
    mmdet = row(findings, 'import mmdet')
    assert (mmdet.status, mmdet.found) == (WARNING, 'SyntaxError: x')
    assert mmdet.command.endswith('install --force-reinstall onedl-mmdetection')


@pytest.mark.parametrize(
    ('extension', 'works', 'text'),
    [(None, False, ''), ('', True, ''), ('raise ImportError("undefined symbol")', False, 'undefined symbol')],
)
def test_probe_of_the_operators(
    extension: str | None, works: bool, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'mmcv').mkdir()
    for name, code in {'torch.py': '', 'mmcv/__init__.py': '', 'mmcv/_ext.py': extension}.items():
        if code is not None:
            (tmp_path / name).write_text(code, encoding='utf-8')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    outcome = probe(PROBES['mmcv operators'])
    assert outcome.works is works
    assert outcome.text.endswith(text)
    assert bool(outcome.text) is bool(text)


def test_foundations_are_tried_only_when_mstkit_does_not_work() -> None:
    tried: list[str] = []

    def run(code: str) -> Outcome:
        tried.append(code)
        return machine(mstkit=Outcome(False, 'ImportError: x') if len(tried) > len(PROBES) else Outcome(True))(code)

    diagnose(run, packages())
    assert set(tried) == set(PROBES.values())


def test_opencv_without_libgl(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Outcome(False, 'ImportError: libGL.so.1: cannot open shared object file')
    findings = diagnose(
        machine(mstkit=broken, cv2=broken, mmpretrain=broken, mmcv_operators=broken, mmdet=broken), packages()
    )
    assert row(findings, 'import torchvision').status == OK
    assert row(findings, 'import cv2').command.endswith('opencv-python-headless==4.12.0.88')
    assert 'stands above' in row(findings, 'mmcv operators').advice
    assert 'stands above' in row(findings, 'import mmdet').advice
    assert exit_code(findings, monkeypatch) == 1


def test_torch_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = diagnose(machine(torch=Outcome(False, 'crashed with signal 11')), packages())
    device = row(findings, 'device')
    assert device.status == PROBLEM
    assert device.found == 'crashed with signal 11'
    assert device.command.endswith('-m pip install --force-reinstall torch torchvision')
    assert exit_code(findings, monkeypatch) == 1


def test_gpus_are_described() -> None:
    found = {'device': 'cuda', 'threads': 2, 'build': '13.0', 'names': ['A, 80 GiB', 'B, 40 GiB'], 'bf16': True}
    device = row(diagnose(machine(torch=Outcome(True, json.dumps(found))), packages()), 'device')
    assert device.status == OK
    assert device.found.startswith('A, 80 GiB; B, 40 GiB; bf16')


def test_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, 'which', lambda name: '/usr/bin/nvidia-smi')
    device = row(diagnose(machine(), packages()), 'device')
    assert device.status == WARNING
    assert 'CUDA 13.0' in device.advice


def test_packages_that_overwrite_each_other() -> None:
    finding = row(diagnose(machine(), packages(mmcv='2.2.0')), 'onedl-mmcv')
    assert finding.status == WARNING
    assert 'pip uninstall -y mmcv && ' in finding.command
    assert finding.command.endswith('--force-reinstall --no-deps onedl-mmcv')
    assert row(diagnose(machine(), packages(mmcv='2.2.0', onedl_mmcv=None)), 'onedl-mmcv').status == PROBLEM


@pytest.mark.parametrize(
    ('version', 'bound', 'older'),
    [
        ('2.10.0', '2.4', False),
        ('2.3.1', '2.4', True),
        ('2.4', '2.4', False),
        ('2.4.0+cpu', '2.4', False),
        ('2.3.9+cu124', '2.4', True),
        ('0.10.12', '0.10.8', False),
    ],
)
def test_versions_are_compared_as_numbers(version: str, bound: str, older: bool) -> None:
    assert is_older(version, bound) is older


def test_lower_bounds_are_those_of_the_requirements() -> None:
    bounds = lower_bounds()
    assert {'torch', 'timm', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain'} <= set(bounds)
    text = (ROOT / 'requirements' / 'runtime.txt').read_text(encoding='utf-8')
    assert all(f'\n{name}>={bound}\n' in text for name, bound in bounds.items())


def test_probe_survives_what_it_runs() -> None:
    assert probe('print("first"); print("last")') == Outcome(True, 'last')
    assert probe('raise OSError("libcudart.so: cannot open")') == Outcome(False, 'OSError: libcudart.so: cannot open')
    assert probe('import os, signal; os.kill(os.getpid(), signal.SIGKILL)') == Outcome(False, 'crashed with signal 9')


def test_probe_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*arguments: object, **options: object) -> None:
        raise subprocess.TimeoutExpired('python', 1)

    monkeypatch.setattr(doctor.subprocess, 'run', hang)
    assert probe('import torch') == Outcome(False, LATE)


def test_slow_machine_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    late = Outcome(False, LATE)
    findings = diagnose(machine(torch=late, mstkit=late, cv2=late, mmcv_operators=late, mmdet=late), packages())
    for name in ('device', 'import mstkit', 'import cv2', 'mmcv operators', 'import mmdet'):
        assert row(findings, name).status == WARNING
        assert 'again' in row(findings, name).advice
    assert exit_code(findings, monkeypatch) == 0


def run_doctor(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command of the README with packages of ``folder`` in front of the installed ones."""
    environment = {**os.environ, 'PYTHONPATH': str(folder)}
    command = [sys.executable, '-m', 'mstkit.doctor']
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize('error', ['OSError("libtorch_cpu.so: broken")', 'ModuleNotFoundError("No module torch")'])
def test_command_runs_where_torch_does_not(tmp_path: Path, error: str) -> None:
    for name in ('torch', 'cv2', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg'):
        (tmp_path / f'{name}.py').write_text(f'raise {error}\n', encoding='utf-8')
    done = run_doctor(tmp_path)
    assert done.returncode == 1
    assert error.split('"')[1] in done.stdout
    assert 'pip install --force-reinstall torch torchvision' in done.stdout
    assert 'Traceback' not in done.stdout + done.stderr


@pytest.mark.slow
def test_command_on_this_machine(tmp_path: Path) -> None:
    done = run_doctor(tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == 'doctor: pre-training can run'
    for name in ('mmdet', 'mmseg'):
        assert re.search(rf'^import {name} +ok +works$', done.stdout, re.MULTILINE), done.stdout
