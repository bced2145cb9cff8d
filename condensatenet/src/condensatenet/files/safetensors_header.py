"""The table of tensors at the start of a safetensors file, read without loading a tensor."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from condensatenet.errors import InvalidModelError

_MAX_HEADER_BYTES = 2**25
_PICKLE_STARTS = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # PK: the zip that torch.save writes


def read_header(file: Path) -> dict[str, Any]:
    """Return name -> `dtype`, `shape` and `data_offsets` of the tensors of a safetensors file.

    Raises:
        InvalidModelError: the file is truncated, is a pickle, or is no safetensors file.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _MAX_HEADER_BYTES + 1
        if length > min(_MAX_HEADER_BYTES, size - 8):
            if start.startswith(_PICKLE_STARTS):
                raise InvalidModelError(f"{file}: a pickle, which can run code; only safetensors files are loaded")
            raise InvalidModelError(f"{file}: truncated or not a safetensors file ({size} bytes); copy the model again")
        text = stream.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        end = 8 + length + max(tensor["data_offsets"][1] for tensor in header.values())
    except (ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
        raise InvalidModelError(f"{file}: not a safetensors file ({error}); copy the model again") from error
    if end != size:
        raise InvalidModelError(f"{file}: truncated ({size} bytes instead of {end}); copy the model again")
    return dict(header)
