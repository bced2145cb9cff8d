"""Models on disk: what is written is what is read, and nothing that is damaged or not a model is loaded."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from thin_network import THIN_NETWORK, random_network

from condensatenet.errors import InvalidModelError, ModelNotFoundError
from condensatenet.files import pretrained
from condensatenet.files.model_directory import CONFIG_FILE, WEIGHTS_FILE, load_network, read_config, save_network
from condensatenet.files.pretrained import find_model, find_pretrained
from condensatenet.network.model import CondensateNet
from condensatenet.utils import get_cache_dir, get_model_info, load_model

State = dict[str, torch.Tensor]


@pytest.fixture
def copy(model_path: Path, tmp_path: Path) -> Path:
    """A model directory that a test may damage."""
    return shutil.copytree(model_path, tmp_path / "copy")


def change_weights(path: Path, change: Callable[[State], object]) -> None:
    state = load_file(path / WEIGHTS_FILE)
    change(state)
    save_file(state, path / WEIGHTS_FILE)


def assert_refused(path: Path, file: str, reason: str) -> None:
    """Loading fails with an error that names the file and the reason."""
    with pytest.raises(InvalidModelError, match=reason) as caught:
        load_network(path)
    assert str(path / file) in str(caught.value)


# ---- a round trip


def test_model_survives_saving_and_loading_bit_by_bit(model_path: Path, tmp_path: Path, network: CondensateNet) -> None:
    loaded, config = load_network(model_path)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    expected, found = network.state_dict(), loaded.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert all(found[name].dtype == tensor.dtype for name, tensor in expected.items())
    image = torch.rand(1, 1, 32, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded(image)["flows"], network(image)["flows"])

    save_network(tmp_path, loaded, config)
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        assert (tmp_path / file).read_bytes() == (model_path / file).read_bytes()


def test_network_in_channels_last_memory_is_saved_the_same(model_path: Path, tmp_path: Path) -> None:
    save_network(tmp_path, random_network().to(memory_format=torch.channels_last), {})
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == (model_path / WEIGHTS_FILE).read_bytes()


def test_configuration_has_the_published_keys_and_those_of_the_caller(tmp_path: Path) -> None:
    save_network(tmp_path, random_network(), {"training": {"epochs": 3}, "min_size": 4})
    config = json.loads((tmp_path / CONFIG_FILE).read_text(encoding="utf-8"))
    assert config["architectures"] == ["CondensateNet"]
    assert config["model_type"] == "condensatenet"
    assert config["auto_map"] == {
        "AutoConfig": "rajlab/condensatenet--configuration_condensatenet.CondensateNetConfig",
        "AutoModel": "rajlab/condensatenet--modeling_condensatenet.CondensateNet",
    }
    assert config["dtype"] == "float32"
    assert config["pyramid_channels"] == [8, 8, 8, 16]
    assert config.items() >= {"training": {"epochs": 3}, "min_size": 4, **THIN_NETWORK.to_dict()}.items()
    assert read_config(tmp_path) == config


def test_configuration_describes_the_network_that_was_saved(tmp_path: Path) -> None:
    save_network(tmp_path, random_network(), {"encoder_variant": "rw_s", "pyramid_dim": 32, "dtype": "float16"})
    load_network(tmp_path)
    assert read_config(tmp_path)["dtype"] == "float32"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_loaded_as_float32(copy: Path, dtype: torch.dtype) -> None:
    change_weights(
        copy, lambda state: state.update({n: t.to(dtype) for n, t in state.items() if t.is_floating_point()})
    )
    loaded, _ = load_network(copy)
    reference = random_network().state_dict()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == reference[name].dtype
        assert torch.equal(tensor, reference[name].to(dtype).to(reference[name].dtype))


def test_header_of_any_length_is_read(copy: Path) -> None:
    # The length comes first in the file; 640 (mod 65536) begins with the two bytes that a pickle begins with.
    state, lengths = load_file(copy / WEIGHTS_FILE), set()
    save_file(state, copy / WEIGHTS_FILE, metadata={"note": ""})
    shortest = struct.unpack("<Q", (copy / WEIGHTS_FILE).read_bytes()[:8])[0]
    for wanted in (b"\x80\x02", b"\x80\x04", b"PK"):
        filler = (int.from_bytes(wanted, "little") - shortest) % 65536
        save_file(state, copy / WEIGHTS_FILE, metadata={"note": "x" * filler})
        lengths.add((copy / WEIGHTS_FILE).read_bytes()[:2])
        load_network(copy)
    assert lengths == {b"\x80\x02", b"\x80\x04", b"PK"}


def test_model_can_be_overwritten_while_its_network_is_in_use(copy: Path) -> None:
    loaded, _ = load_network(copy)
    with (copy / WEIGHTS_FILE).open("r+b") as stream:
        stream.truncate(0)  # a network over a mapped file would now end the process
    assert torch.equal(loaded.flow_head.weight, random_network().flow_head.weight)


# ---- what is not there


def test_missing_directory_and_files_are_named(copy: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        load_network(copy / "nowhere")
    with pytest.raises(FileNotFoundError):  # for callers that know Python's own error only
        read_config(copy / CONFIG_FILE)
    (copy / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelNotFoundError, match=r"copy.model\.safetensors is missing"):
        load_network(copy)
    (copy / CONFIG_FILE).unlink()
    with pytest.raises(ModelNotFoundError, match=r"copy.config\.json is missing"):
        load_network(copy)


def test_pickled_model_beside_is_not_loaded(copy: Path) -> None:
    (copy / WEIGHTS_FILE).rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelNotFoundError, match=r"pickled model .* can run code"):
        load_network(copy)


# ---- what is damaged


def test_truncated_weights_are_refused_at_every_length(copy: Path) -> None:
    file = copy / WEIGHTS_FILE
    whole = file.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    lengths = {0, 1, 7, 8, 9, header - 1, header, header + 1, len(whole) - 1, len(whole) - 8}
    lengths |= set(np.linspace(1, len(whole) - 1, 40).astype(int).tolist())
    for length in sorted(lengths):
        file.write_bytes(whole[:length])
        assert_refused(copy, WEIGHTS_FILE, "truncated|not a safetensors file")
    file.write_bytes(whole + b"\0")
    assert_refused(copy, WEIGHTS_FILE, f"{len(whole) + 1} bytes instead of {len(whole)}")


def test_damaged_header_is_refused_or_harmless(copy: Path) -> None:
    file = copy / WEIGHTS_FILE
    whole = file.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    reference = random_network().state_dict()
    rng = np.random.default_rng(0)
    refused = 0
    for position in [*range(8), *rng.choice(np.arange(8, header), 50, replace=False).tolist()]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            loaded, _ = load_network(copy)
        except InvalidModelError as error:
            assert str(file) in str(error)
            refused += 1
        else:  # a flipped bit in the free text of the metadata or in white space
            assert all(torch.equal(tensor, reference[name]) for name, tensor in loaded.state_dict().items())
    assert refused > 50


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.uint8])
def test_weights_that_are_whole_numbers_are_refused(copy: Path, dtype: torch.dtype) -> None:
    change_weights(copy, lambda state: state.update({"flow_head.bias": torch.ones(2, dtype=dtype)}))
    assert_refused(copy, WEIGHTS_FILE, "flow_head.bias")


def test_overlapping_tensors_are_refused(copy: Path) -> None:
    file = copy / WEIGHTS_FILE
    whole = file.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    header["mask_head.weight"]["data_offsets"] = header["flow_head.bias"]["data_offsets"]
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    assert_refused(copy, WEIGHTS_FILE, "safetensors")


def test_wrong_shapes_are_refused(copy: Path) -> None:
    change_weights(copy, lambda state: state.update({"mask_head.weight": torch.zeros(1, 9, 1, 1)}))
    assert_refused(copy, WEIGHTS_FILE, r"mask_head.weight has shape \[1, 9, 1, 1\] instead of \[1, 8, 1, 1\]")


def test_weights_of_another_network_are_refused(copy: Path) -> None:
    config = json.loads((copy / CONFIG_FILE).read_text(encoding="utf-8"))
    (copy / CONFIG_FILE).write_text(json.dumps({**config, "encoder_variant": "rw_s"}), encoding="utf-8")
    assert_refused(copy, WEIGHTS_FILE, r"not the weights of the network in config.json \(\d+ tensors missing")


def test_missing_and_unknown_tensors_are_named(copy: Path) -> None:
    change_weights(copy, lambda state: state.update({"mask_head.scale": torch.ones(1)}))
    assert_refused(copy, WEIGHTS_FILE, r"0 tensors missing, 1 unknown; mask_head.scale is not part of it")
    change_weights(copy, lambda state: state.pop("flow_head.bias"))
    assert_refused(copy, WEIGHTS_FILE, r"1 tensors missing, 1 unknown; flow_head.bias is missing")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["flow_head.bias", "output_projection.bn.running_var"])
def test_weights_that_are_no_numbers_are_refused(copy: Path, name: str, value: float) -> None:
    change_weights(copy, lambda state: state[name].view(-1)[:1].fill_(value))
    assert_refused(copy, WEIGHTS_FILE, "NaN or infinite")


class WritesFile:
    """Unpickling this writes a file, as a malicious pickle would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.path, "executed"))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5, "torch"])
def test_pickle_under_the_name_of_the_weights_is_not_executed(copy: Path, protocol: int | str) -> None:
    trace, file = copy / "trace", copy / WEIGHTS_FILE
    if protocol == "torch":
        torch.save({"weights": WritesFile(trace)}, file)
    else:
        file.write_bytes(pickle.dumps(WritesFile(trace), int(protocol)) + b" " * 5000)
        assert pickle.loads(file.read_bytes()) == len("executed")  # it does what a victim would suffer from
        trace.unlink()
    assert_refused(copy, WEIGHTS_FILE, "safetensors file" if protocol == 0 else "a pickle, which can run code")
    assert not trace.exists()


def test_code_in_the_directory_is_not_executed(copy: Path) -> None:
    trace = copy / "trace"
    code = f"open({str(trace)!r}, 'w').write('executed')\nclass CondensateNet: ...\n"
    for name in ("modeling_condensatenet.py", "configuration_condensatenet.py", "__init__.py", "torch.py"):
        (copy / name).write_text(code, encoding="utf-8")
    config = read_config(copy)
    auto_map = {"AutoConfig": "configuration_condensatenet.C", "AutoModel": "modeling_condensatenet.CondensateNet"}
    (copy / CONFIG_FILE).write_text(json.dumps({**config, "auto_map": auto_map}), encoding="utf-8")
    network, _ = load_network(copy)
    assert type(network) is CondensateNet
    assert not trace.exists()


# ---- config.json


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"\x80\x04N.", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"pyramid_dim": ' + b"1" * 5000 + b"}", "not valid JSON"),
        (b"[1, 2]", "must hold a JSON object, not list"),
        (b'"rw_s"', "must hold a JSON object, not str"),
        (b"null", "must hold a JSON object"),
        (b'{"encoder_variant": "b7"}', "unknown encoder_variant 'b7'; this version knows rw_s, small"),
        (b'{"encoder_variant": ["rw_s"]}', "encoder_variant"),
        (b'{"pyramid_dim": 1e400}', "pyramid_dim"),
        (b'{"dropout_rate": NaN}', "dropout_rate"),
        (b"{}" + b" " * 2**20, "too large"),
    ],
)
def test_bad_configuration_is_refused(copy: Path, content: bytes, reason: str) -> None:
    (copy / CONFIG_FILE).write_bytes(content)
    assert_refused(copy, CONFIG_FILE, reason)
    with pytest.raises(InvalidModelError, match=reason):
        read_config(copy)


def test_configuration_that_asks_for_a_giant_network_is_refused_at_once(copy: Path) -> None:
    giant = {"encoder_variant": "rw_s", "pyramid_channels": [4096] * 4, "pyramid_dim": 4096}  # 40 GB of weights
    (copy / CONFIG_FILE).write_text(json.dumps(giant), encoding="utf-8")
    assert_refused(copy, WEIGHTS_FILE, "not the weights of the network")


# ---- models by name


@pytest.fixture
def models_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory in the place of ~/.condensatenet/models."""
    monkeypatch.setattr(pretrained, "MODELS_DIR", tmp_path / "models")
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_pretrained_is_the_shipped_model_until_a_published_one_is_there(models_dir: Path, model_path: Path) -> None:
    for name in (None, "pretrained"):
        assert find_model(name) == find_pretrained() == pretrained.SHIPPED_MODEL
    shutil.copytree(model_path, models_dir / "condensatenet")
    assert find_pretrained() == models_dir / "condensatenet"
    (models_dir / "condensatenet" / WEIGHTS_FILE).unlink()  # half a model is none
    assert find_pretrained() == pretrained.SHIPPED_MODEL


def test_model_is_found_by_path_and_by_name(
    models_dir: Path, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_model(model_path) == find_model(str(model_path)) == model_path
    shutil.copytree(model_path, models_dir / "mine")
    assert find_model("mine") == models_dir / "mine"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()  # a folder of something else
    assert find_model("mine") == models_dir / "mine"
    shutil.copytree(model_path, tmp_path / "mine", dirs_exist_ok=True)
    assert find_model("mine") == Path("mine")
    (models_dir / "yours").mkdir()  # what an interrupted download leaves
    shutil.copy(model_path / CONFIG_FILE, models_dir / "yours")
    with pytest.raises(ModelNotFoundError, match="no model 'yours'; there are: pretrained, mine"):
        find_model("yours")


def test_original_names_load_and_describe_models(model_path: Path) -> None:
    assert isinstance(load_model(model_path, device="cpu"), CondensateNet)
    info = get_model_info(model_path)
    assert info["path"] == str(model_path)
    assert info["size_bytes"] == (model_path / WEIGHTS_FILE).stat().st_size
    assert info["pyramid_dim"] == 8
    assert get_cache_dir() == Path.home() / ".condensatenet" / "models"
