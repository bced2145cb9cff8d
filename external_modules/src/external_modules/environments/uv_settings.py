"""Lets uv find the mirrors, folders, proxies and certificates that pip finds: uv does not read pip's settings."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from pathlib import Path

from external_modules.child_environment import scrubbed_environment
from external_modules.environments.interpreter import host_python
from external_modules.environments.running_program import ask_program

# pip's option, uv's variable, what stands between several values in it, and another name that uv knows it by
_SETTINGS = (
    ("index-url", "UV_DEFAULT_INDEX", " ", "UV_INDEX_URL"),
    ("extra-index-url", "UV_INDEX", " ", "UV_EXTRA_INDEX_URL"),
    ("find-links", "UV_FIND_LINKS", ",", ""),
    ("trusted-host", "UV_INSECURE_HOST", " ", ""),
    ("cert", "SSL_CERT_FILE", " ", ""),
    ("proxy", "ALL_PROXY", " ", "HTTPS_PROXY"),
)
_SCOPES = (":env:", "install", "global")  # the first that has an option wins
# What says where packages and Pythons come from and how they are fetched; other UV_* could redirect an installation.
_KEPT_PREFIXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_HTTP_", "UV_CONCURRENT_")
_KEPT = (
    "UV_CONFIG_FILE",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_INSECURE_HOST",
    "UV_KEYRING_PROVIDER",
    "UV_LINK_MODE",
    "UV_NATIVE_TLS",
    "UV_NO_CONFIG",
    "UV_NO_INDEX",
    "UV_OFFLINE",
    "UV_PYTHON_DOWNLOADS",
    "UV_PYTHON_DOWNLOADS_JSON_URL",
    "UV_PYTHON_INSTALL_DIR",
    "UV_PYTHON_INSTALL_MIRROR",
    "UV_REQUEST_TIMEOUT",
    "UV_SYSTEM_CERTS",
)


def uv_environment(cache: Path) -> dict[str, str]:
    """Return the variables that uv is run with; those that are set for uv already come before pip's settings.

    Args:
        cache: uv's cache. It lies on the disk of the environments, so that files are linked rather than copied.
    """
    environment = scrubbed_environment()
    for name, value in os.environ.items():
        if value and (name in _KEPT or name.startswith(_KEPT_PREFIXES)):
            environment[name] = value
    configured = _pip_settings()
    for option, variable, separator, other_name in _SETTINGS:
        if option in configured and not environment.get(variable) and not environment.get(other_name):
            environment[variable] = separator.join(configured[option].split())
    environment["UV_CACHE_DIR"] = os.fspath(cache)
    # Like pip, take a file from whichever index has it: the hashes of the lock say which files are right.
    environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    # A Python that uv downloads stays unknown to the rest of the system.
    environment.update({"UV_PYTHON_INSTALL_BIN": "0", "UV_PYTHON_INSTALL_REGISTRY": "0", "NO_COLOR": "1"})
    return environment


def _pip_settings() -> Mapping[str, str]:
    python = host_python()
    try:
        if python is None:
            raise FileNotFoundError("the host has no Python program")
        answer = ask_program([python.path, "-I", "-m", "pip", "config", "list"])
        if answer.code != 0:
            raise ValueError(answer.tail())
        configured = dict(line.split("=", 1) for line in answer.output.splitlines() if "=" in line)
        found: dict[str, str] = {}
        for option, *_ in _SETTINGS:
            literals = [configured[f"{scope}.{option}"] for scope in _SCOPES if f"{scope}.{option}" in configured]
            if literals:
                found[option] = str(ast.literal_eval(literals[0]))
        return found
    except (OSError, ValueError, SyntaxError):
        # no pip, or none that answers: its variables can be read without it
        variables = {option: f"PIP_{option.upper().replace('-', '_')}" for option, *_ in _SETTINGS}
        return {option: os.environ[name] for option, name in variables.items() if os.environ.get(name)}
