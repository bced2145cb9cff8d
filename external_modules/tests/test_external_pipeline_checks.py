"""What is told of a pipeline that cannot be run, with the number of the line."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from tiny_module_folders import make_module

from external_modules.errors import InvalidModuleError, PipelineError
from external_modules.module_folder import ModuleFolder
from external_modules.pipeline.definition import Pipeline, read_pipeline
from external_modules.pipeline.record import Record, digest_of_module, origin_of
from external_modules.pipeline.time_left import TimeLeft
from external_modules.pipeline.worker_functions import read_worker_functions

GOOD = """\
pipeline_name: tiny
environment:
  type: uv
  module: tiny_module
steps:
  - name: load
    module: external_modules
    function: load_tczyx_image
  - name: find
    module: tiny_module
    function: segment
    params:
      channel: 1
      sigma: 2
  - name: save
    module: external_modules
    function: save_tczyx_image
"""
WORKER = """
raise SystemExit("a check must not run this")
from module_worker import serve

def segment(input_image, *, sigma: float = 1.0, model: str | None = None, diameter: "Optional[float]" = None,
            min_area: int = 3, kind: Literal["cyto", "nuclei"] = "cyto", parts: list[int] = (), progress):
    ...

serve(segment)
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = make_module(tmp_path / "modules" / "tiny_module")
    (folder / "module.json").write_text((folder / "module.json").read_text().replace("[]", '["numpy"]'))
    (folder / "worker.py").write_text(WORKER)
    return folder


def read(module: Path, text: str | bytes) -> Pipeline:
    path = module.parent.parent / "tiny ü.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def find(name: str) -> ModuleFolder:
        if name != "tiny_module":
            raise InvalidModuleError(f"There is no module {name!r} here.")
        return ModuleFolder(module)

    return read_pipeline(path, find)


def problems_of(module: Path, text: str | bytes) -> list[str]:
    """Return the problems without the file's name, which each must begin with."""
    with pytest.raises(PipelineError) as caught:
        read(module, text)
    begin = f"{module.parent.parent / 'tiny ü.yaml'}, "
    assert all(problem.startswith(begin) and "\n" not in problem for problem in caught.value.problems)
    return [problem.removeprefix(begin) for problem in caught.value.problems]


def test_a_right_pipeline(module: Path) -> None:
    pipeline = read(module, GOOD)
    assert [(step.name, step.function, step.script) for step in pipeline.steps] == [
        ("load", "load_tczyx_image", ""),
        ("find", "segment", "worker.py"),
        ("save", "save_tczyx_image", ""),
    ]
    assert dict(pipeline.steps[1].params) == {"channel": 1, "sigma": 2} and pipeline.endings == ("_labels.tif",)
    assert pipeline.steps[2].labels == "find"
    without_function = GOOD.replace("    function: segment\n", "")
    assert read(module, "\ufeff" + without_function).steps[1].function == "segment"


@pytest.mark.parametrize(
    ("old", "new", "line", "text"),
    [
        ("pipeline_name: tiny", "pipeline: tiny", 1, "the file has no 'pipeline' (is pipeline_name meant?)"),
        ("pipeline_name: tiny", "pipeline_name: ' '", 1, '"pipeline_name" is empty'),
        ("pipeline_name: tiny", "pipeline_name: [a", 2, "this is no YAML: "),
        ("    function: segment", "   function: segment", 11, "see that this line and those around it begin in"),
        ("    function: segment", "\tfunction: segment", 11, "; use spaces instead of tabs"),
        ("sigma: 2", "5:", 14, "5 cannot be a name"),
        ("pipeline_name: tiny", "pipeline_name: a\n#\x07", 2, "the character number 7 is not allowed"),
        ("type: uv", "type: conda", 3, "\"type\" is 'conda'; it must be uv"),
        ("module: tiny_module\nsteps", "module: other\nsteps", 4, "There is no module 'other' here."),
        ("  type: uv\n", "", 2, "environment needs type"),
        ("  - name: find\n", "  - name: load\n", 9, "the step 'load' is there already, in line 6"),
        ("    module: tiny_module\n", "    module: tiny\n", 10, "the module 'tiny' is unknown here; use"),
        ("function: segment", "function: segmnt", 11, "has no function 'segmnt' (is segment meant?); it has segment"),
        ("load_tczyx_image", "load_image", 8, "external_modules has no function 'load_image'"),
        ("sigma: 2", "sgima: 2", 14, "segment has no parameter 'sgima' (is sigma meant?); it has sigma, model"),
        ("sigma: 2", "sigma: wide", 14, '"sigma" is "wide"; it must be a number.'),
        ("sigma: 2", "sigma: 1e-3", 14, "written like 1.0e-3"),
        ("sigma: 2", "sigma: true", 14, '"sigma" is true; it must be a number'),
        ("sigma: 2", "sigma:", 14, '"sigma" is null; it must be a number'),
        ("sigma: 2", "diameter: big", 14, '"diameter" is "big"; it must be a number or null'),
        ("sigma: 2", "min_area: 2.5", 14, '"min_area" is 2.5; it must be a whole number'),
        ("sigma: 2", "kind: nucleus", 14, 'it must be "cyto" or "nuclei"'),
        ("sigma: 2", "parts: 3", 14, "it must be a list"),
        ("sigma: 2", "model: 2026-01-01", 14, "taken for a date; write it in quotes"),
        ("sigma: 2", "model: 2026-31-31", 14, "is not understood"),
        ("sigma: 2", "model: !!python/name:os.system x", 14, "is not understood"),
        ("sigma: 2", "channel: 2", 14, "'channel' is given a second time; it is in line 13 already"),
        ("sigma: 2", "input_image: 2", 14, "'input_image' cannot be set here"),
        ("sigma: 2", "progress: 2", 14, "'progress' cannot be set here"),
        ("channel: 1", "channel: -1", 13, '"channel" is -1; channels are counted from 0'),
        ("channel: 1", "channel: one", 13, '"channel" is "one"; it must be a whole number'),
        ("    params:\n      channel: 1\n      sigma: 2\n", "    params: [3]\n", 12, '"params" must be a map'),
        ("save_tczyx_image", "save_tczyx_image\n    when: never", 18, "a step has no 'when'"),
        ("save_tczyx_image", "save_tczyx_image\n    params: {labels: load}", 18, "'load', which gives none"),
        (
            "save_tczyx_image",
            "save_tczyx_image\n    params: {labels: fnd}",
            18,
            "'fnd', which is none; labels",
        ),
        ("save_tczyx_image", "save_tczyx_image\n    params: {suffix: ../x}", 18, "a part of a file's name"),
        ("load_tczyx_image", "load_tczyx_image\n    params: {axes: QYX}", 9, "\"axes\" is 'QYX'"),
        ("load_tczyx_image", "save_object_table", 6, "this step needs labels, which no earlier step gives"),
    ],
)
def test_one_problem_is_told_with_its_line(module: Path, old: str, new: str, line: int, text: str) -> None:
    assert old in GOOD
    found = problems_of(module, GOOD.replace(old, new, 1))
    assert any(problem.startswith(f"line {line}: ") and text in problem for problem in found), found


def test_all_problems_are_told_at_once_and_none_that_follows_from_another(module: Path) -> None:
    wrong = GOOD.replace("load_tczyx_image", "load").replace("sigma: 2", "sigma: x").replace("type: uv", "typ: uv")
    found = problems_of(module, wrong)
    assert [problem.partition(":")[0] for problem in found] == ["line 2", "line 3", "line 8", "line 14"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 1: the file must be a map of pipeline_name, environment, steps."),
        ("- 1", "line 1: the file must be a map of pipeline_name, environment, steps."),
        (b"a: 1\nb: \xff", "line 2: this is no text in UTF-8; save the file as UTF-8."),
        ("&a [*a]", "line 1: a value refers to itself."),
        ("[" * 5000, "line 1: this cannot be read: its values are too deep in one another."),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefgh")),
            "line 1: the file holds more than 100,000 values.",
        ),
    ],
)
def test_no_pipeline_at_all(module: Path, text: str | bytes, problem: str) -> None:
    assert problem in problems_of(module, text)


def test_steps_in_the_wrong_order(module: Path) -> None:
    head, *steps = GOOD.split("  - ")
    load, find, save = (f"  - {step}" for step in steps)
    assert problems_of(module, head + find + save) == [
        "line 6: this step needs an image, which no earlier step gives; begin with load_tczyx_image."
    ]
    assert problems_of(module, head + load + save + find) == [
        "line 9: this step needs labels, which no earlier step gives; segment the image before."
    ]
    assert problems_of(module, head + load + find) == [
        "line 5: no step saves anything; end with a step of save_tczyx_image or save_object_table."
    ]
    twice = save.replace("name: save", "name: again")
    assert problems_of(module, head + load + find + save + twice) == [
        "line 18: the step in line 15 writes NAME_labels.tif too; give one of them another suffix."
    ]
    one_line = ["{name: load, module: external_modules, function: load_tczyx_image}"]
    one_line += ["{name: a, module: tiny_module}"] * 2
    one_line += [f"{{name: {name}, module: external_modules, function: save_tczyx_image}}" for name in "bc"]
    assert problems_of(module, head.replace("steps:", f"steps: [{', '.join(one_line)}]")) == [
        "line 5: the step 'a' is there already, in line 5; rename one.",
        "line 5: the step in line 5 writes NAME_labels.tif too; give one of them another suffix.",
    ]
    assert read(module, head + load + find + save + f"{twice}    params: {{suffix: b}}\n").endings[1] == "_b.tif"


def test_functions_are_read_without_running_them(module: Path) -> None:
    (module / "second.py").write_text(
        "import module_worker\ndef f(a, b=1, *, c, **more): ...\nmodule_worker.serve(f)\n"
    )
    (module / "third.py").write_text("from elsewhere import g\nfrom module_worker import serve\nserve(g)\n")
    (module / "broken.py").write_text("def (")
    functions = read_worker_functions(module)
    assert {name: (function.script, function.takes_more) for name, function in functions.items()} == {
        "segment": ("worker.py", False),
        "f": ("second.py", True),
        "g": ("third.py", True),
    }
    assert {name: one.required for name, one in functions["f"].parameters.items()} == {"a": True, "b": False, "c": True}
    found = problems_of(module, GOOD.replace("function: segment", "function: f"))
    assert found == ["line 9: f needs a, c, which params of this step must give."]
    (module / "worker.py").write_text("def (")
    (found_now,) = problems_of(module, GOOD)
    assert found_now.startswith("line 4: ") and "worker.py cannot be read (" in found_now


def test_record_survives_half_a_line(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    Record(tmp_path).add(["a"], {"image": 1})
    with open(tmp_path / "run_pipeline.jsonl", "a") as file:
        file.write('{"output": "b", "made_fr')
    record = Record(tmp_path)
    assert record.is_finished(["a"], {"image": 1}) and not record.is_finished(["a"], {"image": 2})
    assert not record.is_finished(["a", "b"], {"image": 1})
    record.add(["b"], {"image": 1})
    assert Record(tmp_path).is_finished(["a", "b"], {"image": 1})
    record.forget(["a"])
    assert not Record(tmp_path).is_finished(["a"], {"image": 1})
    (tmp_path / "b").unlink()
    assert not Record(tmp_path).is_finished(["b"], {"image": 1})


def test_results_depend_on_the_files_that_params_name(module: Path, tmp_path: Path) -> None:
    image, model = tmp_path / "image.tif", tmp_path / "model"
    image.touch()
    pipeline = read(module, GOOD.replace("sigma: 2", f"model: '{model}'"))
    origins = [origin_of(image, pipeline, digest_of_module(pipeline.folder))]
    model.mkdir()
    origins.append(origin_of(image, pipeline, digest_of_module(pipeline.folder)))
    (model / "weights").write_text("1")
    origins.append(origin_of(image, pipeline, digest_of_module(pipeline.folder)))
    assert origin_of(image, pipeline, digest_of_module(pipeline.folder)) == origins[-1]
    (module / ".hidden").touch()
    assert origin_of(image, pipeline, digest_of_module(pipeline.folder)) == origins[-1]
    (module / "helper.py").touch()
    origins.append(origin_of(image, pipeline, digest_of_module(pipeline.folder)))
    assert all(one != other for one, other in pairwise(origins))


def test_time_left() -> None:
    now = 0.0
    left = TimeLeft([100, 300], lambda: now)
    assert left.text(0.5) == "" and left.fraction(0, 0.5) == 0.125 and left.fraction(1, 1) == 1
    now = 10.0
    assert left.text(left.fraction(1, 0)) == "about 30 s left"
    now = 600.0
    assert left.text(0.5) == "about 10 min left" and left.text(0.12) == ""
    now = 6000.0
    assert left.text(0.125) == "about 11.7 h left"
