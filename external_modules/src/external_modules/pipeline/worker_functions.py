"""The functions that a module's worker scripts serve, read from their text: nothing of them is imported or run."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from external_modules.errors import InvalidModuleError
from external_modules.module_folder import USUAL_WORKER
from external_modules.pipeline.parameters import Parameter, accepted_by
from external_modules.plane_segmentation import GIVEN_ARGUMENTS

USUAL_FUNCTION = "segment"


@dataclass(frozen=True)
class Function:
    """A function that a step may name.

    Attributes:
        parameters: that a step may give, by name.
        script: the worker's script; empty for a function of the base.
        takes_more: whether it takes parameters that are not known.
    """

    parameters: Mapping[str, Parameter]
    script: str = ""
    takes_more: bool = False


def read_worker_functions(folder: Path) -> dict[str, Function]:
    """Return what the scripts in a module's folder serve, by the function's name; that of worker.py comes first.

    Raises:
        InvalidModuleError: worker.py cannot be read or is no Python.
    """
    found: dict[str, Function] = {}
    for path in sorted(folder.glob("*.py"), key=lambda path: (path.name != USUAL_WORKER, path.name)):
        try:
            tree = ast.parse(path.read_bytes(), path.name)
        except (OSError, ValueError, SyntaxError, RecursionError) as error:
            if path.name != USUAL_WORKER:
                continue
            raise InvalidModuleError(f"{path} cannot be read ({error}). Correct it.") from error
        name = _served(tree)
        if name is not None:
            found.setdefault(name, _function(name, tree, path.name))
    return found


def _served(tree: ast.Module) -> str | None:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="serve") | ast.Attribute(attr="serve"), args=[served, *_]):
                return served.id if isinstance(served, ast.Name) else USUAL_FUNCTION
    return None


def _function(name: str, tree: ast.Module, script: str) -> Function:
    definitions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    if not definitions or definitions[-1].decorator_list:  # a decorator may change what it takes
        return Function({}, script, takes_more=True)
    arguments = definitions[-1].args
    positional = [*arguments.posonlyargs, *arguments.args]
    without_default = len(positional) - len(arguments.defaults)
    required = [number < without_default for number in range(len(positional))]
    required += [default is None for default in arguments.kw_defaults]
    parameters = {
        argument.arg: Parameter(accepted_by(argument.annotation), is_required)
        for argument, is_required in zip([*positional, *arguments.kwonlyargs], required, strict=True)
        if argument.arg not in GIVEN_ARGUMENTS
    }
    return Function(parameters, script, takes_more=arguments.kwarg is not None)
