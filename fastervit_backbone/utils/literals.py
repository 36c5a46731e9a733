"""Read values from Python source without running it."""

import ast
from typing import Any

#: Levels of brackets.
MAX_DEPTH = 40


def assigned_literals(text: str) -> dict[str, Any]:
    """Return the values that a source text assigns to names; it may hold nothing else.

    Raises:
        ValueError: something else is in it; SyntaxError, RecursionError and MemoryError as ``ast.parse``.
    """
    values = {}
    for statement in ast.parse(text).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values[name] = literal(value)
            case _:
                raise ValueError(f'line {statement.lineno} is no assignment of a value')
    return values


def literal(node: ast.expr, depth: int = 0) -> Any:
    """Evaluate constants, lists, tuples, dicts and calls of ``dict`` with keywords.

    Raises:
        ValueError: any other expression, or more than :data:`MAX_DEPTH` levels.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f'line {node.lineno} is nested more than {MAX_DEPTH} times')
    match node:
        case ast.Constant(value=value) if value is None or type(value) in (bool, int, float, str):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Tuple(elts=items):
            return tuple(literal(item, depth + 1) for item in items)
        case ast.List(elts=items):
            return [literal(item, depth + 1) for item in items]
        case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
            return {k.value: literal(v, depth + 1) for k, v in zip(keys, values, strict=True)}  # type: ignore[union-attr]
        case ast.Call(func=ast.Name(id='dict'), args=[], keywords=keywords) if all(k.arg for k in keywords):
            return {str(k.arg): literal(k.value, depth + 1) for k in keywords}
    raise ValueError(f'line {node.lineno} has an expression')
