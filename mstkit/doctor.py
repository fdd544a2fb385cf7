"""Checks the installation and prints the commands that repair it: ``python -m mstkit.doctor``.

It works even if torch or mmpretrain is missing or broken: this file imports only the standard library, and every
package is imported in a separate process. The exit code is 1 if pre-training could not run, else 0.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mstkit.version import __version__

ROOT = Path(__file__).resolve().parents[1]
OK, WARNING, PROBLEM = 'ok', 'warning', 'PROBLEM'
# Importing torch from a cold and busy disk was seen to take minutes: nothing is concluded from it.
PATIENCE = 600.0
LATE = 'did not answer within ten minutes'
BUSY = 'The disk is slow or the machine busy, which proves nothing: run this again later.'

# What is tried, each in a fresh interpreter; what one prints last is its result. torchvision imports next to a torch
# that it was not compiled for, and only its operators fail. mmdet and mmseg are imported as our users do it, after
# mstkit.downstream, which lends them torchvision's operators where mmcv has none.
NMS = 'import torch, torchvision; torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)'
PROBES = {
    'torch': """
import json, torch
cuda = torch.cuda.is_available()
device = 'cuda' if cuda else 'mps' if torch.backends.mps.is_available() else 'cpu'
(torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum().item()
gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())] if cuda else []
checks = (getattr(torch.cpu, name, bool) for name in ('_is_avx512_bf16_supported', '_is_amx_tile_supported'))
bf16 = torch.version.hip is not None or torch.cuda.get_device_capability()[0] >= 8 if cuda else any(f() for f in checks)
names = [f'{p.name}, {p.total_memory / 2**30:.0f} GiB' for p in gpus]
print(json.dumps(dict(device=device, build=str(torch.version.cuda), names=names, bf16=bf16)))
""",
    'mstkit': f'import mstkit.datasets, mstkit.engine, mstkit.evaluation, mstkit.models, mstkit.visualization; {NMS}',
    'mmcv operators': """
import importlib.util, sys
if importlib.util.find_spec('mmcv._ext') is None:
    sys.exit(1)
import torch, mmcv._ext
""",
    'mmdet': 'import mstkit.downstream, mmdet.models, mmdet.datasets',
    'mmseg': 'import mstkit.downstream, mmseg.models, mmseg.datasets',
}
# What mstkit stands on, from the ground up; tried only when mstkit itself does not work, to find the reason.
FOUNDATIONS = {'torchvision': NMS, 'cv2': 'import cv2', 'mmpretrain': 'import mmpretrain.models, mmpretrain.datasets'}

# What helps where one of them does not work: a sentence, and what pip is to do.
AGAIN = ('install', '--force-reinstall', '--no-deps')
TORCH = ('install', '--force-reinstall', 'torch', 'torchvision')
MENDS: dict[str, tuple[str, tuple[str, ...]]] = {
    'torch': ('torch does not run.', TORCH),
    'torchvision': ('It does not fit this torch: both have to come from the same place.', TORCH),
    'cv2': ('Without libGL (a server, a container) OpenCV has to be headless.', (*AGAIN, 'opencv-python-headless')),
    'mmpretrain': (
        'Mend what stands above first; if it stays, install it anew.',
        (*AGAIN, 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain'),
    ),
    'mstkit': ('Mend what stands above first; where nothing does, this is a bug of ours: please report it.', ()),
    'mmcv operators': (
        'They were compiled for another torch, it seems, and mmdet and mmseg stumble over them. Without them, which is '
        "what this installs, Mask R-CNN and SETR work with torchvision's.",
        (*AGAIN, '--no-cache-dir', 'onedl-mmcv'),
    ),
    'mmdet': ('Pre-training does not need it.', ('install', '--force-reinstall', 'onedl-mmdetection')),
    'mmseg': ('Pre-training does not need it.', ('install', '--force-reinstall', 'onedl-mmsegmentation')),
}

# Distributions that install the same packages as ours: whichever was installed last has overwritten the other's files.
RIVALS = {
    'onedl-mmengine': ('mmengine', 'mmengine-lite'),
    'onedl-mmcv': ('mmcv', 'mmcv-lite', 'mmcv-full'),
    'onedl-mmpretrain': ('mmpretrain',),
    'onedl-mmdetection': ('mmdet',),
    'onedl-mmsegmentation': ('mmsegmentation',),
}
OPTIONAL = {
    'tensorboard': 'curves in TensorBoard',
    'webdataset': 'training from tar shards',
    'onnx': 'ONNX files of encoders',
    'onnxruntime': 'ONNX files of encoders',
}


@dataclass(frozen=True)
class Outcome:
    """Result of a probe: ``text`` is the last line of its output, or of its error."""

    works: bool
    text: str = ''


@dataclass(frozen=True)
class Finding:
    """A row of the table; ``advice`` and ``command`` are printed below the table if something has to be done."""

    name: str
    found: str
    status: str = OK
    advice: str = ''
    command: str = ''


def probe(code: str) -> Outcome:
    """Runs a piece of code in a new interpreter, so that even a crash does no harm."""
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore', MPLBACKEND='Agg')
    command = [sys.executable, '-c', f'import sys; sys.path.append({str(ROOT)!r})\n{code}']
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    except subprocess.TimeoutExpired:
        return Outcome(False, LATE)
    if process.returncode < 0:
        return Outcome(False, f'crashed with signal {-process.returncode}')
    said = (process.stdout if process.returncode == 0 else process.stderr).strip().splitlines()
    return Outcome(process.returncode == 0, said[-1].strip() if said else '')


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, or None; nothing is imported."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def lower_bounds() -> dict[str, str]:
    """The distributions that mstkit needs, with the oldest version that was tested: ``{'torch': '2.4', ...}``.

    Read from requirements/runtime.txt of the source tree, or from the installed package where there is no tree.
    """
    file = ROOT / 'requirements' / 'runtime.txt'
    if file.is_file():
        lines = file.read_text(encoding='utf-8').splitlines()
    else:
        lines = [line for line in metadata.requires('mstkit') or [] if 'extra ==' not in line]
    matches = (re.match(r'([A-Za-z0-9._-]+)\s*>=\s*([0-9][0-9.]*)', line) for line in lines)
    return {match[1].lower(): match[2] for match in matches if match}


def is_older(version: str, bound: str) -> bool:
    """Whether ``version`` is below ``bound``, number by number: 2.10 is not older than 2.4."""
    numbers = [[int(part) for part in re.findall(r'\d+', re.split(r'[+-]', text)[0])] for text in (version, bound)]
    return numbers[0] < numbers[1]


def pip(*arguments: str) -> str:
    """The pip command for the running interpreter, as typed in a shell."""
    executable = os.path.relpath(sys.executable)
    return shlex.join([sys.executable if executable.startswith('..') else executable, '-m', 'pip', *arguments])


def check_versions(version_of: Callable[[str], str | None]) -> list[Finding]:
    """Compares what is installed with requirements/runtime.txt, and looks for packages that overwrite each other."""
    findings = []
    for name, bound in lower_bounds().items():
        version = version_of(name)
        # Detection and segmentation come after pre-training, which runs without them.
        bad = WARNING if name in ('onedl-mmdetection', 'onedl-mmsegmentation') else PROBLEM
        need = f'{version or "missing"} (needs {bound} or newer)'
        if rivals := [rival for rival in RIVALS.get(name, ()) if version_of(rival) is not None]:
            advice = f'{" and ".join(rivals)} shares its folder with {name}: keep one.'
            mend = f'{pip("uninstall", "-y", *rivals)} && {pip(*AGAIN, name)}'
            findings.append(Finding(name, need, bad if version is None else WARNING, advice, mend))
        elif version is None or is_older(version, bound):
            advice = 'It is missing.' if version is None else f'It is older than {bound}.'
            findings.append(Finding(name, need, bad, advice, pip('install', f'{name}>={bound}')))
        else:
            findings.append(Finding(name, version))
    absent = {name: f'not installed; optional ({use}): {pip("install", name)}' for name, use in OPTIONAL.items()}
    return findings + [Finding(name, version_of(name) or text) for name, text in absent.items()]


def check_device(found: Mapping[str, Any]) -> Finding:
    """Describes the device on which torch would train, from what its probe printed."""
    cores = f'{os.cpu_count()} cores'
    if hasattr(os, 'sysconf') and 'SC_PHYS_PAGES' in os.sysconf_names:  # not on Windows
        cores += f', {os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30:.0f} GiB memory'
    if found['device'] == 'cuda':
        precision = 'bf16' if found['bf16'] else 'no bf16: mixed precision is fp16 with a scaler'
        return Finding('device', f'{"; ".join(found["names"])}; {precision}; CPU: {cores}')
    if found['device'] == 'mps':
        return Finding('device', f'Apple GPU (MPS), fp32; CPU: {cores}')
    if shutil.which('nvidia-smi') is None:
        return Finding('device', f'CPU, {cores}; trains in {"bf16 in hardware" if found.get("bf16") else "fp32"}')
    build = 'was built without CUDA' if found['build'] == 'None' else f'is built for CUDA {found["build"]}'
    advice = f'There is an NVIDIA driver, but torch, which {build}, cannot use it: compare with the CUDA version that '
    advice += '"nvidia-smi" prints and install the torch that fits.'
    return Finding('device', f'CPU, {cores}; the GPU is not used', WARNING, advice, pip(*TORCH[:-1]))


def check_space() -> list[Finding]:
    """Checks the free space on the disk and in shared memory, which data loader workers use."""
    disk = shutil.disk_usage('.').free / 2**30
    short = (WARNING, 'Checkpoints need room.', f'du -sh {shlex.quote(os.getcwd())}/*') if disk < 2 else ()
    rows = [Finding('disk', f'{disk:.1f} GiB free in this folder', *short)]
    if os.path.isdir('/dev/shm') and (shared := shutil.disk_usage('/dev/shm').total / 2**30) < 1:
        advice = 'Loaders with worker processes die of this ("Bus error"): start the container with more of it.'
        rows.append(Finding('shared memory', f'{shared:.2f} GiB', WARNING, advice, 'docker run --shm-size=8g ...'))
    return rows


def check_import(name: str, outcomes: Mapping[str, Outcome], version_of: Callable[[str], str | None]) -> Finding:
    """A row for one of :data:`MENDS`; a missing package that pre-training does not need is no problem."""
    outcome, operators = outcomes[name], name == 'mmcv operators'
    row = {'torch': 'device', 'mmcv operators': name}.get(name, f'import {name}')
    if outcome.works:
        works = 'compiled' if operators else 'works'
        return check_device(json.loads(outcome.text)) if name == 'torch' else Finding(row, works)
    if outcome.text == LATE:
        return Finding(row, LATE, WARNING, BUSY)
    if operators and not outcome.text:  # there are none, and nothing went wrong
        return Finding(row, "not compiled; Mask R-CNN and SETR work with torchvision's, pre-training needs none")
    sentence, mend = MENDS[name]
    if name in ('torch', 'mstkit', *FOUNDATIONS):
        opencv = version_of('opencv-python') if name == 'cv2' else None
        mend = (*mend[:-1], f'{mend[-1]}=={opencv}') if opencv else mend
        return Finding(row, outcome.text, PROBLEM, sentence, pip(*mend) if mend else '')
    stumbles = not operators and outcomes['mmcv operators'].text and not outcomes['mmcv operators'].works
    if stumbles or not outcomes['mstkit'].works:
        return Finding(row, outcome.text, WARNING, 'Pre-training does not need it. Mend what stands above first.')
    return Finding(row, outcome.text, WARNING, sentence, pip(*mend))


def diagnose(
    run: Callable[[str], Outcome] = probe, version_of: Callable[[str], str | None] = installed_version
) -> list[Finding]:
    """Examines the machine.

    Args:
        run: runs a piece of code in another process and returns the outcome.
        version_of: returns the version of an installed distribution, or None.

    Returns:
        The rows of the table, in the order in which problems should be repaired.
    """
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        outcomes = dict(zip(PROBES, pool.map(run, PROBES.values()), strict=True))
        if not outcomes['mstkit'].works:
            outcomes.update(zip(FOUNDATIONS, pool.map(run, FOUNDATIONS.values()), strict=True))
    rows = [Finding('mstkit', __version__), Finding('python', f'{platform.python_version()}, {platform.platform()}')]
    rows += [*check_versions(version_of), *check_space()]
    return rows + [check_import(name, outcomes, version_of) for name in MENDS if name in outcomes]


def main() -> int:
    """Prints the table and returns the exit code."""
    print('Trying the packages, about half a minute ...', file=sys.stderr, flush=True)
    findings = diagnose()
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f'{finding.name:<{width}}  {finding.status:<7}  {finding.found}')
    for finding in findings:
        if finding.advice:
            command = f'\n    {finding.command}' if finding.command else ''
            print(f'\n{finding.status}: {finding.name}: {finding.advice}{command}')
    problems = sum(finding.status == PROBLEM for finding in findings)
    verdict = f'pre-training cannot run: {problems} problem(s), see above' if problems else 'pre-training can run'
    if not problems and any(finding.found == LATE for finding in findings):
        verdict = 'no problem found, but not everything answered in time, see above'
    print(f'\ndoctor: {verdict}')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
