"""What stands around the code: citation, hooks before a commit, workflow, issue templates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from mstkit.version import __version__

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = sorted((ROOT / '.github' / 'ISSUE_TEMPLATE').glob('*.yml'))


def read(name: str | Path) -> dict:
    return yaml.safe_load((ROOT / name).read_text(encoding='utf-8'))


def test_the_citation_is_of_this_version_and_names_the_papers() -> None:
    citation = read('CITATION.cff')
    assert citation['version'] == __version__
    assert citation['license'] == 'Apache-2.0'
    papers = [identifier['value'] for paper in citation['references'] for identifier in paper['identifiers']]
    assert papers == ['arXiv:2106.05656', 'arXiv:2203.12719']


def test_hooks_fetch_nothing_and_run_the_checks_of_make_lint() -> None:
    repositories = read('.pre-commit-config.yaml')['repos']
    assert [repository['repo'] for repository in repositories] == ['local']
    entries = [hook['entry'] for hook in repositories[0]['hooks']]
    assert {hook['language'] for hook in repositories[0]['hooks']} == {'system'}
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    checks = re.findall(r'-m ((?:ruff|mypy)(?: [a-z]+)?)', makefile)
    assert len(checks) == len(entries)
    for check, entry in zip(checks, entries, strict=True):
        assert entry.startswith(f'python -m {check}')


def test_the_workflow_tests_every_version_from_the_oldest() -> None:
    job = read('.github/workflows/test.yml')['jobs']['test']
    versions = job['strategy']['matrix']['python']
    oldest = re.search(r"python_requires='>=3\.(\d+)'", (ROOT / 'setup.py').read_text(encoding='utf-8'))
    assert oldest is not None
    assert versions == [f'3.{int(oldest[1]) + further}' for further in range(len(versions))]
    assert 'make test PYTHON=python${{ matrix.python }}' in [step.get('run') for step in job['steps']]


@pytest.mark.parametrize('template', TEMPLATES, ids=lambda path: path.stem)
def test_issue_templates_ask_something(template: Path) -> None:
    form = read(template)
    assert form['name'] and form['description']
    names = [field['id'] for field in form['body']]
    assert names and len(set(names)) == len(names)
    assert all(field['attributes']['label'] for field in form['body'])


def test_there_is_a_template_for_each_kind_of_issue() -> None:
    assert [path.stem for path in TEMPLATES] == ['bug', 'feature', 'question']
    assert (ROOT / '.github' / 'PULL_REQUEST_TEMPLATE.md').is_file()
