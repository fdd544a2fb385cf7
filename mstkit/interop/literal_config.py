"""Parses the config text in a checkpoint as data, without executing it."""

from __future__ import annotations

import ast
import math
from typing import Any

from mmengine.config import ConfigDict

from mstkit.errors import UsageError

NUMBERS = {'inf': math.inf, 'nan': math.nan}


def parse_config_text(text: str) -> ConfigDict:
    """Parses assignments of literals, as mmengine's ``Config.pretty_text`` writes them.

    mmengine's own ``Config.fromstring`` executes the text, which is unsafe for files of unknown origin.

    Args:
        text: lines ``name = value``; a value is a number, a string, True, False, None, a list, a tuple, a dict in
            braces, or ``dict(name=value, ...)``.

    Raises:
        UsageError: any other code, with its line number; nothing has been executed.
    """
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise UsageError(f'the config in the checkpoint cannot be parsed ({error}); give it with --config.') from error
    config: dict[str, Any] = {}
    for statement in module.body:
        if not (
            isinstance(statement, ast.Assign)
            and len(statement.targets) == 1
            and isinstance(statement.targets[0], ast.Name)
        ):
            raise _refusal(statement)
        config[statement.targets[0].id] = _value(statement.value)
    return ConfigDict(config)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and not isinstance(node.value, (bytes, complex, type(...))):
        return node.value
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.Name) and node.id in NUMBERS:
        return NUMBERS[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        number = _value(node.operand)
        if isinstance(number, (int, float)):
            return -number if isinstance(node.op, ast.USub) else number
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == 'dict'
        and len(node.args) <= 1
        and all(isinstance(argument, ast.Dict) for argument in node.args)
        and all(keyword.arg is not None for keyword in node.keywords)
    ):
        # mmengine writes keys that are no identifiers as dict({'a b': 1}).
        result = dict(_value(node.args[0])) if node.args else {}
        return result | {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    raise _refusal(node)


def _refusal(node: ast.AST) -> UsageError:
    return UsageError(
        f'the config in the checkpoint holds code in line {node.lineno if isinstance(node, ast.expr) else "?"} '
        f'({ast.unparse(node)[:80]!r}); it was not executed. Give the config with --config.'
    )
