"""Prints, as shell commands, the settings that let uv find the mirrors, folders and certificates that pip finds.

uv does not read pip's variables and files. What is set for uv already is left alone.
"""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys

# pip's option, uv's variable, what stands between several values in it
SETTINGS = [
    ("index-url", "UV_DEFAULT_INDEX", " "),
    ("extra-index-url", "UV_INDEX", " "),
    ("find-links", "UV_FIND_LINKS", ","),
    ("cert", "SSL_CERT_FILE", " "),
]
SCOPES = (":env:", "install", "global")  # the first that has an option wins


def main() -> None:
    # Not "pip config get": without a scope it looks into one file only.
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    configured = dict(line.split("=", 1) for line in lines)
    for option, variable, separator in SETTINGS:
        literals = [configured[f"{scope}.{option}"] for scope in SCOPES if f"{scope}.{option}" in configured]
        if literals and not os.environ.get(variable):
            value = separator.join(ast.literal_eval(literals[0]).split())
            print(f"export {variable}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
