"""mmpretrain's names are found from the scope of mstkit."""

from __future__ import annotations

import subprocess
import sys

NAMES = {
    'HOOKS': 'VisualizationHook',
    'OPTIM_WRAPPER_CONSTRUCTORS': 'LearningRateDecayOptimWrapperConstructor',
    'METRICS': 'MultiLabelMetric',
    'VISUALIZERS': 'UniversalVisualizer',
    'MODELS': 'LinearClsHead',
    'TRANSFORMS': 'RandAugment',
}


def test_nothing_else_has_to_be_imported_first():
    """In a process that has just started, each by a fresh look: what an earlier one imported would hide a mistake."""
    program = f"""
import mstkit.registry as ours
missing = []
for registry, name in {NAMES}.items():
    with getattr(ours, registry).switch_scope_and_registry('mstkit') as found:
        if found.get(name) is None:
            missing.append(name)
print(missing)
"""
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == '[]', done.stdout + done.stderr
