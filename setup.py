"""Packaging: names, versions and extras; every requirement is read from requirements/*.txt.

Configs and tools travel in the wheel as ``mstkit/.mim/{configs,tools,model-index.yml}``, where the packages of
OpenMMLab have theirs and ``mim`` looks for them. They are copied when a wheel is built; an editable installation has
links.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
EXTRAS = ('tests', 'docs', 'tracking', 'shards', 'convert', 'parquet')
CARRIED, INDEX = ('configs', 'tools'), 'model-index.yml'
KINDS = ('.py', '.sh', '.md', '.yml')


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


def carried() -> list[str]:
    """The files beside the package that travel with it, relative to this folder."""
    found = [path for folder in CARRIED for path in (ROOT / folder).rglob('*') if path.suffix in KINDS]
    return [INDEX, *sorted(path.relative_to(ROOT).as_posix() for path in found)]


class BuildWithConfigs(build_py):
    """Adds what is carried to the package."""

    def run(self) -> None:
        """Builds, then copies or links."""
        super().run()
        if self.editable_mode:
            self.link()
            return
        for name in carried():
            target = self.place(name)
            self.mkpath(os.path.dirname(target))
            self.copy_file(str(ROOT / name), target)

    def place(self, name: str) -> str:
        """Where a carried file is built."""
        return os.path.join(self.build_lib, 'mstkit', '.mim', *name.split('/'))

    def link(self) -> None:
        """Links from the package to the clone; git ignores them."""
        folder = ROOT / 'mstkit' / '.mim'
        folder.mkdir(exist_ok=True)
        for name in (*CARRIED, INDEX):
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(os.path.join('..', '..', name))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """All files that are built."""
        more = [] if self.editable_mode else [self.place(name) for name in carried()]
        return [*super().get_outputs(include_bytecode), *more]


extras = {name: requirements(name) for name in EXTRAS}
extras['all'] = [requirement for name in EXTRAS for requirement in extras[name]]

setup(
    name='mstkit',
    version=version(),
    description='Masked self-supervised pre-training of vision transformers in the OpenMMLab style',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8') if (ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE', 'NOTICE'],
    author='mstkit contributors',
    keywords=[
        'self-supervised learning',
        'masked image modeling',
        'self-distillation',
        'vision transformer',
        'OpenMMLab',
    ],
    python_requires='>=3.10',
    packages=find_packages(include=['mstkit', 'mstkit.*']),
    package_data={'mstkit': ['py.typed'], 'mstkit.report': ['templates/*', 'templates/sections/*']},
    py_modules=['mstkit_waiting'],
    cmdclass={'build_py': BuildWithConfigs},
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
