"""Writes REGISTRY.md from the labels of the workers and the interfaces that they send to a server.

.venv/bin/python scripts/write_registry.py           # after a change to a worker's fields or labels
.venv/bin/python scripts/write_registry.py --check    # exit code 1 if REGISTRY.md is not up to date
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from annotation_client.connection import Connection, connect
from workbench.jobs.registry import Registry
from workbench.server_process import started_server

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = ROOT / "REGISTRY.md"
SUCCESS, ENDED = 3, (3, 4, 5)
HEADER = """# Workers

Written by `scripts/write_registry.py` from the workers' labels and interfaces; do not edit.
"""


def main() -> None:
    """Write the registry, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    # An empty data folder: no models but those that ship.
    with tempfile.TemporaryDirectory() as folder, started_server(Path(folder), workers=[ROOT / "workers"]) as server:
        text = describe_workers(connect(server.api_url, server.token))
    if not arguments.check:
        REGISTRY.write_text(text, encoding="utf-8")
    elif not REGISTRY.exists() or REGISTRY.read_text(encoding="utf-8") != text:
        sys.exit("REGISTRY.md is not up to date: run scripts/write_registry.py")


def describe_workers(connection: Connection) -> str:
    """Return the registry's text."""
    sections = [HEADER]
    for image, worker in Registry([ROOT / "workers"]).workers().items():
        labels = worker.labels
        rows = "\n".join(f"| `{name}` | {_cell(value)} |" for name, value in sorted(labels.items()))
        sections.append(f"## {labels['interfaceName']}\n\n{labels['description']}. Image `{image}`.\n")
        sections.append(f"| label | value |\n|---|---|\n{rows}\n")
        sections.append(describe_interface(request_interface(connection, image)))
    return "\n".join(sections)


def request_interface(connection: Connection, image: str) -> dict[str, dict[str, Any]]:
    """Let a worker send its interface and return it."""
    (job,) = connection.post("worker_interface/request", {"image": image})
    while job["status"] not in ENDED:
        time.sleep(0.05)
        job = connection.get(f"job/{job['_id']}")
    if job["status"] != SUCCESS:
        sys.exit(f"{image} did not send its interface:\n{''.join(job['log'])}")
    fields: dict[str, dict[str, Any]] = connection.get("worker_interface", {"image": image})
    return fields


def describe_interface(interface: dict[str, dict[str, Any]]) -> str:
    """Return the table of a worker's fields, in the order of the form."""
    rows = []
    for name, field in sorted(interface.items(), key=lambda entry: entry[1]["displayOrder"]):
        values = f"{field['min']} to {field['max']}" if "min" in field else ", ".join(field.get("items", []))
        default = field.get("default", "")
        if field["type"] == "text" and field.get("noCache"):
            default = "(made anew each time)"
        unit = field.get("unit", "")
        cells = (name, field["type"], default, values, unit, field.get("tooltip", ""))
        rows.append(f"| {' | '.join(map(_cell, cells))} |")
    return "| field | type | default | values | unit | |\n|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


if __name__ == "__main__":
    main()
