"""Kubernetes' CEL environment: which libraries there are, and the way from an expression to a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from kubegate.cel import CompileError, Program, checker, evaluate, literals, standard, syntax, types
from kubegate.cel.checker import Checked, Declarations
from kubegate.cel.functions import Functions, collect
from kubegate.cel.types import CelType


@lru_cache(maxsize=2)
def functions(mutation: bool) -> Functions:
    """All functions of kube-apiserver v1.36; with `mutation`, those of MutatingAdmissionPolicies too."""
    from kubegate.cel.libraries import (
        authorizer,
        formats,
        ip,
        lists,
        quantity,
        regex,
        semver,
        sets,
        strings,
        urls,
    )
    from kubegate.cel.libraries import (
        mutation as mutations,
    )

    modules = [standard, authorizer, formats, ip, lists, quantity, regex, semver, sets, strings, urls]
    return collect([m.library for m in (*modules, *([mutations] if mutation else []))])


def check(
    expression: str,
    variables: Mapping[str, CelType],
    objects: Mapping[str, Mapping[str, CelType]],
    mutation: bool = False,
) -> Checked:
    """Parse and check. Raises CompileError."""
    try:
        return _checked(expression, variables, objects, mutation)
    except syntax.SyntaxProblem as error:
        raise CompileError(str(error)) from None
    except RecursionError:
        from kubegate.cel import parser

        raise CompileError(str(parser.too_deep())) from None


def _checked(
    expression: str, variables: Mapping[str, CelType], objects: Mapping[str, Mapping[str, CelType]], mutation: bool
) -> Checked:
    tree = syntax.parse(expression)
    if mutation:
        from kubegate.cel.libraries import mutation as mutations

        objects = mutations.Objects(objects)
    checked, problems = checker.check(tree, Declarations(variables, functions(mutation), objects))
    if not problems:
        problems = literals.problems(checked)
    if problems:
        raise CompileError(syntax.describe(expression, problems))
    return checked


def compile_program(
    expression: str,
    variables: Mapping[str, CelType],
    result: Sequence[CelType] | None,
    objects: Mapping[str, Mapping[str, CelType]],
    mutation: bool,
) -> Program:
    checked = check(expression, variables, objects, mutation)
    if result is not None and not any(checked.result == wanted for wanted in result):
        if len(result) == 1:
            wanted = types.describe(result[0])
        else:
            wanted = "one of [" + " ".join(map(types.describe, result)) + "]"
        raise CompileError(f"must evaluate to {wanted} but got {types.describe(checked.result)}", "result")
    try:
        step = evaluate.build(checked, mutation)
    except evaluate.ConstantError as error:
        raise CompileError(f"program instantiation failed: {error}", "program") from None
    binds = any(isinstance(node, syntax.Comprehension) for node in syntax.nodes(checked.tree.root))
    return Program(expression, checked.result, step, binds)
