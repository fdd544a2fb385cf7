"""Who may import whom, kept by reading the imports."""

from __future__ import annotations

import ast
import functools
import io
import re
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / 'mstkit').rglob('*.py'))
PARTS = ('maskers', 'backbones', 'necks', 'decoders', 'heads')
# The rooms of the engine, each of which may use those before it.
ENGINE = ('config', 'parallel', 'optim', 'checkpoints', 'hooks', 'screen', 'runner', 'launch')
TRAINERS = ('mstkit.experiments', 'mstkit.codebooks')  # they train; only the report of a run reads what is left
# What a room may reach inside the package; what is not named here may reach anything below it.
FORBIDDEN = {
    'mstkit/models/': (
        'mstkit.engine',
        'mstkit.evaluation',
        'mstkit.visualization',
        'mstkit.datasets',
        'mstkit.interop',
        'mstkit.networks',
        *TRAINERS,
    ),
    'mstkit/networks/': (
        'mstkit.engine',
        'mstkit.evaluation',
        'mstkit.analysis',
        'mstkit.visualization',
        'mstkit.datasets',
        *TRAINERS,
    ),
    'mstkit/engine/': TRAINERS,
    'mstkit/downstream/': TRAINERS,
    'mstkit/experiments/': ('mstkit.models', 'mstkit.report', 'mstkit.codebooks'),
    'mstkit/codebooks/': ('mstkit.engine', 'mstkit.evaluation', 'mstkit.experiments', 'mstkit.report'),
    'mstkit/experiments/ablation': ('mstkit.datasets', 'mstkit.experiments.transfer'),
    **dict.fromkeys(
        [f'mstkit/experiments/{name}.py' for name in ('choices', 'config_keys')],
        ('mstkit.datasets', 'mstkit.experiments.transfer'),
    ),
    **dict.fromkeys(
        [f'mstkit/experiments/{name}.py' for name in ('tasks', 'predictions', 'measurements', 'job_results')],
        ('mstkit.evaluation', 'mstkit.experiments.ablation'),
    ),
    'mstkit/experiments/transfer': ('mstkit.datasets', 'mstkit.evaluation', 'mstkit.experiments.ablation'),
    **dict.fromkeys(
        [f'mstkit/experiments/{name}.py' for name in ('job', 'process', 'schedule', 'devices', 'seed_statistics')],
        (
            'mstkit.datasets',
            'mstkit.engine',
            'mstkit.evaluation',
            'mstkit.visualization',
            'mstkit.interop',
            'mstkit.experiments.ablation',
            'mstkit.experiments.transfer',
        ),
    ),
    'mstkit/embedding/': ('mstkit.engine', 'mstkit.models', 'mstkit.visualization', *TRAINERS),
    'mstkit/evaluation/': ('mstkit.embedding', 'mstkit.engine', 'mstkit.models', 'mstkit.visualization', *TRAINERS),
    'mstkit/conversion/': ('mstkit.engine', 'mstkit.evaluation', 'mstkit.visualization', 'mstkit.report', *TRAINERS),
    'mstkit/visualization/': ('mstkit.engine', 'mstkit.models', 'mstkit.evaluation', *TRAINERS),
    'mstkit/datasets/': (
        'mstkit.engine',
        'mstkit.models',
        'mstkit.evaluation',
        'mstkit.visualization',
        *TRAINERS,
    ),
    'mstkit/formats/': (
        'mstkit.engine',
        'mstkit.models',
        'mstkit.networks',
        'mstkit.conversion',
        'mstkit.evaluation',
        'mstkit.visualization',
        'mstkit.datasets',
        *TRAINERS,
    ),
    'mstkit/interop/': (
        'mstkit.formats',
        'mstkit.conversion',
        'mstkit.engine',
        'mstkit.models',
        'mstkit.evaluation',
        'mstkit.visualization',
        *TRAINERS,
    ),
    'mstkit/analysis/': (
        'mstkit.engine',
        'mstkit.models',
        'mstkit.evaluation',
        'mstkit.visualization',
        'mstkit.datasets',
        'mstkit.interop',
        *TRAINERS,
    ),
    'mstkit/__init__.py': ('mstkit.registry', 'mstkit.interop', 'mstkit.networks', *TRAINERS),
    'mstkit/scenes/': ('mstkit.engine', 'mstkit.models', 'mstkit.evaluation', 'mstkit.visualization', *TRAINERS),
    'mstkit/datasets': ('mstkit.scenes',),
    'mstkit/_dependencies.py': ('mstkit.',),
    'mstkit/structures.py': ('mstkit.',),
    'mstkit/errors.py': ('mstkit.',),
    'mstkit/utils/': ('mstkit.',),
    **{
        f'mstkit/engine/{room}/': tuple(f'mstkit.engine.{above}' for above in ENGINE[i + 1 :])
        for i, room in enumerate(ENGINE)
    },
}

# What a leaf may import all the same: another leaf. Two know the registries, whose components they build and name.
ALLOWED = {
    'mstkit/errors.py': ('mstkit.utils.home_folder',),
    'mstkit/utils/': ('mstkit.errors', 'mstkit.utils', 'mstkit.registry', 'mstkit'),
}


@functools.cache
def parsed(text: str) -> ast.Module:
    return ast.parse(text)


def tree(path: Path) -> ast.Module:
    return parsed(path.read_text(encoding='utf-8'))


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level or path.name == '__init__.py', f'{path}: relative import'
            found.add(node.module or '')
    return frozenset(found)


def allowed(module: str, room: str) -> bool:
    return any(module == leaf or (leaf != 'mstkit' and module.startswith(f'{leaf}.')) for leaf in ALLOWED.get(room, ()))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def of_each_file(check: Callable[[Path], None]) -> Callable[[], None]:
    """One test of all files that names those at fault: a test for each would be a third of all tests."""

    def test() -> None:
        faults = {}
        for path in MODULES:
            try:
                check(path)
            except AssertionError as fault:
                faults[place(path)] = str(fault)
        assert faults == {}

    test.__doc__ = check.__doc__
    return test


@of_each_file
def test_directions(path):
    name, used = place(path), imports(path)
    for room, forbidden in FORBIDDEN.items():
        if name.startswith(room):
            wrong = [module for module in used if module.startswith(forbidden) and not allowed(module, room)]
            assert not wrong, f'{name} imports {wrong}'
    assert not any(module.split('.')[0] == 'configs' for module in used), f'{name} imports a config'


@of_each_file
def test_commands_are_the_top_room(path):
    """A command is run and never imported; what several of them need is a module of a room below, or beside them."""
    used = [module for module in imports(path) if module.startswith('mstkit.commands')]
    assert not any(module.endswith('_command') for module in used), f'{place(path)} imports {used}'
    if not place(path).startswith(('mstkit/commands/', 'mstkit/__main__.py')):
        assert used == [], f'{place(path)} imports {used}'


@pytest.mark.parametrize('part', PARTS)
def test_parts_do_not_import_each_other(part):
    others = tuple(f'mstkit.models.{other}' for other in PARTS if other != part)
    for path in (ROOT / 'mstkit' / 'models' / part).glob('*.py'):
        wrong = [module for module in imports(path) if module.startswith((*others, 'mstkit.models.algorithms'))]
        assert not wrong, f'{place(path)} imports {wrong}'


def test_models_need_no_drawing():
    for path in (ROOT / 'mstkit' / 'models').rglob('*.py'):
        assert 'matplotlib' not in {module.split('.')[0] for module in imports(path)}, f'{place(path)} draws'


@of_each_file
def test_mmdet_and_mmseg_stay_in_one_room(path):
    """Pre-training works where they are broken; nor does any other room import that one, which touches mmcv."""
    if place(path).startswith('mstkit/downstream/'):
        return
    wrong = [name for name in imports(path) if name.startswith(('mmdet', 'mmseg', 'mmcv.ops', 'mstkit.downstream'))]
    # A command, which trains by configs of those packages, or starts their tools.
    if place(path) == 'mstkit/toolbox.py' or place(path).startswith('mstkit/commands/'):
        wrong = [name for name in wrong if not name.startswith('mstkit.downstream')]
    assert not wrong, f'{place(path)} imports {wrong}'
    nodes = ast.walk(tree(path))
    relative = [alias.name for node in nodes if isinstance(node, ast.ImportFrom) and node.level for alias in node.names]
    assert 'downstream' not in relative, f'{place(path)} imports downstream'


def test_the_room_of_mmdet_and_mmseg_imports_them_only_when_asked():
    room = ROOT / 'mstkit' / 'downstream'
    assert imports(room / '__init__.py') == {'mstkit.interop', 'mstkit.downstream'}  # of which mmcv_operators.py
    used = {module.split('.')[0] for module in imports(room / 'mmcv_operators.py')}
    assert used - set(sys.stdlib_module_names) == {'torch', 'torchvision'}


BEFORE_THE_REGISTRY = ('private_attributes.py',)  # which it imports itself


@of_each_file
def test_the_registry_comes_before_torch_and_mmpretrain(path):
    """It says what helps where torch is broken, and imports mmpretrain so that detection goes on working afterwards."""
    if path.name in (*BEFORE_THE_REGISTRY, 'registry.py'):
        return
    room = ROOT / 'mstkit' / path.relative_to(ROOT / 'mstkit').parts[0]
    if room.name == 'utils':  # the registry itself needs some of them, so that each stands for itself
        room = path
    used = {module.split('.')[0] for module in imports(path)} & {'torch', 'mmcv', 'mmengine', 'mmpretrain'}
    if not used or room.name == 'downstream' or (used == {'torch'} and not room.is_dir()):
        return
    if room.name == 'commands':  # --help needs none of them, so that each file stands for itself, before its own
        ours = [node for node in tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = [node.module or '' if isinstance(node, ast.ImportFrom) else node.names[0].name for node in ours]
        outer = [name for name in names if name.partition('.')[0] not in sys.stdlib_module_names]
        # torchrun itself has no part in mstkit: what it starts has.
        assert outer[0] == 'mstkit.registry' or path.stem == 'torchrun_command', f'{place(path)} begins with {outer[0]}'
        return
    first = room / '__init__.py' if room.is_dir() else room
    nodes = [node for node in tree(first).body if isinstance(node, ast.Import)]
    assert nodes[-1].names[0].name == 'mstkit.registry', f'{place(first)} has to import mstkit.registry first'
    froms = [node for node in tree(first).body if isinstance(node, ast.ImportFrom)]
    early = [node.module for node in froms if node.lineno < nodes[-1].lineno and (node.module or '').startswith('m')]
    assert not early, f'{place(first)} imports {early} before mstkit.registry'


# Of a NamedTuple public, of numpy and torchvision the names of what is read or called, inherited by a subclass.
PUBLIC_UNDERSCORES = {'_replace', '_fields', '_asdict', '_core', '_reconstruct', '_roi_align_backward'}


def private(text: str | ast.Module) -> list[str]:
    """The private attributes and modules that code takes from anything but itself and what it extends."""
    found = set()
    for node in ast.walk(text if isinstance(text, ast.AST) else parsed(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if '._' in alias.name}
        elif isinstance(node, ast.ImportFrom) and '._' in (node.module or ''):
            found.add(node.module)
        elif isinstance(node, ast.Attribute) and re.fullmatch(r'_(?!_).*', node.attr):
            inherited = ast.unparse(node.value) in ('self', 'cls', 'super()')
            found |= set() if inherited or node.attr in PUBLIC_UNDERSCORES else {ast.unparse(node)}
    return sorted(name for name in found if not name.startswith('mstkit._'))


@of_each_file
def test_private_attributes_of_others_are_reached_in_one_file(path):
    if place(path) == 'mstkit/utils/private_attributes.py' or place(path).startswith('mstkit/models/'):
        return
    assert private(tree(path)) == []


def test_private_attributes_are_seen():
    text = 'a.b._c = 1; f()._d(); import t._x as x; self._e; super()._f(); u._replace(a=1); self.loop._iter; self.__a__'
    assert private(text) == ['a.b._c', 'f()._d', 'self.loop._iter', 't._x']


def unexplained_imports(text: str) -> list[int]:
    """Lines of imports inside of something that no comment explains, on the line or above; a run of them needs one."""
    lines, found = text.splitlines(), []
    for parent in ast.walk(parsed(text)):
        bodies = [getattr(parent, name, []) for name in ('body', 'orelse', 'finalbody')]
        for body in bodies if not isinstance(parent, ast.Module) else []:
            run: list[ast.stmt] = []
            for node in [*(body if isinstance(body, list) else []), ast.Pass()]:
                if isinstance(node, ast.Import | ast.ImportFrom):
                    run.append(node)
                elif run:
                    around = lines[run[0].lineno - 2 : run[-1].end_lineno]
                    found += [run[0].lineno] if not any(' #' in line for line in around) else []
                    run = []
    return sorted(found)


@of_each_file
def test_imports_inside_of_functions_say_why(path):
    """An optional or slow dependency is a reason; a circle is none: what both need moves to where both may look."""
    assert unexplained_imports(path.read_text(encoding='utf-8')) == []


def test_unexplained_imports_are_seen():
    text = 'import a\ndef f():\n    import b\n    # why\n    x = 1\n    import c\n    import d\n'
    assert unexplained_imports(text) == [3, 6]
    text = 'try:  # why\n    import a\nexcept E:\n    import b\nif x:\n    import c  # why\nelse:\n    import e'
    assert unexplained_imports(text) == [4, 8]


def guesses(text: str) -> list[int]:
    """Lines that ask whether an object has an attribute, and no comment on the line, or alone above it, says why."""
    lines = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT]
    on_line = {token.start[0] for token in lines if not re.match(r'#\s*(noqa|type:)', token.string)}
    alone = {token.start[0] for token in lines if not token.line[: token.start[1]].strip()} & on_line
    found = set()
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asks = node.func.id == 'hasattr' or (node.func.id == 'getattr' and len(node.args) == 3)
            if asks and node.lineno not in on_line and node.lineno - 1 not in alone:
                found.add(node.lineno)
    return sorted(found)


@of_each_file
def test_what_an_object_can_do_is_declared_and_not_guessed(path):
    """A class, a protocol or a default says it; a comment says why not, such as for another library's optional part."""
    assert guesses(path.read_text(encoding='utf-8')) == []


def test_guesses_are_seen():
    text = 'hasattr(a, b)\ngetattr(a, b)\nx = f(getattr(a, b, None))\ngetattr(a, b, 0)  # noqa: X'
    assert guesses(text) == [1, 3, 4]
    text = '# libraries differ\nhasattr(a, b)\nhasattr(a, c)\ngetattr(a, d, 1)  # why\nhasattr(a, e)'
    assert guesses(text) == [3, 5]


def class_swaps(text: str) -> list[int]:
    """Lines that give an object another class."""
    found = []
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr == '__class__':
            found.append(node.lineno)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith('setattr'):
            found += [one.lineno for one in node.args if isinstance(one, ast.Constant) and one.value == '__class__']
    return sorted(found)


@of_each_file
def test_no_live_object_gets_another_class(path):
    assert class_swaps(path.read_text(encoding='utf-8')) == [], 'build the object that is wanted'


def test_class_swaps_are_seen():
    text = "a.__class__ = B\na.x, a.y.__class__ = 1, B\nsetattr(a, '__class__', B)\na.__class__.__name__\n"
    assert class_swaps(text) == [1, 2, 3]


def test_the_file_at_fault_is_named():
    def check(path: Path) -> None:
        assert path.name != 'errors.py', 'of errors'

    with pytest.raises(AssertionError, match=r"'mstkit/errors\.py': 'of errors"):
        of_each_file(check)()


def test_the_check_sees_what_it_is_for(tmp_path):
    file = tmp_path / 'x.py'
    file.write_text('def f():\n    from mstkit.engine import runner\nimport matplotlib.pyplot')
    assert imports(file) == {'mstkit.engine', 'matplotlib.pyplot'}


def test_a_file_name_occurs_once():
    """So that it says what is in it, in an editor's tab and in a traceback."""
    names = [path.name for path in MODULES if path.name != '__init__.py']
    assert sorted(names) == sorted(set(names))


def test_files_are_a_page_or_three():
    long = {place(path): n for path in MODULES if (n := len(path.read_text(encoding='utf-8').splitlines())) > 300}
    assert long == {}
