"""Says what is installed, what is wrong with it, and the command that mends it: ``python -m mstkit.doctor``.

It runs where torch or mmpretrain is missing or broken: this file imports the standard library only, and every package
is tried in a process of its own. Exit code 1 when pre-training could not run, else 0.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from mstkit._probes import FOUNDATIONS, LATE, PROBES, Outcome, probe
from mstkit.version import __version__

OK, WARNING, PROBLEM = 'ok', 'warning', 'PROBLEM'
BUSY = 'The disk is slow or the machine busy, which proves nothing: run this again later.'

# Distributions that install the same packages as ours: whichever was installed last has overwritten the other's files.
RIVALS = {
    'onedl-mmengine': ('mmengine', 'mmengine-lite'),
    'onedl-mmcv': ('mmcv', 'mmcv-lite', 'mmcv-full'),
    'onedl-mmpretrain': ('mmpretrain',),
    'onedl-mmdetection': ('mmdet',),
    'onedl-mmsegmentation': ('mmsegmentation',),
}


@dataclass(frozen=True)
class Finding:
    """A row of the table; ``advice`` (a sentence and a command) is printed below it where there is something to do."""

    name: str
    found: str
    status: str = OK
    advice: str = ''


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
    file = Path(__file__).resolve().parents[1] / 'requirements' / 'runtime.txt'
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
    """The pip command of the interpreter that runs this, as one would type it."""
    executable = os.path.relpath(sys.executable)
    executable = sys.executable if executable.startswith('..') else executable
    return shlex.join([executable, '-m', 'pip', *arguments])


def check_versions(version_of: Callable[[str], str | None]) -> list[Finding]:
    """Compares what is installed with requirements/runtime.txt, and looks for packages that overwrite each other."""
    findings = []
    for name, bound in lower_bounds().items():
        version = version_of(name)
        # Detection and segmentation come after pre-training, which runs without them.
        bad = WARNING if name in ('onedl-mmdetection', 'onedl-mmsegmentation') else PROBLEM
        rivals = [rival for rival in RIVALS.get(name, ()) if version_of(rival) is not None]
        need = f'{version or "missing"} (needs {bound} or newer)'
        if rivals:
            mend = f'{pip("uninstall", "-y", *rivals)} && {pip("install", "--force-reinstall", "--no-deps", name)}'
            advice = f'{" and ".join(rivals)} shares its folder with {name}: keep one.  {mend}'
            findings.append(Finding(name, need, bad if version is None else WARNING, advice))
        elif version is None or is_older(version, bound):
            why = 'It is missing.' if version is None else f'It is older than {bound}.'
            findings.append(Finding(name, need, bad, f'{why}  {pip("install", f"{name}>={bound}")}'))
        else:
            findings.append(Finding(name, version))
    return findings


def check_device(torch: Outcome) -> Finding:
    """Describes the device on which torch would train."""
    cores = f'{os.cpu_count()} cores'
    if hasattr(os, 'sysconf') and 'SC_PHYS_PAGES' in os.sysconf_names:
        cores += f', {os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30:.0f} GiB memory'
    if torch.text == LATE:
        return Finding('device', LATE, WARNING, BUSY)
    if not torch.works:
        mend = pip('install', '--force-reinstall', 'torch', 'torchvision')
        return Finding('device', 'torch does not run', PROBLEM, f'{torch.text}  {mend}')
    found = json.loads(torch.text)
    if found['device'] == 'cuda':
        precision = 'bf16' if found['bf16'] else 'no bf16: mixed precision is fp16 with a scaler'
        return Finding('device', f'{"; ".join(found["names"])}; {precision}; CPU: {cores}')
    if found['device'] == 'mps':
        return Finding('device', f'Apple GPU (MPS), fp32; CPU: {cores}')
    if shutil.which('nvidia-smi') is None:
        precision = 'bf16 in hardware' if found.get('bf16') else 'fp32'
        return Finding('device', f'CPU, {cores}; trains in {precision}')
    build = 'was built without CUDA' if found['build'] == 'None' else f'is built for CUDA {found["build"]}'
    advice = f'There is an NVIDIA driver, but torch, which {build}, cannot use it: compare with the CUDA version that '
    advice += f'"nvidia-smi" prints and install the torch that fits.  {pip("install", "--force-reinstall", "torch")}'
    return Finding('device', f'CPU, {cores}; the GPU is not used', WARNING, advice)


def check_space() -> list[Finding]:
    """Looks at the disk and at the shared memory through which the loaders' processes hand over images."""
    disk = shutil.disk_usage('.').free / 2**30
    advice = f'Checkpoints need room.  du -sh {shlex.quote(os.getcwd())}/*' if disk < 2 else ''
    rows = [Finding('disk', f'{disk:.0f} GiB free in this folder', WARNING if advice else OK, advice)]
    if os.path.isdir('/dev/shm'):
        shared = shutil.disk_usage('/dev/shm').total / 2**30
        if shared < 1:
            advice = 'Loaders with worker processes die of this ("Bus error"): start the container with more of it.  '
            rows.append(Finding('shared memory', f'{shared:.2f} GiB', WARNING, advice + 'docker run --shm-size=8g ...'))
    return rows


def check_foundations(outcomes: Mapping[str, Outcome], version_of: Callable[[str], str | None]) -> list[Finding]:
    """Rows for mstkit and, where it does not work, for what it stands on."""
    again = ('install', '--force-reinstall', '--no-deps')
    opencv = version_of('opencv-python')
    headless = 'On a machine without libGL (a server, a container) OpenCV has to be the headless build.  '
    headless += pip(*again, f'opencv-python-headless=={opencv}')
    advice = {
        'torchvision': 'It does not fit this torch: both have to come from the same place.  '
        + pip('install', '--force-reinstall', 'torch', 'torchvision'),
        'cv2': headless if opencv else f'It is missing.  {pip("install", "opencv-python")}',
        'mmpretrain': 'Mend what stands above first; if it stays, install it anew.  '
        + pip(*again, 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain'),
        'mstkit': 'Mend what stands above first; where nothing does, this is a bug of ours: please report it.',
    }
    rows = []
    for name in advice:
        outcome = outcomes.get(name)
        if outcome is None:
            continue
        if outcome.works:
            rows.append(Finding(f'import {name}', 'works'))
        elif outcome.text == LATE:
            rows.append(Finding(f'import {name}', LATE, WARNING, BUSY))
        else:
            rows.append(Finding(f'import {name}', outcome.text, PROBLEM, advice[name]))
    return rows


def check_operators(operators: Outcome, mstkit: Outcome) -> Finding:
    """Describes mmcv's operators: compiled, or torchvision's in their place, or compiled and unusable."""
    name = 'mmcv operators'
    if operators.works:
        return Finding(name, 'compiled')
    if not operators.text:  # there are none, and nothing went wrong
        return Finding(name, "not compiled; Mask R-CNN and SETR work with torchvision's, pre-training needs none")
    if operators.text == LATE:
        advice = BUSY
    elif not mstkit.works:
        advice = 'Pre-training does not need them. Mend what stands above first.'
    else:
        advice = 'They were compiled for another torch, it seems, and mmdet and mmseg stumble over them. Without them, '
        advice += "which is what this installs, Mask R-CNN and SETR work with torchvision's.  "
        advice += pip('install', '--force-reinstall', '--no-deps', '--no-cache-dir', 'onedl-mmcv')
    return Finding(name, operators.text, WARNING, advice)


def check_companions(outcomes: Mapping[str, Outcome]) -> list[Finding]:
    """Rows for what pre-training can do without."""
    operators = check_operators(outcomes['mmcv operators'], outcomes['mstkit'])
    rows = [operators]
    for name, distribution in (('mmdet', 'onedl-mmdetection'), ('mmseg', 'onedl-mmsegmentation')):
        outcome = outcomes[name]
        if outcome.works:
            rows.append(Finding(f'import {name}', 'works'))
            continue
        if outcome.text == LATE:
            advice = BUSY
        elif operators.status != OK or not outcomes['mstkit'].works:
            advice = 'Pre-training does not need it. Mend what stands above first.'
        else:
            advice = f'Pre-training does not need it.  {pip("install", "--force-reinstall", distribution)}'
        rows.append(Finding(f'import {name}', outcome.text, WARNING, advice))
    absent = f'not installed; optional: {pip("install", "tensorboard")}'
    rows.append(Finding('tensorboard', 'installed' if outcomes['tensorboard'].works else absent))
    return rows


def diagnose(
    run: Callable[[str], Outcome] = probe, version_of: Callable[[str], str | None] = installed_version
) -> list[Finding]:
    """Examines the machine.

    Args:
        run: runs a piece of code elsewhere and says how it ended.
        version_of: gives the version of an installed distribution, or None.

    Returns:
        The rows of the table, in the order in which they are to be mended.
    """
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        outcomes = dict(zip(PROBES, pool.map(run, PROBES.values()), strict=True))
        if not outcomes['mstkit'].works:
            outcomes.update(zip(FOUNDATIONS, pool.map(run, FOUNDATIONS.values()), strict=True))
    rows = [Finding('mstkit', __version__), Finding('python', f'{platform.python_version()}, {platform.platform()}')]
    rows += check_versions(version_of)
    rows += [check_device(outcomes['torch']), *check_space()]
    rows += check_foundations(outcomes, version_of)
    return rows + check_companions(outcomes)


def main() -> int:
    """Prints the table and returns the exit code."""
    print('Trying the packages, about half a minute ...', file=sys.stderr, flush=True)
    findings = diagnose()
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f'{finding.name:<{width}}  {finding.status:<7}  {finding.found}')
    for finding in findings:
        if finding.advice:
            sentence, _, command = finding.advice.partition('  ')
            print(f'\n{finding.status}: {finding.name}: {sentence}' + (f'\n    {command}' if command else ''))
    problems = sum(finding.status == PROBLEM for finding in findings)
    if problems:
        verdict = f'pre-training cannot run: {problems} problem(s), see above'
    elif any(finding.found == LATE for finding in findings):
        verdict = 'no problem found, but not everything answered in time, see above'
    else:
        verdict = 'pre-training can run'
    print(f'\ndoctor: {verdict}')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
