"""The trials of :mod:`mstkit.doctor`: pieces of code, each run in a process of its own, and how they ended."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# torchvision imports next to a torch that it was not compiled for; only its operators fail.
NMS = """
import torch, torchvision
torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
"""

# What is tried, each in a fresh interpreter; what one prints last is its result. mmdet and mmseg are imported as our
# users do it, after mstkit.downstream, which lends them torchvision's operators where mmcv has none.
PROBES = {
    'torch': """
import json, torch
cuda = torch.cuda.is_available()
device = 'cuda' if cuda else 'mps' if torch.backends.mps.is_available() else 'cpu'
(torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum().item()
found = dict(device=device, threads=torch.get_num_threads(), build=str(torch.version.cuda))
if cuda:
    all_of_them = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    found['names'] = [f'{p.name}, {p.total_memory / 2**30:.0f} GiB' for p in all_of_them]
    found['bf16'] = torch.version.hip is not None or torch.cuda.get_device_capability()[0] >= 8
else:
    checks = (getattr(torch.cpu, name, bool) for name in ('_is_avx512_bf16_supported', '_is_amx_tile_supported'))
    found['bf16'] = any(check() for check in checks)
print(json.dumps(found))
""",
    'mstkit': f'import mstkit.datasets, mstkit.engine, mstkit.evaluation, mstkit.models, mstkit.visualization{NMS}',
    'mmcv operators': """
import importlib.util, sys
if importlib.util.find_spec('mmcv._ext') is None:
    sys.exit(1)
import torch, mmcv._ext
""",
    'mmdet': 'import mstkit.downstream, mmdet.models, mmdet.datasets',
    'mmseg': 'import mstkit.downstream, mmseg.models, mmseg.datasets',
    'tensorboard': 'import importlib.util, sys; sys.exit(importlib.util.find_spec("tensorboard") is None)',
}

# What mstkit stands on, from the ground up; tried only when mstkit itself does not work, to find the reason.
FOUNDATIONS = {
    'torchvision': NMS,
    'cv2': 'import cv2',
    'mmpretrain': 'import mmpretrain.models, mmpretrain.datasets',
}


# Importing torch from a cold and busy disk was seen to take minutes: nothing is concluded from it.
PATIENCE = 600.0
LATE = 'did not answer within ten minutes'


@dataclass(frozen=True)
class Outcome:
    """How a probe ended: ``text`` is what it printed last, or the last line of its error."""

    works: bool
    text: str = ''


def probe(code: str) -> Outcome:
    """Runs a piece of code in a fresh interpreter, so that not even a crash of it reaches us."""
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore', MPLBACKEND='Agg')
    root = f'import sys; sys.path.append({str(Path(__file__).resolve().parents[1])!r})\n'
    try:
        process = subprocess.run(
            [sys.executable, '-c', root + code], capture_output=True, text=True, timeout=PATIENCE, env=environment
        )
    except subprocess.TimeoutExpired:
        return Outcome(False, LATE)
    said = (process.stdout if process.returncode == 0 else process.stderr).strip().splitlines()
    if process.returncode < 0:
        return Outcome(False, f'crashed with signal {-process.returncode}')
    return Outcome(process.returncode == 0, said[-1].strip() if said else '')
