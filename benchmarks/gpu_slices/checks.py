"""The tests, of which some run on a GPU alone."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gpu_slices.results import Results, run_program
from gpu_slices.settings import Settings

ONE_THREAD = {'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'Agg'}


def counted(path: Path) -> dict[str, Any]:
    """What a report of pytest's (JUnit XML) says: counts, and what failed."""
    (suite,) = ElementTree.parse(path).getroot().iter('testsuite')
    counts = {name: int(suite.get(name, 0)) for name in ('tests', 'failures', 'errors', 'skipped')}
    failed = [
        f'{case.get("classname")}::{case.get("name")}: {(part.get("message") or "")[:200]}'
        for case in suite.iter('testcase')
        for part in case
        if part.tag in ('failure', 'error')
    ]
    return dict(counts, failed=failed[:50])


def pytest(settings: Settings, results: Results, name: str, words: list[object]) -> dict[str, Any]:
    """Runs tests, and counts them."""
    report = settings.scratch('tests') / f'{name}.xml'
    report.unlink(missing_ok=True)
    command = ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', f'--junitxml={report}', *words]
    found = run_program(command, results.left - 5, report.with_suffix('.log'), ONE_THREAD)
    if not report.is_file():
        raise RuntimeError(f'no report; ended with {found["code"]}: {" | ".join(found["tail"][-3:])}')
    return dict(counted(report), code=found['code'])


def gpu_tests(settings: Settings, results: Results) -> None:
    """What a CPU skips: the tests that are marked as of a GPU."""
    where: list[object] = ['tests/engine/test_optim_wrapper.py'] if settings.rehearse else ['tests']
    results.row('of a GPU', lambda: pytest(settings, results, 'gpu', ['-m', 'gpu', *where]), needs=60)


def all_tests(settings: Settings, results: Results) -> None:
    """All other tests, which take another way here and there where torch sees a GPU."""
    if settings.rehearse:
        results.skip('all others', 'make test runs them')
        return
    together: list[object] = ['-n', 8] if importlib.util.find_spec('xdist') else []
    words = [*together, '-m', 'not slow and not gpu']
    results.row('all others', lambda: pytest(settings, results, 'others', words), needs=120)
