"""Names of models: what is refused, and what comes back from a real Girder server."""

from __future__ import annotations

import unicodedata
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from model_files import contents, make_model
from model_store_server import Server, closed_at_the_end

import utils
from annotation_client.connection import connect
from utils import ModelStoreError, upload_girder_model, validate_model_name

pytestmark = pytest.mark.usefixtures("models_dir")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "Enter a name"),
        (" \t\n", "Enter a name"),
        ("a/b", 'contains "/"'),
        ("a\\b", "contains"),
        ("..", "dot"),
        (".", "dot"),
        (".hidden", "dot"),
        ("end.", "dot"),
        ("../up", "contains"),
        ("C:drive", 'contains ":"'),
        ("a\nb", "invisible character"),
        ("a\0b", "invisible character"),
        ("a\u202eb", "invisible character"),
        ("a\u00a0b", "contains"),
        ("mine (1)", "contains"),
        ("5\u00b2", "contains"),
        ("x" * 65, "too long"),
        ("\U00020000" * 51, "too long"),
        ("pretrained", "comes with"),
        (" Pretrained ", "comes with"),
        ("condensatenet-v1", "comes with"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ModelStoreError, match=reason):
        validate_model_name(name)


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("  My model_1.2-b  ", "My model_1.2-b"),
        ("x" * 64, "x" * 64),
        ("Ko\u0308rnchen", "K\u00f6rnchen"),
        ("凝聚体 2", "凝聚体 2"),
        ("मॉडल", "मॉडल"),
        ("pretrained 2", "pretrained 2"),
    ],
)
def test_letters_of_any_script_make_a_name(name: str, valid: str) -> None:
    assert validate_model_name(name) == valid


@given(st.text(max_size=80) | st.text("aZ9é中 ._-", max_size=80))
@example("a" * 64)
def test_every_valid_name_is_one_file_name(text: str) -> None:
    try:
        name = validate_model_name(text)
    except ModelStoreError as error:
        assert "\n" not in str(error)
        return
    assert validate_model_name(name) == name
    assert name == name.strip() == unicodedata.normalize("NFC", name)
    path = Path("/models") / f"{name}.tar.gz"
    assert path.parent == Path("/models")
    assert path.name == f"{name}.tar.gz"
    assert len(path.name.encode()) <= 255


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_a_model_of_any_valid_name_comes_back(server: Server, tmp_path_factory: Any, data: st.DataObject) -> None:
    text = data.draw(st.text("aZ9éß中ი ._-", min_size=1, max_size=50))
    try:
        name = validate_model_name(f"n{text}{uuid.uuid4().hex[:8]}")
    except ModelStoreError:
        return
    gc = connect(server.api_url, server.token)
    model = make_model(tmp_path_factory.mktemp("model") / "model", seed=len(text))
    with closed_at_the_end(gc):
        upload_girder_model(gc, model, name)
        assert name in utils.model_names(gc)
        directory = utils.resolve_model(gc, name)
    assert directory.name == name
    assert contents(directory) == contents(model)
