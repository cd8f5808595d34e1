"""The models directory: import, export, verify, remove, by folder and by zip file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import model_fixtures as given
import pytest
import torch

from mednext_engine.errors import Cancelled, ModelError, OutputError, ResourceError
from mednext_engine.models import archive, store
from mednext_engine.models.card import Card
from mednext_engine.models.folder import open_model
from mednext_engine.models.store import (
    export_model,
    find_model,
    import_model,
    list_models,
    models_directory,
    remove_model,
    verify_model,
)
from mednext_engine.monitor import Monitor

INNER = "Dataset007_Test/nnUNetTrainer__nnUNetPlans__3d_fullres"


@pytest.fixture(autouse=True)
def the_directory(tmp_path: Path, monkeypatch: Any) -> Path:
    """An empty models directory with a name that is not ASCII, and nothing that ships."""
    (tmp_path / "shipped" / "Models").mkdir(parents=True)
    monkeypatch.setenv("MEDNEXT_RESOURCES", str(tmp_path / "shipped"))
    monkeypatch.setenv("MEDNEXT_MODELS", str(tmp_path / "Modelle für Köpfe"))
    return tmp_path / "Modelle für Köpfe"


@pytest.fixture
def a_folder(tmp_path: Path) -> Path:
    return given.write_folder(tmp_path / "results" / INNER)


def zipped(target: Path, folder: Path, prefix: str = INNER) -> Path:
    """All files of a folder, as nnU-Net's export packs them."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as pack:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                pack.write(path, f"{prefix}/{path.relative_to(folder).as_posix()}".lstrip("/"))
    return target


def leftovers(directory: Path) -> list[str]:
    return [p.name for p in directory.iterdir() if p.name.startswith(".")]


def test_the_directory_follows_the_environment(the_directory: Path, monkeypatch: Any) -> None:
    assert models_directory() == the_directory
    monkeypatch.delenv("MEDNEXT_MODELS")
    assert models_directory().parts[-2:] == ("MedNeXtSeg", "models")
    assert models_directory().is_absolute()


def test_a_folder_is_imported_without_what_is_not_the_model(
    a_folder: Path, the_directory: Path
) -> None:
    (a_folder / "fold_0" / "debug.json").write_text('{"hostname": "box"}')
    (a_folder / "fold_0" / "progress.png").write_bytes(b"png")
    (a_folder / "fold_0" / "training_log.txt").write_text("log")
    (a_folder / "fold_0" / "checkpoint_latest.pth").write_bytes(b"x")
    (a_folder / "fold_0" / "validation").mkdir()
    (a_folder / "postprocessing.pkl").write_bytes(b"x")
    model = import_model(a_folder)
    assert model.path == the_directory / "Dataset007_Test"
    names = {p.relative_to(model.path).as_posix() for p in model.path.rglob("*") if p.is_file()}
    files = {"dataset.json", "plans.json", "fold_0/checkpoint_final.pth"}
    assert names == files | {"mednext.json"}
    assert set(model.card.files) == files
    assert model.card.title == "Dataset007_Test"
    assert not leftovers(the_directory)
    assert find_model("Dataset007_Test").path == model.path


@pytest.mark.parametrize("prefix", [INNER, "", "a/b/c/d"])
def test_a_zip_is_imported_from_any_depth(tmp_path: Path, a_folder: Path, prefix: str) -> None:
    pack = zipped(tmp_path / "My Model (1).zip", a_folder, prefix)
    model = import_model(pack)
    names = {INNER: "Dataset007_Test", "": "My-Model-1", "a/b/c/d": "d"}
    assert model.id == names[prefix]
    assert model.network(model.weights("0"))


def test_of_several_configurations_one_is_taken(tmp_path: Path, a_folder: Path) -> None:
    table = {
        "3d_lowres": given.a_configuration(spacing=[6.0, 2.0, 1.0]),
        "3d_fullres": given.a_configuration(),
    }
    for name in table:
        given.write_folder(
            a_folder.with_name(f"nnUNetTrainer__nnUNetPlans__{name}"),
            plans_json=given.plans(table),
            init_args={"configuration": name},
        )
    pack = zipped(tmp_path / "m.zip", a_folder.parent, "Dataset007_Test")
    assert import_model(pack).plan.configuration == "3d_fullres"
    low = import_model(pack, configuration="3d_lowres")
    assert (low.id, low.plan.configuration) == ("Dataset007_Test-3d_lowres", "3d_lowres")
    assert low.weights("0")
    assert find_model(low.id).plan.configuration == "3d_lowres"
    assert import_model(a_folder.parent, name="from-folder").plan.configuration == "3d_fullres"


def test_an_id_that_is_taken(a_folder: Path) -> None:
    first = import_model(a_folder)
    (first.path / "mark").touch()
    with pytest.raises(ModelError, match="'Dataset007_Test' is installed already"):
        import_model(a_folder)
    assert import_model(a_folder, name="other").id == "other"
    import_model(a_folder, replace_existing=True)
    assert not (first.path / "mark").exists()
    assert sorted(m.id for m in list_models()) == ["Dataset007_Test", "other"]


@pytest.mark.parametrize(
    ("wanted", "becomes"),
    [
        ("../../evil", "evil"),
        ("a/b\\c", "a-b-c"),
        ("Köpfe", "Kopfe"),
        ("脑", "model"),
        ("con", "model-con"),
        (".hidden.", "hidden"),
        ("x" * 300, "x" * 100),
    ],
)
def test_ids_are_safe_folder_names(a_folder: Path, wanted: str, becomes: str) -> None:
    model = import_model(a_folder, name=wanted)
    assert model.id == becomes
    assert model.path == models_directory() / becomes


def test_a_card_from_the_catalogue_is_used_where_there_is_none(a_folder: Path) -> None:
    model = import_model(a_folder, name="x", card=Card(title="Leber", license="CC0-1.0"))
    assert (model.card.title, model.card.license, model.card.id) == ("Leber", "CC0-1.0", "x")


def test_export_and_import_give_the_same_model(tmp_path: Path, a_folder: Path) -> None:
    model = import_model(a_folder)
    pack = export_model(model, tmp_path / "größer.zip")
    copy = import_model(pack, name="copy")
    assert verify_model(copy).ok
    assert verify_model(copy).checked == 3
    assert copy.plan == model.plan
    ours, theirs = model.weights("0"), copy.weights("0")
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert copy.mirror_axes == model.mirror_axes
    assert [p.name for p in tmp_path.glob(".partial*")] == []


def test_an_export_is_the_same_byte_for_byte(tmp_path: Path, a_folder: Path) -> None:
    model = import_model(a_folder)
    first = export_model(model, tmp_path / "1.zip").read_bytes()
    os.utime(model.path / "plans.json", (1, 1))
    assert export_model(model, tmp_path / "2.zip").read_bytes() == first


def test_an_export_tells_nothing_of_the_training(tmp_path: Path) -> None:
    """File names of the training set, the optimiser, hosts and paths stay at home."""
    secrets = ["Mueller_Hans", "/home/doe", "C:\\Users", "box17", "momentum_buffer"]
    private = given.dataset(dataset={"Mueller_Hans": {"label": "/home/doe/a.nii.gz"}})
    plans_json = given.plans(source="C:\\Users\\doe\\plans.json")
    folder = given.write_folder(
        tmp_path / "m",
        plans_json=plans_json,
        dataset_json=private,
        init_args={"plans": plans_json, "configuration": "3d_fullres", "dataset_json": private},
        my_fantastic_log={"host": "box17"},
    )
    (folder / "fold_0" / "debug.json").write_text("box17")
    pack = export_model(open_model(folder), tmp_path / "m.zip")
    content = b"".join(zipfile.ZipFile(pack).read(n) for n in zipfile.ZipFile(pack).namelist())
    assert [s for s in secrets if s.encode() in content or s.encode("utf-16") in content] == []
    assert b"box17" in (folder / "fold_0" / "checkpoint_final.pth").read_bytes()
    import_model(pack)


def test_an_export_does_not_overwrite_and_leaves_nothing_half(
    tmp_path: Path, a_folder: Path
) -> None:
    model = import_model(a_folder)
    (tmp_path / "there.zip").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        export_model(model, tmp_path / "there.zip")
    with pytest.raises(OutputError, match="cannot be written"):
        export_model(model, tmp_path / "nowhere" / "m.zip")
    monitor = Monitor(
        report=lambda p: monitor.cancel() if p.stage == "Writing the archive" else None
    )
    with pytest.raises(Cancelled):
        export_model(model, tmp_path / "m.zip", monitor)
    assert not (tmp_path / "m.zip").exists()
    assert list(tmp_path.glob(".partial*")) == []
    assert (tmp_path / "there.zip").read_bytes() == b"mine"


def test_stock_nnunet_installs_our_export_and_we_import_its(tmp_path: Path, a_folder: Path) -> None:
    """Both directions with nnunetv2 itself, in a process of its own (it reads the environment)."""
    pytest.importorskip("nnunetv2")
    (a_folder / "dataset_fingerprint.json").write_text("{}")
    (a_folder / "fold_0" / "progress.png").write_bytes(b"")
    (a_folder / "fold_0" / "validation").mkdir()
    (a_folder / "fold_0" / "validation" / "summary.json").write_text("{}")
    ours = export_model(open_model(a_folder), tmp_path / "ours.zip")
    theirs = tmp_path / "theirs.zip"
    code = """
import sys, torch
from nnunetv2.model_sharing.model_export import export_pretrained_model
from nnunetv2.model_sharing.model_import import install_model_from_zip_file
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
results, ours, theirs, inner = sys.argv[1:]
export_pretrained_model("Dataset007_Test", theirs, ("3d_fullres",), folds=(0,))
import shutil; shutil.rmtree(results + "/Dataset007_Test")
install_model_from_zip_file(ours)
predictor = nnUNetPredictor(device=torch.device("cpu"))
predictor.initialize_from_trained_model_folder(results + "/" + inner, use_folds=None)
print("HEADS", predictor.label_manager.num_segmentation_heads, predictor.allowed_mirroring_axes)
"""
    results = tmp_path / "results"
    environment = {**os.environ, "nnUNet_results": str(results), "nnUNet_compile": "0"}
    environment |= {"nnUNet_raw": str(tmp_path), "nnUNet_preprocessed": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(results), str(ours), str(theirs), INNER],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "HEADS 3 (0, 1, 2)" in done.stdout, done.stderr[-2000:]
    model = import_model(theirs)
    assert (model.id, model.folds) == ("Dataset007_Test", ("0",))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: (p / "plans.json").write_text((p / "plans.json").read_text() + " "), "changed"),
        (lambda p: (p / "dataset.json").unlink(), "missing"),
        (lambda p: shutil.copytree(p / "fold_0", p / "fold_1"), "not listed"),
    ],
)
def test_verify_finds_what_changed(a_folder: Path, damage: Any, words: str) -> None:
    model = import_model(a_folder)
    assert verify_model(model).ok
    damage(model.path)
    result = verify_model(model)
    assert not result.ok
    assert words in result.problems[0]


def test_a_damaged_export_is_not_imported(tmp_path: Path, a_folder: Path) -> None:
    model = import_model(a_folder)
    pack = export_model(model, tmp_path / "m.zip")
    with zipfile.ZipFile(pack) as old, zipfile.ZipFile(tmp_path / "bad.zip", "w") as new:
        for name in old.namelist():
            extra = b" " if name.endswith("plans.json") else b""
            new.writestr(name, old.read(name) + extra)
    with pytest.raises(ModelError, match=r"plans\.json was changed or damaged"):
        import_model(tmp_path / "bad.zip", name="bad")
    assert [m.id for m in list_models()] == [model.id]


def test_remove(a_folder: Path, the_directory: Path) -> None:
    import_model(a_folder)
    remove_model("Dataset007_Test")
    assert list(the_directory.iterdir()) == []
    with pytest.raises(ModelError, match="no model 'Dataset007_Test'"):
        find_model("Dataset007_Test")


def test_what_ships_is_listed_but_not_removed(tmp_path: Path, a_folder: Path) -> None:
    shipped = tmp_path / "shipped" / "Models" / "tissue"
    given.write_folder(shipped)
    assert [m.id for m in list_models()] == ["tissue"]
    for wanted in ("tissue", find_model("tissue"), open_model(a_folder), str(a_folder)):
        with pytest.raises(ModelError, match="not in the models directory"):
            remove_model(wanted)
    assert shipped.exists()
    assert a_folder.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_link_out_of_the_directory_is_not_followed(a_folder: Path, the_directory: Path) -> None:
    the_directory.mkdir()
    (the_directory / "link").symlink_to(a_folder, target_is_directory=True)
    with pytest.raises(ModelError, match="not in the models directory"):
        remove_model("link")
    assert (a_folder / "plans.json").exists()


def test_a_broken_model_does_not_hide_the_others(a_folder: Path, the_directory: Path) -> None:
    import_model(a_folder)
    (the_directory / "broken").mkdir()
    (the_directory / ".partial-abc").mkdir()
    problems: list[str] = []
    assert [m.id for m in list_models(problems)] == ["Dataset007_Test"]
    assert len(problems) == 1
    assert problems[0].startswith("broken: ")


def test_stale_remains_of_a_killed_import_are_cleared(a_folder: Path, the_directory: Path) -> None:
    for name, age in ((".partial-old", 2 * 86400), (".partial-new", 0)):
        (the_directory / name).mkdir(parents=True)
        os.utime(the_directory / name, (os.stat(the_directory).st_mtime - age,) * 2)
    import_model(a_folder)
    assert leftovers(the_directory) == [".partial-new"]


def with_member(pack: Path, name: str, data: bytes = b"x", mode: int = 0o100644) -> Path:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    with zipfile.ZipFile(pack, "a") as archive_file:
        archive_file.writestr(info, data)
    return pack


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("../evil", 0o100644, "leads out of its folder"),
        (f"{INNER}/fold_0/../../../../evil", 0o100644, "leads out of its folder"),
        ("/tmp/evil", 0o100644, "leads out of its folder"),
        ("C:/evil", 0o100644, "leads out of its folder"),
        ("..\\evil", 0o100644, "leads out of its folder"),
        ("a\\..\\..\\evil", 0o100644, "leads out of its folder"),
        (f"{INNER}/fold_1/checkpoint_final.pth", 0o120777, "a link"),
        (f"{INNER}/fold_1", 0o120777, "a link"),
        ("fifo", 0o010644, "special file"),
        ("device", 0o060644, "special file"),
    ],
)
def test_a_hostile_zip_is_refused_as_a_whole(
    tmp_path: Path, a_folder: Path, the_directory: Path, name: str, mode: int, words: str
) -> None:
    pack = with_member(zipped(tmp_path / "m.zip", a_folder), name, b"/etc/passwd", mode)
    before = sorted(p for p in tmp_path.rglob("*") if the_directory not in p.parents)
    with pytest.raises(ModelError, match=words):
        import_model(pack)
    after = sorted(p for p in tmp_path.rglob("*") if p != the_directory)
    assert after == [p for p in before if p != the_directory]


def test_a_nul_byte_hides_nothing(tmp_path: Path, a_folder: Path) -> None:
    pack = with_member(zipped(tmp_path / "m.zip", a_folder), "safe.txtX../evil")
    pack.write_bytes(pack.read_bytes().replace(b"safe.txtX", b"safe.txt\0"))
    with pytest.raises(ModelError, match="leads out of its folder"):
        import_model(pack)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_zip(tmp_path: Path, a_folder: Path, the_directory: Path, keep: float) -> None:
    data = zipped(tmp_path / "m.zip", a_folder).read_bytes()
    (tmp_path / "t.zip").write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(ModelError, match="truncated, damaged or no zip"):
        import_model(tmp_path / "t.zip")
    assert list(the_directory.iterdir()) == []


def test_a_flipped_bit_is_noticed(tmp_path: Path, a_folder: Path, the_directory: Path) -> None:
    pack = zipped(tmp_path / "m.zip", a_folder)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0xFF
    pack.write_bytes(data)
    with pytest.raises(ModelError, match="truncated, damaged or no zip"):
        import_model(pack)
    assert list(the_directory.iterdir()) == []


def test_a_zip_bomb(tmp_path: Path, a_folder: Path, the_directory: Path) -> None:
    pack = zipped(tmp_path / "m.zip", a_folder)
    info = zipfile.ZipInfo(f"{INNER}/fold_1/checkpoint_final.pth")
    info.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(pack, "a") as archive_file, archive_file.open(info, "w") as sink:
        for _ in range(20):
            sink.write(bytes(2**20))
    with pytest.raises(ModelError, match="would grow more than 200 times"):
        import_model(pack)
    assert list(the_directory.iterdir()) == []


def test_a_bomb_that_lies_about_its_size(tmp_path: Path, a_folder: Path) -> None:
    pack = zipped(tmp_path / "m.zip", a_folder)
    with zipfile.ZipFile(pack) as archive_file:
        size = archive_file.getinfo(f"{INNER}/plans.json").file_size
    data = pack.read_bytes()
    pack.write_bytes(data.replace(size.to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(ModelError, match=r"truncated, damaged|holds more"):
        import_model(pack)


def test_too_many_and_too_large(tmp_path: Path, a_folder: Path, monkeypatch: Any) -> None:
    pack = zipped(tmp_path / "m.zip", a_folder)
    monkeypatch.setattr(archive, "MAX_MEMBERS", 2)
    with pytest.raises(ModelError, match="more than 2 files"):
        import_model(pack)
    monkeypatch.undo()
    monkeypatch.setenv("MEDNEXT_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 1000)
    with pytest.raises(ModelError, match="more than 0 GiB"):
        import_model(pack)


def test_a_full_disk_is_noticed_before_unpacking(
    tmp_path: Path, a_folder: Path, monkeypatch: Any
) -> None:
    pack = zipped(tmp_path / "m.zip", a_folder)
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: full)
    with pytest.raises(ResourceError, match="too little room"):
        import_model(pack)


def test_a_password(tmp_path: Path, a_folder: Path) -> None:
    pack = zipped(tmp_path / "m.zip", a_folder)
    data = bytearray(pack.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1
    pack.write_bytes(data)
    with pytest.raises(ModelError, match="password"):
        import_model(pack)


def test_a_payload_is_refused_on_import(tmp_path: Path, a_folder: Path) -> None:
    mark = tmp_path / "mark"

    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {mark}",)

    torch.save({"network_weights": {}, "x": Payload()}, a_folder / "fold_0/checkpoint_final.pth")
    with pytest.raises(ModelError, match=r"asks for '\w+\.system'"):
        import_model(a_folder)
    assert not mark.exists()
    assert list_models() == []


def test_a_network_out_of_bounds_is_refused_on_import(tmp_path: Path) -> None:
    kwargs = {**given.UNET_KWARGS, "features_per_stage": [10**6, 10**6]}
    entry = {"network_class_name": given.UNET, "arch_kwargs": kwargs}
    raw = given.plans({"3d_fullres": given.a_configuration(architecture=entry)})
    with pytest.raises(ModelError, match="features_per_stage"):
        import_model(given.write_folder(tmp_path / "m", plans_json=raw))


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"\x1f\x8b nonsense"])
def test_files_that_hold_no_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.zip").write_bytes(content)
    with pytest.raises(ModelError, match=r"no zip file|no plans\.json"):
        import_model(tmp_path / "m.zip")


def test_cancel_leaves_nothing(a_folder: Path, the_directory: Path) -> None:
    monitor = Monitor(report=lambda _: monitor.cancel())
    with pytest.raises(Cancelled):
        import_model(a_folder, monitor)
    assert list(the_directory.iterdir()) == []


def test_a_failed_replacement_keeps_the_old_model(
    a_folder: Path, the_directory: Path, monkeypatch: Any
) -> None:
    model = import_model(a_folder)
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if Path(target) == model.path and ".partial-" in str(source):
            raise PermissionError(13, "in use")
        real(source, target)

    monkeypatch.setattr("mednext_engine.models.writer.os.replace", replace)
    with pytest.raises(OutputError, match="in use"):
        import_model(a_folder, replace_existing=True)
    monkeypatch.undo()
    assert verify_model(open_model(model.path)).ok
    assert leftovers(the_directory) == []


def test_describe_is_plain_json(a_folder: Path) -> None:
    model = import_model(a_folder)
    text = json.loads(json.dumps(store.describe(model)))
    assert (text["id"], text["folds"], text["removable"]) == ("Dataset007_Test", ["0"], True)
    assert text["labels"][0] == {
        "value": 1,
        "name": "liver",
        "color": text["labels"][0]["color"],
        "terminology": "",
    }
