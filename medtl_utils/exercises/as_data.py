"""What the text of an answer means, without running it: a number, a text, a list, or code."""

from __future__ import annotations

import ast
import math
import operator

FUNCTION, CODE = object(), object()  # answers that are no data
NO_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)  # what ast.parse may raise
TWO = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
       ast.Div: operator.truediv, ast.Pow: operator.pow}  # fmt: skip
SIGN = {ast.USub: operator.neg, ast.UAdd: operator.pos}
MATHS = {"log": math.log, "log2": math.log2, "log10": math.log10, "exp": math.exp, "abs": abs,
         "sqrt": math.sqrt, "min": min, "max": max, "round": lambda x, n=0: round(x, int(n)),
         "float": float, "int": math.trunc}  # fmt: skip


def meaning(node: ast.expr, names: dict):
    """The data that an expression stands for, or FUNCTION, or CODE. `names`: what is set above."""
    if isinstance(node, ast.Lambda):
        return FUNCTION
    if isinstance(node, ast.Name):
        return names.get(node.id, CODE)
    for read in (ast.literal_eval, lambda node: arithmetic(node, names)):
        try:
            return read(node)
        except (ArithmeticError, TypeError, *NO_PYTHON):
            pass
    return CODE


def arithmetic(node: ast.expr, names: dict) -> float:
    """The value of numbers and named numbers with + - * / ** and a few functions.

    All are floats, so that no power can fill the memory. Raises ValueError for anything else.
    """
    value = None
    if isinstance(node, ast.Constant):
        value = node.value
    elif isinstance(node, ast.Name):
        value = names.get(node.id)
    elif isinstance(node, ast.BinOp) and type(node.op) in TWO:
        parts = arithmetic(node.left, names), arithmetic(node.right, names)
        value = TWO[type(node.op)](*parts)
    elif isinstance(node, ast.UnaryOp) and type(node.op) in SIGN:
        value = SIGN[type(node.op)](arithmetic(node.operand, names))
    elif isinstance(node, ast.Call) and not node.keywords and len(node.args) <= 10:
        value = function_named(node.func, names)(*(arithmetic(a, names) for a in node.args))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("no arithmetic of numbers")
    return float(value)


def function_named(node: ast.expr, names: dict):
    """log, np.log or math.log, where nobody has set these names. Raises ValueError for others."""
    module = node.value if isinstance(node, ast.Attribute) else None
    known = module is None or isinstance(module, ast.Name) and module.id in ("np", "math")
    name = getattr(node, "attr", getattr(node, "id", None))
    if not known or name not in MATHS or {name, getattr(module, "id", name)} & names.keys():
        raise ValueError("no function that is known")
    return MATHS[name]


def set_names(statement: ast.stmt, names: dict) -> None:
    """Write down in `names` what a statement sets; CODE where that is not plain."""
    if isinstance(statement, ast.FunctionDef):
        names[statement.name] = FUNCTION
        return
    one = isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None
    value = meaning(statement.value, names) if one else CODE
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names[node.id] = CODE
        elif isinstance(node, ast.alias):
            bound = node.asname or node.name
            names |= {bound: CODE} if bound in names else {}
        elif isinstance(getattr(node, "name", None), str):
            names[node.name] = CODE
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.value, ast.Name):
            names |= {node.value.id: CODE} if node.value.id in names else {}  # may be changed
    if one:
        targets = getattr(statement, "targets", None) or [statement.target]
        names |= {target.id: value for target in targets if isinstance(target, ast.Name)}
