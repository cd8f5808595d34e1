"""Checkpoints: real ones of nnU-Net open, hostile ones end in one sentence and do nothing."""

from __future__ import annotations

import io
import pickle
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model_fixtures as given
import numpy as np
import pytest
import torch

from mednext_engine.errors import DependencyError, ModelError
from mednext_engine.models import checkpoint as module
from mednext_engine.models import pickled
from mednext_engine.models.checkpoint import (
    inspect_checkpoint,
    load_checkpoint,
    strip_prefixes,
)
from mednext_engine.models.pickled import read
from mednext_engine.models.tensors import read_tensors
from mednext_engine.models.torch_version import check_torch_version


@pytest.fixture
def a_checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "fold_0" / "checkpoint_final.pth"
    given.save_as_nnunet(path, given.a_unet())
    return path


def with_pickle(source: Path, target: Path, change: Callable[[bytes], bytes]) -> Path:
    """The same archive, with another `data.pkl`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(
                info.filename, change(data) if info.filename.endswith("data.pkl") else data
            )
    return target


def an_archive(path: Path, data: bytes, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in {"version": b"3\n", **members}.items():
            archive.writestr(f"archive/{name}", content)
    return path


def test_a_checkpoint_of_nnunet_opens(a_checkpoint: Path) -> None:
    loaded = load_checkpoint(a_checkpoint)
    assert (loaded.trainer, loaded.configuration) == ("nnUNetTrainer", "3d_fullres")
    assert loaded.mirror_axes == (0, 1, 2)
    raw = torch.load(a_checkpoint, weights_only=False)["network_weights"]
    assert list(loaded.weights) == list(raw)
    assert all(torch.equal(loaded.weights[key], raw[key]) for key in raw)


@pytest.mark.parametrize("package", ["numpy.core", "numpy._core"])
def test_numpys_numbers_under_both_names(a_checkpoint: Path, tmp_path: Path, package: str) -> None:
    """NumPy 1 calls its module numpy.core, NumPy 2 numpy._core."""
    here = b"cnumpy._core.multiarray\n"
    if here not in zipfile.ZipFile(a_checkpoint).read("archive/data.pkl"):
        here = b"cnumpy.core.multiarray\n"
    there = f"c{package}.multiarray\n".encode()
    other = with_pickle(a_checkpoint, tmp_path / "o.pth", lambda d: d.replace(here, there))
    assert load_checkpoint(other).trainer == "nnUNetTrainer"
    content = read(zipfile.ZipFile(other).read("archive/data.pkl"), "c.pth")
    assert content["logging"]["mean_fg_dice"] == [0.5, 0.75]
    assert content["logging"]["flags"] == [True, 3]
    assert content["_best_ema"] == pytest.approx(0.7, abs=0)


def test_unknown_keys_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    plan = {"architecture_plans": {"arch_class_name": "ResEncL"}, "key_to_encoder": "encoder"}
    given.save_as_nnunet(path, given.a_unet(), nnssl_adaptation_plan=plan, more=[np.float32(1)])
    assert load_checkpoint(path).weights


@pytest.mark.parametrize(
    ("key", "stripped"),
    [
        ("module.encoder.w", "encoder.w"),
        ("_orig_mod.module.encoder.w", "encoder.w"),
        ("module._orig_mod.encoder.w", "encoder.w"),
        ("encoder.module.w", "encoder.module.w"),
    ],
)
def test_prefixes_of_wrappers(key: str, stripped: str) -> None:
    assert strip_prefixes(key) == stripped


@pytest.mark.parametrize(
    ("axes", "read"), [(None, ()), ((), ()), ((2, 0), (0, 2)), ([0, 1, 2], (0, 1, 2))]
)
def test_mirroring_axes(tmp_path: Path, axes: Any, read: tuple[int, ...]) -> None:
    path = tmp_path / "c.pth"
    torch.save(
        {"network_weights": {"w": torch.ones(2)}, "inference_allowed_mirroring_axes": axes}, path
    )
    assert load_checkpoint(path).mirror_axes == read


@pytest.mark.parametrize("axes", [(3,), (-1,), "012", (0, 1, 2, 0), (True,), 1])
def test_impossible_mirroring_axes(tmp_path: Path, axes: Any) -> None:
    path = tmp_path / "c.pth"
    torch.save(
        {"network_weights": {"w": torch.ones(2)}, "inference_allowed_mirroring_axes": axes}, path
    )
    with pytest.raises(ModelError, match="mirroring axes"):
        load_checkpoint(path)


class Payload:
    """Pickled, this asks for a file to be made when it is opened."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


def payloads(mark: Path) -> dict[str, bytes]:
    """Programs that would make the file `mark`, or take memory, in the ways pickle has."""
    import os
    import subprocess

    def pickled(value: Any, protocol: int = 2) -> bytes:
        return pickle.dumps({"network_weights": {}, "x": value}, protocol)

    system = Payload(os.system, f"touch '{mark}'")
    buffer = io.BytesIO()
    torch.save({"network_weights": {"w": torch.ones(1)}, "x": system}, buffer)
    made = zipfile.ZipFile(buffer)
    saved = made.read(made.namelist()[0])
    return {
        "os.system, as torch.save writes it": saved,
        "os.system": pickled(system),
        "os.system, protocol 4": pickled(system, 4),
        "subprocess": pickled(Payload(subprocess.check_call, ["touch", str(mark)])),
        "eval": pickled(Payload(eval, f"open({str(mark)!r}, 'w')")),
        "open": pickled(Payload(open, str(mark), "w")),
        "getattr": pickled(Payload(getattr)),
        "old INST opcode": b"(S'touch %s'\nios\nsystem\n." % str(mark).encode(),
        "old OBJ opcode": b"(cos\nsystem\nS'touch %s'\no." % str(mark).encode(),
        "extension registry": b"\x80\x02\x82\x01.",
        "memory": pickled(Payload(bytearray, 10**12)),
        "NumPy array": pickled(np.zeros(3)),
        "a tensor without its storage": b"\x80\x02ctorch\nTensor\n(J\x00\xca\x9a;tR.",
    }


@pytest.mark.parametrize("name", payloads(Path("mark")))
def test_a_payload_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "mark"
    path = an_archive(tmp_path / "c.pth", payloads(mark)[name])
    with pytest.raises(ModelError, match=r"was not opened, because it (asks for|holds an instr)"):
        load_checkpoint(path)
    assert not mark.exists()


def test_the_payload_would_have_run(tmp_path: Path) -> None:
    """So that the test above is about something."""
    mark = tmp_path / "mark"
    pickle.loads(payloads(mark)["os.system"])
    assert mark.exists()


@pytest.mark.parametrize("name", ["os.system", "os.system, protocol 4", "eval", "getattr"])
def test_the_second_gate_holds_without_the_first(
    tmp_path: Path, monkeypatch: Any, name: str
) -> None:
    mark = tmp_path / "mark"
    path = an_archive(tmp_path / "c.pth", payloads(mark)[name])
    monkeypatch.setattr(pickled, "scan", lambda *_: frozenset())
    with pytest.raises(ModelError, match="damaged or not a checkpoint"):
        load_checkpoint(path)
    assert not mark.exists()


def test_stand_ins_cannot_be_changed(tmp_path: Path) -> None:
    """BUILD sets attributes: a pickle may not replace what the next one will be read with."""
    for name in ("torch._utils\n_rebuild_tensor_v2", "numpy\ndtype", "collections\nOrderedDict"):
        data = b"\x80\x02c" + name.encode() + b"\n}X\x04\x00\x00\x00nameK\x01sb."
        with pytest.raises(ModelError, match="UnpicklingError"):
            read(data, "c.pth")
    assert pickled.STAND_INS["numpy.dtype"].name == "numpy.dtype"


def test_attributes_of_a_dictionary_are_dropped() -> None:
    """PyTorch hangs `_metadata` on a state dict; a hostile file might hang `items`."""
    empty = b"ccollections\nOrderedDict\n)R"
    content = read(b"\x80\x02" + empty + b"}X\x05\x00\x00\x00itemsK\x01sb.", "c.pth")
    assert list(content.items()) == []


def test_a_huge_memo_index_is_refused(tmp_path: Path) -> None:
    """Python's unpickler would set aside 32 GiB for LONG_BINPUT 2^31."""
    with pytest.raises(ModelError, match="instruction"):
        read(b"\x80\x02Nr\x00\x00\x00\x80" + b"N" * 20 + b".", "c.pth")


def test_a_scalar_of_a_huge_type_takes_no_memory() -> None:
    """NumPy itself would set aside 10 GB for a scalar of the type V10000000000."""
    data = (
        b"\x80\x02cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\n"
        b"X\x0c\x00\x00\x00V10000000000\x89\x88\x87R\x85R."
    )
    assert read(data, "c.pth") is None


def test_only_the_weights_are_read(tmp_path: Path) -> None:
    """The optimiser's state is as large as the network twice over, and the log may be longer."""
    path = tmp_path / "c.pth"
    torch.save({"network_weights": {"w": torch.ones(3)}, "optimizer_state": torch.ones(9)}, path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "d.pth", "w") as new:
        for info in old.infolist():
            if info.filename != "c/data/1":  # the optimiser's numbers
                new.writestr(info.filename, old.read(info))
    assert torch.equal(load_checkpoint(tmp_path / "d.pth").weights["w"], torch.ones(3))


def test_a_long_log_does_not_slow_a_model_down(tmp_path: Path) -> None:
    """117 labels, 1,000 epochs: PyTorch's own restricted unpickler takes over 20 times as long."""
    path = tmp_path / "c.pth"
    log = [[np.float64(0.5)] * 117 + [np.float64(i)] for i in range(1000)]
    log = [[np.float64(value) for value in epoch] for epoch in log]
    given.save_as_nnunet(path, given.a_unet(), logging={"dice_per_class_or_region": log})
    started = time.process_time()
    load_checkpoint(path)
    assert time.process_time() - started < 10.0


def test_kinds_of_tensors(tmp_path: Path) -> None:
    """Views, scalars, whole numbers, half precision, parameters and tied tensors come through."""
    base = torch.arange(12.0)
    weights = {
        "view": base.reshape(3, 4).t(),
        "part": base[4:8],
        "scalar": torch.tensor(3),
        "empty": torch.empty(0, 3),
        "half": torch.ones(2).half(),
        "bf16": torch.ones(2).bfloat16(),
        "flag": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    path = tmp_path / "Größe.pth"
    with path.open("wb") as stream:
        torch.save({"network_weights": weights}, stream)
    loaded = load_checkpoint(path).weights
    for key, tensor in weights.items():
        assert torch.equal(loaded[key], tensor)
        if key != "bf16":  # exact in float32, and NumPy has no bfloat16
            assert loaded[key].dtype == tensor.dtype
    assert loaded["view"].data_ptr() == loaded["part"].data_ptr() - 16


def test_a_compressed_archive_is_refused(tmp_path: Path, a_checkpoint: Path) -> None:
    path = tmp_path / "c.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.writestr("archive/data/0", bytes(10**8))
    with pytest.raises(ModelError, match="compressed"):
        load_checkpoint(path)


def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = an_archive(tmp_path / "c.pth", pickle.dumps({}, 2), **{"constants.pkl": b""})
    with pytest.raises(ModelError, match="TorchScript"):
        load_checkpoint(path)


def test_the_format_before_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save({"network_weights": {}}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ModelError, match="truncated or not a checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("names", [("data.pkl", "DATA.PKL"), ("data.pkl", "data.pkl")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_readings_of_one_name_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "c.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"archive/{name}", pickle.dumps({}, 2))
    with pytest.raises(ModelError, match="two entries of one name"):
        load_checkpoint(path)


@pytest.mark.parametrize("keep", [0, 3, 100, 0.5, 0.999])
def test_truncated(tmp_path: Path, a_checkpoint: Path, keep: float) -> None:
    data = a_checkpoint.read_bytes()
    path = tmp_path / "c.pth"
    path.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(ModelError, match="truncated"):
        load_checkpoint(path)


def test_a_pickle_that_breaks_off(tmp_path: Path, a_checkpoint: Path) -> None:
    path = with_pickle(a_checkpoint, tmp_path / "c.pth", lambda d: d[: len(d) // 2])
    with pytest.raises(ModelError, match="truncated or damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["data/0", "byteorder", "version"])
def test_a_missing_record(tmp_path: Path, a_checkpoint: Path, name: str) -> None:
    path = tmp_path / "c.pth"
    with zipfile.ZipFile(a_checkpoint) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            if info.filename != f"archive/{name}":
                new.writestr(info.filename, old.read(info))
    if name == "byteorder":  # older files have none
        assert load_checkpoint(path).weights
    else:
        with pytest.raises(ModelError):
            load_checkpoint(path)


@pytest.mark.parametrize(
    "weights",
    [None, {}, [1], {"w": 1.0}, {"w": [torch.ones(1)]}, {3: torch.ones(1)}, torch.ones(3)],
)
def test_weights_that_are_no_table_of_tensors(tmp_path: Path, weights: Any) -> None:
    path = tmp_path / "c.pth"
    torch.save({"network_weights": weights}, path)
    with pytest.raises(ModelError, match=r"no network weights|not a table of tensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], torch.ones(3), "text", None])
def test_no_dictionary_at_all(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "c.pth"
    torch.save(content, path)
    with pytest.raises(ModelError, match="not a checkpoint of nnU-Net"):
        load_checkpoint(path)


def test_a_tensor_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    """One stored number, 10^15 claimed: a later copy would take all memory."""
    path = tmp_path / "c.pth"
    huge = torch.ones(1).as_strided((10**5, 10**5, 10**5), (0, 0, 0))
    torch.save({"network_weights": {"w": huge}}, path)
    with pytest.raises(ModelError, match=r"'w' of c\.pth is not a plain array"):
        load_checkpoint(path)


def test_a_sparse_tensor(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save({"network_weights": {"w": torch.eye(3).to_sparse()}}, path)
    with pytest.raises(ModelError, match="asks for"):
        load_checkpoint(path)


def test_too_large_is_refused_before_reading(a_checkpoint: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    with pytest.raises(ModelError, match="larger than"):
        inspect_checkpoint(a_checkpoint)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is missing"):
        load_checkpoint(tmp_path / "c.pth")


@pytest.mark.parametrize(
    ("version", "intel_mac", "words"),
    [
        ("2.5.1+cpu", False, "PyTorch 2.5.1.* run code"),
        ("1.13.1", False, "run code"),
        ("2.2.2", True, "Macs with Intel processors"),
        ("2.9.0", False, "several times slower"),
        ("2.9.1+cu126", False, "several times slower"),
        ("nonsense", False, "run code"),
    ],
)
def test_versions_of_pytorch_that_are_refused(version: str, intel_mac: bool, words: str) -> None:
    with pytest.raises(DependencyError, match=words):
        check_torch_version(version, intel_mac=intel_mac)


@pytest.mark.parametrize("version", ["2.6.0", "2.8.0+cu128", "2.10.0", "2.13.0+cpu", "3.0.0"])
def test_versions_of_pytorch_that_are_taken(version: str) -> None:
    check_torch_version(version)


def rewritten(source: Path, target: Path, **records: bytes) -> Path:
    """The same archive with other contents of some records, checksums included."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            name = info.filename.partition("/")[2]
            new.writestr(info.filename, records.get(name, old.read(info)))
    return target


def test_a_storage_that_is_too_short(tmp_path: Path) -> None:
    torch.save({"network_weights": {"w": torch.ones(64)}}, tmp_path / "c.pth")
    path = rewritten(tmp_path / "c.pth", tmp_path / "d.pth", **{"data/0": bytes(100)})
    with pytest.raises(ModelError, match="damaged"):
        load_checkpoint(path)


def test_numbers_that_do_not_match_their_checksum(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save({"network_weights": {"w": torch.full((64,), 3.0)}}, path)
    data = path.read_bytes()
    place = data.index(np.full(64, 3.0, np.float32).tobytes())
    path.write_bytes(data[:place] + b"\x01" + data[place + 1 :])
    with pytest.raises(ModelError, match="damaged"):
        load_checkpoint(path)


def test_the_byte_order_is_heeded(tmp_path: Path) -> None:
    torch.save({"network_weights": {"w": torch.tensor([1.0, 2.0])}}, tmp_path / "c.pth")
    numbers = np.array([1.0, 2.0], ">f4").tobytes()
    records = {"data/0": numbers, "byteorder": b"big"}
    path = rewritten(tmp_path / "c.pth", tmp_path / "d.pth", **records)
    assert load_checkpoint(path).arrays["w"].tolist() == [1.0, 2.0]
    path = rewritten(tmp_path / "c.pth", tmp_path / "d.pth", byteorder=b"middle")
    with pytest.raises(ModelError, match="damaged"):
        load_checkpoint(path)


def test_bfloat16_is_exact(tmp_path: Path) -> None:
    values = torch.tensor([1.0, -2.5, 3.140625, 1e-38, float("inf")]).bfloat16()
    torch.save({"network_weights": {"w": values}}, tmp_path / "c.pth")
    found = load_checkpoint(tmp_path / "c.pth").arrays["w"]
    assert found.dtype == np.float32
    assert found.tolist() == values.float().tolist()


@pytest.mark.parametrize(
    ("size", "stride", "offset", "good"),
    [
        ((2, 3), (3, 1), 6, True),  # the last six of twelve numbers
        ((2, 3), (3, 1), 7, False),
        ((2, 3), (9, 1), 0, True),
        ((2, 3), (10, 1), 0, False),
        ((1, 3), (2**60, 1), 0, True),  # a stride that leads nowhere
        ((12,), (0,), 11, True),
        ((12,), (0,), 12, False),
        ((0, 3), (3, 1), 0, True),
    ],
)
def test_a_tensor_stays_within_its_storage(tmp_path: Path, size, stride, offset, good) -> None:
    storage = pickled.StorageNote(
        ("storage", pickled.STAND_INS["torch.FloatStorage"], "0", "cpu", 12)
    )
    path = tmp_path / "c.pth"
    torch.save({"w": torch.arange(12.0)}, path)
    note = pickled.TensorNote(storage, offset, size, stride)
    if not good:
        with pytest.raises(ModelError, match="more than it holds"):
            read_tensors(path, {"w": note})
        return
    found = read_tensors(path, {"w": note})["w"]
    places = offset + np.tensordot(np.array(stride) * (np.array(size) > 1), np.indices(size), 1)
    np.testing.assert_array_equal(found, places)
    assert not found.flags.writeable or not found.size


def test_opening_needs_no_torch(a_checkpoint: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    loaded = load_checkpoint(a_checkpoint)
    assert all(isinstance(values, np.ndarray) for values in loaded.arrays.values())
