"""A stand-in of `limnode`, the module that NIS-Elements GA3 gives to the scripts of its Python nodes.

The real one belongs to NIS-Elements and cannot run here. This was written anew from facts about its public interface
(the examples that its vendor publishes): names, methods, shapes and dtypes that a node script sees, of both signature
generations, v6.20 and v7.00; and what happens to a script that runs "out of process". Passing here is evidence, not
proof, that a node works in NIS-Elements. Known to differ: the pipe is inherited instead of duplicated, since that is
how it goes outside Windows, and shared memory is removed also after an abort.

The host's side of it is ga3_host.py.
"""

# The names are the vendor's.
# ruff: noqa: N802, N815

from __future__ import annotations

import builtins
import enum
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
from limtabledata import LimTableDataBase

print = builtins.print  # scripts for v7.00 do `from limnode import print`


class ExperimentLoopType(enum.IntEnum):
    loopTypeUnknown = 0
    loopTypeXYSite = 3
    loopTypeTLapse = 4
    loopTypeZStack = 5


@dataclass(frozen=True, kw_only=True)
class LoopDef:
    name: str
    type: ExperimentLoopType
    index: int


@dataclass(kw_only=True)
class ParameterDef:
    parName: str
    parIsInput: bool = False
    loopDefList: list[LoopDef] = field(default_factory=list)


@dataclass(kw_only=True)
class Metadata:
    componentCount: int = 1
    bitsPerComponent: int = 8
    size: tuple[int, int, int] = (0, 0, 0)
    calibration: tuple[float, float, float] = (0.0, 0.0, 0.0)
    alignment: int = 4

    @property
    def calibrated(self) -> tuple[bool, ...]:
        return tuple(value > 0 for value in self.calibration)

    @property
    def units(self) -> tuple[str, ...]:
        return tuple("µm" if calibrated else "px" for calibrated in self.calibrated)


@dataclass(kw_only=True)
class InputChannelDef(ParameterDef, Metadata):
    channelName: str = ""
    channelColor: int = 0


@dataclass(kw_only=True)
class InputBinaryDef(ParameterDef, Metadata):
    binaryName: str = ""
    binaryColor: int = 0


@dataclass(kw_only=True)
class InputTableDef(ParameterDef):
    tableDef: LimTableDataBase = field(default_factory=LimTableDataBase)


@dataclass(kw_only=True)
class OutputChannelDef(ParameterDef, Metadata):
    assignedParName: str | None = None
    channelName: str | None = None
    channelColor: int | None = None

    def assign(self, param: InputChannelDef) -> OutputChannelDef:
        if not isinstance(param, InputChannelDef):
            raise TypeError("an InputChannelDef is needed")
        self.assignedParName = param.parName
        self.channelName, self.channelColor = param.channelName, param.channelColor
        return self

    def makeNewMono(self, name: str, color: Any) -> OutputChannelDef:
        self.assignedParName, self.componentCount = None, 1
        self.channelName, self.channelColor = name, _color_number(color)
        return self

    def makeNewRgb(self, name: str | None = None) -> OutputChannelDef:
        self.assignedParName, self.componentCount = None, 3
        self.channelName, self.channelColor = name, None
        return self

    def makeFloat(self) -> OutputChannelDef:
        self.bitsPerComponent = 32
        return self

    def makeUInt16(self) -> OutputChannelDef:
        self.bitsPerComponent = 16
        return self

    def makeUInt8(self) -> OutputChannelDef:
        self.bitsPerComponent = 8
        return self


@dataclass(kw_only=True)
class OutputBinaryDef(ParameterDef, Metadata):
    assignedParName: str | None = None
    binaryName: str | None = None
    binaryColor: int | None = None

    def assign(self, param: InputBinaryDef) -> OutputBinaryDef:
        if not isinstance(param, InputBinaryDef):
            raise TypeError("an InputBinaryDef is needed")
        self.assignedParName = param.parName
        self.binaryName, self.binaryColor = param.binaryName, param.binaryColor
        return self

    def makeNew(self, name: str, color: Any) -> OutputBinaryDef:
        self.assignedParName, self.componentCount = None, 1
        self.binaryName, self.binaryColor = name, _color_number(color)
        return self

    def makeInt32(self) -> OutputBinaryDef:
        self.bitsPerComponent = 32
        return self

    def makeUInt8(self) -> OutputBinaryDef:
        self.bitsPerComponent = 8
        return self


@dataclass(kw_only=True)
class OutputTableDef(ParameterDef):
    assignedParName: str | None = None
    tableDef: LimTableDataBase = field(default_factory=LimTableDataBase)

    def assign(self, param: InputTableDef) -> OutputTableDef:
        if not isinstance(param, InputTableDef):
            raise TypeError("an InputTableDef is needed")
        self.assignedParName, self.tableDef = param.parName, param.tableDef
        return self

    def makeEmpty(self, name: str) -> OutputTableDef:
        self.assignedParName = None
        self.tableDef.setTableName(name)
        self.tableDef.removeAllCols()
        return self

    def makeNew(self, name: str, param: InputTableDef | None = None) -> OutputTableDef:
        self.makeEmpty(name)
        if param is None:
            return self.withLoopCols()
        self.tableDef = param.tableDef
        return self

    def withLoopCols(self) -> OutputTableDef:
        for loop in self.loopDefList:
            self._with_column("int", f"{loop.name}Index", None, None, f"_loop{loop.name}Index")
        return self

    def withEntityCol(self) -> OutputTableDef:
        return self._with_column("QString", "Entity", None, None, "_Entity")

    def withObjectCols(self) -> OutputTableDef:
        return self.withEntityCol()._with_column("int", "ObjectId", None, None, "_ObjId")

    def withObject3dCols(self) -> OutputTableDef:
        return self.withEntityCol()._with_column("int", "ObjectId", None, None, "_ObjId3d")

    def withIntCol(
        self, title: str, unit: str | None = None, feature: str | None = None, id: str | None = None
    ) -> OutputTableDef:
        return self._with_column("int", title, unit, feature, id)

    def withFloatCol(
        self, title: str, unit: str | None = None, feature: str | None = None, id: str | None = None
    ) -> OutputTableDef:
        return self._with_column("double", title, unit, feature, id)

    def withStringCol(
        self, title: str, unit: str | None = None, feature: str | None = None, id: str | None = None
    ) -> OutputTableDef:
        return self._with_column("QString", title, unit, feature, id)

    def _with_column(
        self, kind: str, title: str, unit: str | None, feature: str | None, id: str | None
    ) -> OutputTableDef:
        meta = {"decltype": kind, "title": title, "units": unit, "feature": feature}
        known = {name: value for name, value in meta.items() if value is not None}
        self.tableDef.insertCol(id or f"uuid.PythonNode.{feature or title}", [], known)
        return self


@dataclass(kw_only=True)
class ArrayData:
    data: np.ndarray | None = None  # (z, y, x, component)
    recdata: LimTableDataBase | None = None


@dataclass(kw_only=True)
class InputChannelData(ParameterDef, Metadata, ArrayData):
    pass


@dataclass(kw_only=True)
class InputBinaryData(ParameterDef, Metadata, ArrayData):
    pass


@dataclass(kw_only=True)
class OutputChannelData(ParameterDef, Metadata, ArrayData):
    pass


@dataclass(kw_only=True)
class OutputBinaryData(ParameterDef, Metadata, ArrayData):
    pass


@dataclass(kw_only=True)
class InputTableData(ParameterDef):
    data: LimTableDataBase
    recdata: LimTableDataBase | None = None


@dataclass(kw_only=True)
class OutputTableData(ParameterDef):
    data: LimTableDataBase
    recdata: LimTableDataBase | None = None

    def withColDataFrom(self, other: InputTableData) -> OutputTableData:
        columns = [id for id in other.data.colIdList if not id.startswith("_loop")]
        self.data.setColData(columns, other.data.colData(columns))
        return self

    def withColData(self, cols: Any, data: Any) -> OutputTableData:
        self.data.setColData(cols, data)
        return self


@dataclass
class Program:
    allLoopDefs: list[LoopDef]
    overLoops: list[str] = field(default_factory=list, init=False)

    def overZStack(self) -> Program:
        return self._over(ExperimentLoopType.loopTypeZStack)

    def overTimeLapse(self) -> Program:
        return self._over(ExperimentLoopType.loopTypeTLapse)

    def overMultiPoint(self) -> Program:
        return self._over(ExperimentLoopType.loopTypeXYSite)

    def overAll(self) -> Program:
        return self._over(*ExperimentLoopType)

    def _over(self, *types: ExperimentLoopType) -> Program:
        self.overLoops += [
            loop.name for loop in self.allLoopDefs if loop.type in types and loop.name not in self.overLoops
        ]
        return self


class ReduceProgram(Program):
    pass


class TwoPassProgram(Program):
    pass


@dataclass(kw_only=True)
class RunContext:
    """`shouldAbort` tells the truth in the host's own process only: in a child it is always False."""

    inpFilename: str = ""
    outFilename: str = ""
    inpParameterCoordinates: tuple[tuple[int, ...], ...] = ()
    outCoordinates: tuple[int, ...] = ()
    programCoordinateIndexes: tuple[int, ...] | None = None
    programPass: int = 0
    programIndex: int = 0
    finalCall: bool = False

    @property
    def shouldAbort(self) -> bool:
        asked: Callable[[], bool] | None = getattr(self, "_should_abort", None)
        return asked() if asked else False


AnyInDef = InputChannelDef | InputBinaryDef | InputTableDef
AnyOutDef = OutputChannelDef | OutputBinaryDef | OutputTableDef
AnyInData = InputChannelData | InputBinaryData | InputTableData
AnyOutData = OutputChannelData | OutputBinaryData | OutputTableData
InDefTuple = tuple[AnyInDef, ...]
OutDefTuple = tuple[AnyOutDef, ...]
InDataTuple = tuple[AnyInData, ...]
OutDataTuple = tuple[AnyOutData, ...]
UserParTuple = tuple[Any, ...]
LoopDefs = list[LoopDef]


def separateLabeledImage(src: np.ndarray) -> np.ndarray:
    """Zero every pixel that has a larger one among its 8 neighbours, so that touching objects come apart."""
    if src.ndim != 2:
        raise TypeError("a 2-D array is needed")
    height, width = src.shape
    padded = np.pad(src, 1)
    around = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.where(src < np.max(around, axis=0), 0, src)


def _color_number(color: Any) -> int:
    if isinstance(color, int):
        return color & 0xFFFFFF
    if isinstance(color, str) and len(color) == 7 and color[0] == "#":
        return int(color[1:], 16)
    if isinstance(color, tuple):
        return (color[0] << 16) + (color[1] << 8) + color[2]
    return 0  # without a word


@dataclass
class Request:
    """What the host asks of the child.

    `arguments` are those of the function, in the order of the host's generation: `par` is among them for v7.00 only.
    `arrays` says in which shared memory the array of a parameter lies: (name, shape, dtype).
    """

    function: str
    arguments: tuple[Any, ...]
    arrays: dict[str, tuple[str, tuple[int, ...], np.dtype]] = field(default_factory=dict)


class ChildProcessError(Exception):
    pass


def child_main(run: Callable[..., Any], output: Callable[..., Any], build: Callable[..., Any]) -> None:
    """Serve the host until it hangs up; the pipe's number is the script's only argument."""
    functions = {"run": run, "output": output, "build": build}
    with Connection(int(sys.argv[1])) as connection:
        connection.send("CHILD PROCESS READY")
        while True:
            try:
                request: Request = connection.recv()
            except EOFError:
                return
            try:
                answer = _answer(functions[request.function], request)
            except Exception as error:
                answer = ChildProcessError("".join(traceback.format_exception(error)))
            connection.send(answer)


def _answer(function: Callable[..., Any], request: Request) -> Any:
    if request.function == "build":
        return function(*request.arguments)
    inp, out = request.arguments[:2]
    memories = {}
    for parameter in inp + out:
        if parameter.parName in request.arrays:
            name, shape, dtype = request.arrays[parameter.parName]
            memory = memories[parameter.parName] = SharedMemory(name)
            resource_tracker.unregister(memory._name, "shared_memory")  # it is the host's
            parameter.data = np.ndarray(shape, dtype, buffer=memory.buf)
    try:
        function(*request.arguments)
    finally:
        for parameter in inp + out:
            if parameter.parName in memories:
                parameter.data = None
                memories[parameter.parName].close()  # a view that a script kept points nowhere now
    return out
