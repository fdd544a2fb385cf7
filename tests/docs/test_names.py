"""What the documentation names is there: links, files, classes, checkpoint keys, messages."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest
import torchvision

from mstkit import registry
from mstkit.conversion.hugging_face_library import CLASSES
from mstkit.registry import MODELS
from mstkit.utils.build_errors import registered_names

from ..models.builders import NECK, VIT, mst
from ..models.moby import moby
from .pages import PAGES, ROOT, named_files, prose, rows, spans, text_of

every_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)


@functools.cache
def nodes() -> list[ast.AST]:
    """The syntax trees of the whole package, flat."""
    return [node for file in (ROOT / 'mstkit').rglob('*.py') for node in ast.walk(ast.parse(text_of(file)))]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)$', prose(page), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@every_page
def test_links_and_images_lead_somewhere(page):
    for link in re.findall(r'\]\(([^)\s]+)\)', prose(page)):
        if '://' in link:
            continue
        target, _, anchor = link.partition('#')
        file = page.parent / target if target else page
        assert file.exists(), f'{page.name} links to {link}'
        assert not anchor or anchor in anchors(file), f'{page.name} links to {link}'


def test_the_pages_that_users_need_are_there():
    names = {page.name for page in PAGES}
    assert {'README.md', 'get_started.md', 'conventions.md', 'add_a_masker.md', 'results.md'} <= names


@every_page
def test_files_of_the_project_are_named_right(page):
    made_by_the_reader = named_files()
    own = r'(?<![\w./-])((?:configs|tools|docs|tests|mstkit|requirements)/[\w./-]*(?:\.\w+|/))'
    for name in re.findall(own, text_of(page)):
        assert name in made_by_the_reader or (ROOT / name).exists(), f'{page.name} names {name}'


def test_classes_are_named_right():
    known = {node.name for node in nodes() if isinstance(node, ast.ClassDef)} | {'None', 'True', 'False'}
    known.add('DetInferencer')  # mmdet's, run by tests/downstream/test_entry_points.py
    for candidate in vars(registry).values():
        known |= registered_names(getattr(candidate, 'name', ''))
    known |= {*vars(torchvision.models), *CLASSES.values(), 'ViTMAEForPreTraining'}  # tests/conversion converts them
    for page in PAGES:
        for name in spans(page):
            if re.fullmatch(r'[A-Z]\w*[a-z]\w*', name):
                assert name in known, f'{page.name} names {name}'


@every_page
def test_no_folder_of_ours_is_named(page):
    assert not re.search(r'/work/|/root/|/tmp/|/home/|\.\./shared', text_of(page))


def test_checkpoint_prefixes():
    prefixes = [re.findall(r'`([^`]+)`', row[0])[0] for row in rows('conventions.md', 'prefix in `state_dict`')]
    used = set()
    patches = dict(patch_head=dict(type='IBOTHead'), patch_neck=dict(NECK))
    mae = MODELS.build(dict(type='CLMAE', backbone=VIT, decoder=dict(embed_dims=16, num_layers=1, num_heads=2)))
    for key in mst(**patches).state_dict() | moby().state_dict() | mae.state_dict():
        matching = [prefix for prefix in prefixes if key.startswith(prefix)]
        assert len(matching) == 1, key
        used.update(matching)
    assert used == set(prefixes)


def test_quoted_messages_are_said():
    said = [node.value for node in nodes() if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    messages = [re.findall(r'`([^`]+)`', row[0])[0] for row in rows('get_started.md', 'It says')]
    assert len(messages) >= 10
    for message in messages:
        assert any(message in text for text in said), message


def test_the_line_of_the_demo_is_the_one_documented():
    line = 'demo: k-NN top-1 random-init A, student B, teacher C'
    assert line in text_of(ROOT / 'README.md')
    assert line in text_of(ROOT / 'docs' / 'en' / 'get_started.md')
    demo = text_of(ROOT / 'mstkit' / 'commands' / 'demo_command.py')
    assert line in demo, 'its docstring'
    printed = re.sub(r"'\s*f'", '', demo)
    assert re.search(re.sub(r'\b[ABC]\b', r'{[^}]*:.1f}', line), printed)
