"""A stand-in of the table class that NIS-Elements ships as `limtabledata`: see limnode.py beside it.

It keeps what a node sees: a column is found by its position, by its id, or by a pattern that any part of its title
matches; data is set as lists; a value that is no number becomes None where it comes from an array.
"""

# The names are the vendor's.
# ruff: noqa: N802, N803

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np


class LimTableDataBase:
    def __init__(self, tableName: str = "") -> None:
        self.tableName = tableName
        self.colIdList: list[str] = []
        self.colMetadataList: list[dict[str, Any]] = []
        self.colDataList: list[list[Any]] = []

    def setTableName(self, name: str) -> None:
        self.tableName = name

    @property
    def colTitleList(self) -> list[str]:
        return [meta.get("title", "") for meta in self.colMetadataList]

    @property
    def colCount(self) -> int:
        return len(self.colIdList)

    @property
    def rowCount(self) -> int:
        return max((len(column) for column in self.colDataList), default=0)

    def insertCol(self, id: str, data: list[Any], meta: dict[str, Any]) -> None:
        if id in self.colIdList:
            raise ValueError(f"column id {id!r} is used already")
        self.colIdList.append(id)
        self.colDataList.append(data)
        self.colMetadataList.append(meta)

    def removeAllCols(self) -> None:
        for columns in (self.colIdList, self.colDataList, self.colMetadataList):
            columns.clear()

    def colIndex(self, column: int | str) -> int:
        if isinstance(column, int):
            if not 0 <= column < self.colCount:
                raise IndexError(f"there is no column {column}")
            return column
        for index, (known, title) in enumerate(zip(self.colIdList, self.colTitleList, strict=True)):
            if column == known or re.search(column, title, re.IGNORECASE):
                return index
        raise ValueError(f"no column matches {column!r}")

    def colIndexList(self, columns: int | str | Sequence[int | str] | None = None) -> list[int]:
        if columns is None:
            return list(range(self.colCount))
        return [self.colIndex(column) for column in ([columns] if isinstance(columns, int | str) else columns)]

    def colData(self, columns: int | str | Sequence[int | str] | None = None) -> list[Any]:
        data = [self.colDataList[index] for index in self.colIndexList(columns)]
        return data[0] if isinstance(columns, int | str) else data

    def setColData(self, columns: int | str | Sequence[int | str], data: Any) -> None:
        indexes = self.colIndexList(columns)
        if isinstance(columns, int | str):
            data = [data]
        if not all(isinstance(item, Sequence | np.ndarray) for item in data):
            raise ValueError("data must be a sequence for every column")
        if len({isinstance(item, np.ndarray) for item in data}) > 1:
            raise ValueError("data must be all lists, or all arrays")
        for index, item in zip(indexes, data, strict=False):
            self.colDataList[index] = (
                np.ma.masked_invalid(item).tolist() if isinstance(item, np.ndarray) else list(item)
            )
