"""What a pipeline's file says, read and checked as a whole before anything is done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from external_modules.errors import InvalidModuleError, PipelineError
from external_modules.module_folder import USUAL_WORKER, ModuleFolder
from external_modules.pipeline.base_functions import BASE, ENDINGS, FUNCTIONS, LOAD, problem_of
from external_modules.pipeline.parameters import TEXT, WHOLE_NUMBER, Parameter, like, listed
from external_modules.pipeline.worker_functions import Function, read_worker_functions
from external_modules.pipeline.yaml_lines import Located, Problems, read_yaml
from external_modules.plane_segmentation import GIVEN_ARGUMENTS


@dataclass(frozen=True)
class Step:
    """What is done once for each image.

    Attributes:
        name: of the step; no two have the same.
        function: of the base, or a worker's.
        script: the worker's script; empty for a function of the base.
        params: what is given, with checked names and types.
        labels: name of the step whose labels are written; empty for other steps.
        ending: what is added to the image's name, such as "_labels.tif"; empty for a step that writes nothing.
    """

    name: str
    function: str
    script: str
    params: Mapping[str, Any]
    labels: str = ""
    ending: str = ""


@dataclass(frozen=True)
class Pipeline:
    """A pipeline that can be run.

    Attributes:
        name: for people.
        digest: of the file, as 64 hexadecimal digits.
        folder: the module that the steps use.
        steps: in order.
    """

    name: str
    digest: str
    folder: ModuleFolder
    steps: tuple[Step, ...]

    @property
    def endings(self) -> tuple[str, ...]:
        """What is added to the name of an image for each of its results."""
        return tuple(step.ending for step in self.steps if step.ending)


def read_pipeline(path: Path, find_module: Callable[[str], ModuleFolder]) -> Pipeline:
    """Read and check a pipeline's file; nothing is imported, made or started.

    Args:
        path: of the file.
        find_module: returns the module of a name or a path, or raises InvalidModuleError.

    Raises:
        PipelineError: it cannot be read, or something in it cannot be; tells of every problem.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PipelineError([f"The pipeline {path} cannot be read ({error.strerror})."]) from error
    problems = Problems(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add(content.count(b"\n", 0, error.start) + 1, "this is no text in UTF-8; save the file as UTF-8")
        problems.raise_if_any()
    root = read_yaml(text, problems)
    check = _Check(problems, find_module)
    name, steps = check.whole(root)
    problems.raise_if_any()
    assert check.folder is not None  # else there was a problem
    return Pipeline(name, hashlib.sha256(content).hexdigest(), check.folder, tuple(steps))


class _Check:
    def __init__(self, problems: Problems, find_module: Callable[[str], ModuleFolder]) -> None:
        self._add = problems.add
        self._find_module = find_module
        self.folder: ModuleFolder | None = None
        self._module = ""  # as the file calls it
        self._functions: dict[str, Function] = {}
        self._lines: dict[str, int] = {}  # of the steps' names
        self._image = False  # whether an earlier step gives one
        self._labels: list[str] = []  # names of earlier steps that give some
        self._endings: dict[str, int] = {}
        self._unclear = False  # a step is not understood, so that what it gives is not known

    def whole(self, root: Located) -> tuple[str, list[Step]]:
        fields = self._fields(root, "the file", required=("pipeline_name", "environment", "steps"))
        name = self._text(fields.get("pipeline_name"), "pipeline_name")
        if "environment" in fields:
            self._environment(fields["environment"])
        steps: list[Step] = []
        if "steps" in fields:
            given = fields["steps"]
            if not isinstance(given.value, list) or not given.value:
                self._add(given.line, '"steps" must be a list of steps, each beginning with "- name:"')
            else:
                steps = [step for item in given.value if (step := self._step(item)) is not None]
                if not self._unclear and not any(step.ending for step in steps):
                    self._add(given.line, f"no step saves anything; end with a step of {' or '.join(ENDINGS)}")
        return name, steps

    def _environment(self, given: Located) -> None:
        fields = self._fields(given, "environment", required=("type", "module"))
        if "type" in fields and fields["type"].value != "uv":
            self._add(fields["type"].line, f'"type" is {fields["type"].plain()!r}; it must be uv')
        self._module = self._text(fields.get("module"), "module")
        if not self._module:
            return
        try:
            self.folder = self._find_module(self._module)
            self._functions = read_worker_functions(self.folder.path)
        except InvalidModuleError as error:
            self.folder = None
            self._add(fields["module"].line, str(error).rstrip("."))

    def _step(self, given: Located) -> Step | None:
        fields = self._fields(given, "a step", required=("name", "module"), optional=("function", "params"))
        name = self._text(fields.get("name"), "name")
        if name in self._lines:
            self._add(given.line, f"the step {name!r} is there already, in line {self._lines[name]}; rename one")
        elif name:
            self._lines[name] = given.line
        found = self._function(fields, given.line)
        if found is None:
            self._unclear = True
            return None
        called, function = found
        params = self._params(fields.get("params"), function, called, given.line)
        plain = {key: value.plain() for key, value in params.items()}
        if called == LOAD and not function.script:
            if self._image:
                self._add(given.line, "an earlier step loads the image already; leave this one out")
            self._image = True
        elif function.script:
            if not self._image and not self._unclear:
                self._add(given.line, f"this step needs an image, which no earlier step gives; begin with {LOAD}")
            self._labels.append(name)
        else:
            labels = self._needed_labels(params.get("labels"), given.line)
            return Step(name, called, "", plain, labels, self._ending(called, params.get("suffix"), given.line))
        return Step(name, called, function.script, plain)

    def _function(self, fields: Mapping[str, Located], line: int) -> tuple[str, Function] | None:
        module = self._text(fields.get("module"), "module")
        named = self._text(fields["function"], "function") if "function" in fields else ""
        if not module or ("function" in fields and not named):
            return None
        if module == BASE:
            functions = FUNCTIONS
        elif self._module and module in (self._module, self.folder.name if self.folder else ""):
            functions = self._functions
            usual = [name for name, function in functions.items() if function.script == USUAL_WORKER]
            named = named or (usual[0] if usual else "")
        else:
            use = f"{BASE} or {self._module}, the environment's module" if self._module else BASE
            self._add(fields["module"].line, f"the module {module!r} is unknown here; use {use}")
            return None
        if functions is not FUNCTIONS and self.folder is None:
            return None  # the environment's module is the problem
        if not named:
            self._add(line, f'"function" is missing; use one of {listed(functions)}')
            return None
        if named not in functions:
            line = fields["function"].line
            self._add(line, f"{module} has no function {named!r}{like(named, functions)}; it has {listed(functions)}")
            return None
        return named, functions[named]

    def _params(self, given: Located | None, function: Function, called: str, line: int) -> dict[str, Located]:
        values: dict[str, Located] = {}
        if given is not None and given.value is not None:
            if not isinstance(given.value, dict):
                self._add(given.line, '"params" must be a map of names and values, such as {channel: 0}')
            else:
                values = given.value
        known = dict(function.parameters)
        if function.script:
            known["channel"] = Parameter(WHOLE_NUMBER)
        for name, value in values.items():
            if function.script and name in GIVEN_ARGUMENTS:
                self._add(value.line, f"{name!r} cannot be set here: it is given by external_modules itself")
            elif name in known:
                problem = known[name].accepted.problem_of(value.plain())
                if not problem and (name == "channel" or not function.script):
                    problem = problem_of(name, value.value)
                if problem:
                    self._add(value.line, f'"{name}" {problem}')
            elif not function.takes_more:
                close = like(name, known)
                self._add(value.line, f"{called} has no parameter {name!r}{close}; it has {listed(known)}")
        missing = [name for name, parameter in known.items() if parameter.required and name not in values]
        if missing:
            self._add(line, f"{called} needs {listed(missing)}, which params of this step must give")
        return values

    def _needed_labels(self, given: Located | None, line: int) -> str:
        """Return the name of the step whose labels are meant: the one that is named, or the last one before."""
        if given is None:
            if not self._labels and not self._unclear:
                self._add(line, "this step needs labels, which no earlier step gives; segment the image before")
            return self._labels[-1] if self._labels else ""
        named = given.value
        if isinstance(named, str) and named not in self._labels and not self._unclear:
            what = "gives none" if named in self._lines else "is none"
            there = f"; labels come from {listed(self._labels)}" if self._labels else ""
            self._add(given.line, f"this step needs the labels of an earlier step {named!r}, which {what}{there}")
        return named if isinstance(named, str) else ""

    def _ending(self, function: str, suffix: Located | None, line: int) -> str:
        usual, kind = ENDINGS[function]
        ending = f"_{usual if suffix is None else suffix.value}{kind}"
        other = self._endings.get(ending.casefold())
        if other is not None:
            self._add(line, f"the step in line {other} writes NAME{ending} too; give one of them another suffix")
        self._endings[ending.casefold()] = line
        return ending

    def _fields(
        self, given: Located, what: str, *, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> dict[str, Located]:
        known = (*required, *optional)
        if not isinstance(given.value, dict):
            self._add(given.line, f"{what} must be a map of {listed(known)}")
            return {}
        fields: dict[str, Located] = given.value
        for name, value in fields.items():
            if name not in known:
                self._add(value.line, f"{what} has no {name!r}{like(name, known)}; it has {listed(known)}")
        missing = [name for name in required if name not in fields]
        if missing:
            self._add(given.line, f"{what} needs {listed(missing)}")
        return fields

    def _text(self, given: Located | None, name: str) -> str:
        if given is None:
            return ""
        problem = TEXT.problem_of(given.plain()) or ("" if given.value.strip() else "is empty; it must be text")
        if problem:
            self._add(given.line, f'"{name}" {problem}')
            return ""
        return str(given.value)
