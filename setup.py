"""Packaging: names, versions and extras; every requirement is read from requirements/*.txt."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
EXTRAS = ('tests', 'docs', 'tracking', 'shards', 'convert', 'parquet')


def requirements(name: str) -> list[str]:
    """Reads ``requirements/{name}.txt`` without its comments and empty lines."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [text for line in lines if (text := line.partition('#')[0].strip())]


def version() -> str:
    """Reads the version from the source text: importing it would need torch."""
    source = (ROOT / 'mstkit' / 'version.py').read_text(encoding='utf-8')
    found = re.search(r"^__version__ = '([^']+)'$", source, flags=re.MULTILINE)
    if found is None:
        raise RuntimeError("mstkit/version.py has no line __version__ = '...'")
    return found.group(1)


extras = {name: requirements(name) for name in EXTRAS}
extras['all'] = [requirement for name in EXTRAS for requirement in extras[name]]

setup(
    name='mstkit',
    version=version(),
    description='Masked self-supervised pre-training of vision transformers in the OpenMMLab style',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8') if (ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mstkit', 'mstkit.*']),
    package_data={'mstkit': ['py.typed'], 'mstkit.report': ['templates/*', 'templates/sections/*']},
    py_modules=['mstkit_waiting'],
    entry_points={'console_scripts': ['mstkit=mstkit.__main__:main']},
    install_requires=requirements('runtime'),
    extras_require=extras,
    classifiers=[
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
