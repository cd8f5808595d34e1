"""Model folders: what is found, chosen, built and written."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import model_fixtures as given
import pytest
import torch

from mednext_engine.errors import ModelError, OutputError, UnsupportedModelError
from mednext_engine.models.card import Card
from mednext_engine.models.folder import Model, open_model
from mednext_engine.models.plan import read_plan
from mednext_engine.models.resources import resource_path, set_resources
from mednext_engine.models.writer import Training, labels_table, write_model

MEDNEXT = "mednext_engine.networks.MedNeXt"
SMALL = {"channels": 2, "blocks": [1] * 9, "expansion": [2] * 9, "kernel_size": 3, "grn": True}


def test_a_folder_of_nnunet_opens(tmp_path: Path) -> None:
    folder = given.write_folder(tmp_path / "Dataset007_Test" / "nnUNetTrainer__P__3d_fullres")
    model = open_model(folder)
    assert model.path == folder
    assert model.id == "Dataset007_Test"
    assert (model.folds, model.checkpoint_name) == (("0",), "checkpoint_final.pth")
    assert model.channel_names == ("CT",)
    assert model.labels.num_heads == 3
    assert model.mirror_axes == (0, 1, 2)
    assert model.card.derived


@pytest.mark.parametrize(
    ("reader", "said", "orientation"),
    [
        ("SimpleITKIO", "", ""),
        ("NibabelIO", "", ""),
        ("NibabelIOWithReorient", "", "RAS"),
        ("SimpleITKIOWithReorient", "", "RAS"),
        ("SimpleITKIO", "LPS", "LPS"),
        ("NibabelIOWithReorient", "LPS", "LPS"),
    ],
)
def test_orientation_is_the_cards_or_the_readers(tmp_path: Path, reader, said, orientation) -> None:
    folder = given.write_folder(tmp_path / "m")
    plans = json.loads((folder / "plans.json").read_text())
    (folder / "plans.json").write_text(json.dumps({**plans, "image_reader_writer": reader}))
    if said:
        card = Card(title="m", orientation=said).to_json()
        (folder / "mednext.json").write_text(json.dumps(card))
    assert open_model(folder).orientation == orientation


def test_a_reader_of_its_own_is_refused(tmp_path: Path) -> None:
    folder = given.write_folder(tmp_path / "m")
    plans = json.loads((folder / "plans.json").read_text())
    (folder / "plans.json").write_text(json.dumps({**plans, "image_reader_writer": "os.system"}))
    with pytest.raises(UnsupportedModelError, match="class of its own"):
        open_model(folder)


def test_opening_does_not_import_torch(tmp_path: Path) -> None:
    folder = given.write_folder(tmp_path / "m")
    code = "import sys; from mednext_engine.models.store import find_model; "
    code += "m = find_model(sys.argv[1]); print(m.id, 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["m", "False"]


def test_the_network_computes_what_the_original_did(tmp_path: Path) -> None:
    model = open_model(given.write_folder(tmp_path / "Größe and spaces"))
    network = model.network(model.weights("0"))
    original = given.a_unet()
    original.load_state_dict(
        torch.load(model.checkpoint_path("0"), weights_only=False)["network_weights"]
    )
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(network(image), original.eval()(image))
    assert not network.training


def test_changing_the_network_leaves_the_file_alone(tmp_path: Path) -> None:
    model = open_model(given.write_folder(tmp_path / "m"))
    before = model.fingerprint("0")
    network = model.network(model.weights("0"))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    model._digests.clear()
    assert model.fingerprint("0") == before


def test_folds(tmp_path: Path) -> None:
    model = open_model(given.write_folder(tmp_path / "m", folds=("all", "10", "2")))
    assert model.folds == ("2", "10", "all")
    assert model.default_folds == ("2", "10")
    with pytest.raises(ModelError, match="no fold '0'"):
        model.weights("0")
    alone = open_model(given.write_folder(tmp_path / "n", folds=("all",)))
    assert alone.default_folds == ("all",)


def test_the_best_checkpoint_is_second_choice(tmp_path: Path) -> None:
    given.write_folder(tmp_path / "m", folds=("0", "1"), checkpoint="checkpoint_best.pth")
    assert open_model(tmp_path / "m").checkpoint_name == "checkpoint_best.pth"
    given.save_as_nnunet(tmp_path / "m" / "fold_1" / "checkpoint_final.pth", given.a_unet())
    model = open_model(tmp_path / "m")
    assert (model.checkpoint_name, model.folds) == ("checkpoint_final.pth", ("1",))


def all_configurations() -> dict[str, Any]:
    return {
        "2d": given.a_configuration(patch_size=[64, 64], spacing=[1.0, 0.5]),
        "3d_lowres": given.a_configuration(spacing=[6.0, 2.0, 1.0]),
        "3d_fullres": given.a_configuration(),
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }


@pytest.fixture
def a_dataset_folder(tmp_path: Path) -> Path:
    """nnU-Net's results of one data set: a folder for each configuration."""
    for configuration in all_configurations():
        arguments = {"plans": {}, "configuration": configuration, "fold": 0}
        given.write_folder(
            tmp_path / "Dataset007_Test" / f"nnUNetTrainer__nnUNetPlans__{configuration}",
            plans_json=given.plans(all_configurations()),
            init_args=arguments,
        )
    return tmp_path / "Dataset007_Test"


def test_a_dataset_folder_prefers_full_resolution(a_dataset_folder: Path) -> None:
    for start in (a_dataset_folder, a_dataset_folder.parent):
        model = open_model(start)
        assert model.plan.configuration == "3d_fullres"
        assert model.weights("0")


def test_another_configuration_can_be_asked_for(a_dataset_folder: Path) -> None:
    model = open_model(a_dataset_folder, configuration="3d_lowres")
    assert model.plan.spacing == (6.0, 2.0, 1.0)
    with pytest.raises(UnsupportedModelError, match="not supported, because"):
        open_model(a_dataset_folder, configuration="2d")
    with pytest.raises(UnsupportedModelError, match="not supported, because"):
        open_model(a_dataset_folder / "nnUNetTrainer__nnUNetPlans__3d_cascade_fullres")


def test_two_trainers_must_be_told_apart(a_dataset_folder: Path) -> None:
    first = a_dataset_folder / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    given.write_folder(first.with_name("nnUNetTrainerDA5__nnUNetPlans__3d_fullres"))
    with pytest.raises(ModelError, match="several models"):
        open_model(a_dataset_folder)


def test_a_renamed_folder_of_another_configuration_says_so(tmp_path: Path) -> None:
    model = open_model(
        given.write_folder(
            tmp_path / "renamed",
            plans_json=given.plans(all_configurations()),
            init_args={"configuration": "3d_lowres"},
        )
    )
    with pytest.raises(ModelError, match=r"trained with .* '3d_lowres', but .* as '3d_fullres'"):
        model.weights("0")


@pytest.mark.parametrize("missing", ["plans.json", "dataset.json", "fold_0"])
def test_what_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    folder = given.write_folder(tmp_path / "m")
    (folder / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=missing):
        open_model(folder)


def test_no_folder_and_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        open_model(tmp_path / "nowhere")
    (tmp_path / "m.zip").write_bytes(b"")
    with pytest.raises(ModelError, match="Import it first"):
        open_model(tmp_path / "m.zip")


def hostile(**architecture: Any) -> dict[str, Any]:
    entry = {"network_class_name": given.UNET, "arch_kwargs": given.UNET_KWARGS, **architecture}
    return given.plans({"3d_fullres": given.a_configuration(architecture=entry)})


@pytest.mark.parametrize(
    "plans_json",
    [
        hostile(network_class_name="os.system"),
        hostile(network_class_name="os.system", arch_kwargs={"command": "touch mark"}),
        hostile(network_class_name="builtins.exec", arch_kwargs={}),
        hostile(arch_kwargs={**given.UNET_KWARGS, "conv_op": "os.system"}),
        hostile(arch_kwargs={**given.UNET_KWARGS, "nonlin_kwargs": {"inplace": "os.system"}}),
        hostile(arch_kwargs={**given.UNET_KWARGS, "features_per_stage": [10**6, 10**6]}),
        hostile(arch_kwargs={**given.UNET_KWARGS, "kernel_sizes": [[10**4] * 3, [3, 3, 3]]}),
        hostile(arch_kwargs={**given.UNET_KWARGS, "n_stages": 10**9}),
        hostile(arch_kwargs={**given.UNET_KWARGS, "n_conv_per_stage": [10**6, 1]}),
        hostile(arch_kwargs={**given.UNET_KWARGS, "surprise": 1}),
        hostile(network_class_name=MEDNEXT, arch_kwargs={**SMALL, "channels": 10**6}),
        hostile(network_class_name=MEDNEXT, arch_kwargs={**SMALL, "blocks": [10**6] * 9}),
        hostile(network_class_name=MEDNEXT, arch_kwargs={**SMALL, "kernel_size": 10**3}),
    ],
)
def test_a_hostile_network_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: Any, plans_json: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = open_model(given.write_folder(tmp_path / "m", plans_json=plans_json))
    with pytest.raises(ModelError) as caught:
        model.network(model.weights("0"))
    assert caught.value.message.count("\n") == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("plans.json", "{", "not valid JSON"),
        ("plans.json", "[]", "does not hold a JSON object"),
        ("plans.json", '{"a":' * 5000 + "1" + "}" * 5000, "nested"),
        ("plans.json", '{"a":' * 100 + "1" + "}" * 100, "nested"),
        ("plans.json", '{"a": 1' + "0" * 10_000 + "}", "out of range"),
        ("plans.json", '{"configurations": {}}', "no configuration"),
        ("dataset.json", "\udcff", "not UTF-8"),
        ("mednext.json", "null", "does not hold a JSON object"),
    ],
)
def test_broken_json(tmp_path: Path, name: str, text: str, words: str) -> None:
    folder = given.write_folder(tmp_path / "m")
    (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=words):
        open_model(folder)


def test_huge_json_is_not_read(tmp_path: Path) -> None:
    folder = given.write_folder(tmp_path / "m")
    with (folder / "plans.json").open("wb") as stream:
        stream.truncate(2**40)  # a sparse file
    with pytest.raises(ModelError, match="larger than 32 MiB"):
        open_model(folder)


def test_channels_and_plans_must_agree(tmp_path: Path) -> None:
    two = given.dataset(channel_names={"0": "T1", "1": "T2"})
    with pytest.raises(ModelError, match="names 2 channels"):
        open_model(given.write_folder(tmp_path / "m", dataset_json=two))


@pytest.mark.parametrize(
    ("labels", "words"),
    [({"background": 0, "a": 1}, "shape"), ({"background": 0, "a": 1, "b": 2, "c": 3}, "shape")],
)
def test_weights_of_another_number_of_labels(
    tmp_path: Path, labels: dict[str, int], words: str
) -> None:
    model = open_model(
        given.write_folder(tmp_path / "m", dataset_json=given.dataset(labels=labels))
    )
    with pytest.raises(ModelError, match=words):
        model.network(model.weights("0"))


def test_weights_of_another_network_name_the_first_difference(tmp_path: Path) -> None:
    model = open_model(given.write_folder(tmp_path / "m"))
    weights = dict(model.weights("0"))
    weights["surprise"] = weights.pop("encoder.stages.0.0.convs.0.norm.bias")
    with pytest.raises(ModelError, match=r"norm.bias' is missing and 'surprise' is unknown"):
        model.network(weights)


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    model = open_model(given.write_folder(tmp_path / "m"))
    weights = {k: v.clone() for k, v in model.weights("0").items()}
    next(iter(weights.values()))[0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        model.network(weights)


def a_written_model(folder: Path, **changes: Any) -> Model:
    from mednext_engine.networks.registry import build_network

    torch.manual_seed(1)
    network = build_network(MEDNEXT, SMALL, 2, 3)
    configuration = given.a_configuration(
        normalization_schemes=["ZScoreNormalization", "CTNormalization"],
        use_mask_for_norm=[True, False],
        architecture={"network_class_name": MEDNEXT, "arch_kwargs": SMALL},
    )
    raw = given.plans(
        {"3d_fullres": configuration},
        foreground_intensity_properties_per_channel={"0": {}, "1": given.INTENSITY},
    )
    arguments: dict[str, Any] = {
        "plan": read_plan(raw, "3d_fullres"),
        "weights": {"all": network.state_dict()},
        "labels": {"background": 0, "grey": 1, "white": 2, "ignore": 3},
        "channel_names": ["T1", "CT"],
        "card": Card(title="Größe", license="CC-BY-4.0"),
        "training": Training(mirror_axes=(0,)),
        **changes,
    }
    return write_model(folder, **arguments)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    model = a_written_model(tmp_path / "Kopf – größer", licence_text="CC-BY", readme="# Hi")
    again = open_model(model.path)
    assert again.plan == model.plan
    assert again.plan.normalization == ("ZScoreNormalization", "CTNormalization")
    assert again.plan.intensity == ({}, given.INTENSITY)
    assert again.mirror_axes == (0,)
    assert labels_table(again.labels) == {"background": 0, "grey": 1, "white": 2, "ignore": 3}
    assert (again.card.title, again.card.configuration) == ("Größe", "3d_fullres")
    assert set(again.card.files) == {
        "dataset.json",
        "plans.json",
        "fold_all/checkpoint_final.pth",
        "LICENSE",
        "README.md",
    }
    assert [p.name for p in tmp_path.iterdir()] == ["Kopf – größer"]


def test_half_precision_halves_the_file_and_keeps_the_network(tmp_path: Path) -> None:
    full, half = a_written_model(tmp_path / "full"), a_written_model(tmp_path / "half", half=True)
    sizes = [m.checkpoint_path("all").stat().st_size for m in (full, half)]
    assert sizes[1] < 0.75 * sizes[0]
    assert next(iter(half.weights("all").values())).dtype == torch.float16
    image = torch.rand(1, 2, 32, 32, 32)
    with torch.no_grad():
        results = [m.network(m.weights("all"))(image) for m in (full, half)]
    assert results[1].dtype == torch.float32
    torch.testing.assert_close(*results, atol=2e-2, rtol=2e-2)


def test_half_precision_spares_what_would_overflow(tmp_path: Path) -> None:
    model = a_written_model(tmp_path / "full")
    weights = {k: v.clone() for k, v in model.weights("all").items()}
    key = next(k for k in weights if k.endswith("bias"))
    weights[key][0] = 1e6
    half = a_written_model(tmp_path / "half", half=True, weights={"0": weights})
    assert half.weights("0")[key][0] == 1e6


def test_tied_tensors_are_stored_once(tmp_path: Path) -> None:
    """nnU-Net's decoder holds its encoder, so each of its tensors has several names."""
    source = open_model(given.write_folder(tmp_path / "m"))
    weights = source.weights("0")
    copy = write_model(
        tmp_path / "copy",
        plan=source.plan,
        weights={"0": weights},
        labels=labels_table(source.labels),
        channel_names=source.channel_names,
        card=Card(title="x"),
    )
    unique = {t.data_ptr(): t.numel() * 4 for t in weights.values()}
    size = copy.checkpoint_path("0").stat().st_size
    assert len(unique) < len(weights)
    assert size < sum(unique.values()) + 40_000


def test_an_existing_folder_is_only_replaced_on_request(tmp_path: Path) -> None:
    a_written_model(tmp_path / "m")
    (tmp_path / "m" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="exists already"):
        a_written_model(tmp_path / "m")
    assert (tmp_path / "m" / "mine.txt").exists()
    a_written_model(tmp_path / "m", overwrite=True)
    assert not (tmp_path / "m" / "mine.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_model_that_contradicts_itself_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="shape"):
        a_written_model(tmp_path / "m", labels={"background": 0, "grey": 1})
    plan = a_written_model(tmp_path / "good").plan
    one = replace(plan, normalization=("NoNormalization",), use_mask_for_norm=(False,))
    with pytest.raises(ModelError, match="names 2 channels"):
        a_written_model(tmp_path / "m", plan=one)
    assert [p.name for p in tmp_path.iterdir()] == ["good"]


def test_resources_are_where_they_are_said_to_be(tmp_path: Path, monkeypatch: Any) -> None:
    for place in ("argument", "told", "environment"):
        (tmp_path / place / "Models").mkdir(parents=True)
    monkeypatch.setenv("MEDNEXT_RESOURCES", str(tmp_path / "environment"))
    assert resource_path("Models") == tmp_path / "environment" / "Models"
    set_resources(tmp_path / "told")
    try:
        assert resource_path("Models") == tmp_path / "told" / "Models"
        argument = resource_path("Models", tmp_path / "argument")
        assert argument == tmp_path / "argument" / "Models"
        with pytest.raises(Exception, match="no folder 'Catalog'"):
            resource_path("Catalog")
    finally:
        set_resources(None)


@pytest.mark.parametrize("layout", ["clone", "wheel", "extension"])
def test_resources_are_found_wherever_the_package_lies(tmp_path: Path, layout: str) -> None:
    package = Path(sys.modules["mednext_engine"].__file__ or "").parent
    homes = {"clone": "repo/Training", "wheel": "site-packages", "extension": "qt-scripted-modules"}
    home = tmp_path / homes[layout]
    (home / "mednext_engine" / "models").mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "models/__init__.py", "models/resources.py"):
        (home / "mednext_engine" / name).write_bytes((package / name).read_bytes())
    place = {
        "clone": home.parent / "Resources" / "Catalog",
        "wheel": home / "mednext_engine" / "Resources" / "Catalog",
        "extension": home / "Resources" / "Catalog",
    }[layout]
    place.mkdir(parents=True)
    (place / "catalogue.json").write_text(json.dumps({}))
    code = "from mednext_engine.models.resources import resource_path as r; print(r('Catalog'))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=home, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()) == place.resolve()
