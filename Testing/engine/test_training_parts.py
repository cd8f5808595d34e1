import csv
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from training_fixtures import short_recipe, sphere_case, sphere_task, tiny_network

from mednext_engine.errors import DependencyError, ResourceError
from mednext_engine.training import Control, EpochReport, SegmentationTask, train
from mednext_engine.training import requirements as requirements_module
from mednext_engine.training.curves import write_curves
from mednext_engine.training.device import choose_device, choose_precision, out_of_memory
from mednext_engine.training.distributed import Group
from mednext_engine.training.segmentation import PatchSampler
from mednext_engine.training.stepper import Stepper


def test_naming_the_training_loads_no_torch():
    code = (
        "import sys, mednext_engine.training as t; t.Recipe, t.Phase, t.TrainingCase, t.Control;"
        "import mednext_engine.training.requirements; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_batchgeneratorsv2_the_reason_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "batchgeneratorsv2.transforms.spatial.spatial", None)
    with pytest.raises(DependencyError, match="batchgeneratorsv2"):
        PatchSampler((sphere_case(tmp_path, "a", 0),), short_recipe())
    PatchSampler((sphere_case(tmp_path, "a", 0),), short_recipe(augment=False))


def test_nothing_but_the_named_requirements_is_imported(tmp_path):
    pytest.importorskip("batchgeneratorsv2")
    named = set(requirements_module.MODULES.values())
    assert {name for name, _ in requirements_module.WITHOUT_DEPENDENCIES} == set(
        requirements_module.MODULES
    )
    code = (
        "import sys, torch, numpy\n"
        "named = set(sys.argv[1:])\n"
        "class Only:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        root = name.split('.')[0]\n"
        "        heavy = {'batchgenerators', 'skimage', 'sklearn', 'matplotlib', 'acvl_utils',\n"
        "                 'numexpr', 'bottleneck', 'pyarrow', 'PIL', 'nnunetv2', 'torchvision'}\n"
        "        if root in heavy - named: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Only())\n"
        "from mednext_engine.training.augmentation import Augmentation\n"
        "Augmentation((16, 16, 16), (0,))\n"
    )
    subprocess.run([sys.executable, "-c", code, *named], check=True)


def test_what_is_missing_is_listed_with_its_versions(monkeypatch):
    assert requirements_module.missing() == []
    monkeypatch.setitem(requirements_module.MODULES, "scipy", "no_such_module_here")
    assert requirements_module.missing() == ["scipy>=1.11.4,<2"]
    # Without pandas, what it may need is asked for too, before it.
    monkeypatch.setitem(requirements_module.MODULES, "pandas", "no_such_module_here")
    monkeypatch.setitem(requirements_module.MODULES, "pytz", "no_such_module_here")
    listed = requirements_module.missing()
    assert listed.index("pytz>=2023.3") < listed.index("pandas>=2.2.2,<3")


def report(epoch, dice, loss):
    return EpochReport(epoch, 3, 10 * epoch, 0.5 / epoch, loss, dice, 1e-3, None, 0, epoch == 2)


def test_curves_are_a_table_and_a_picture(tmp_path):
    rows = [report(1, {"a<b": 0.2}, 0.4), report(2, {"a<b": 0.6, "late": 0.1}, None)]
    write_curves(tmp_path, rows)
    table = list(csv.DictReader((tmp_path / "curves.csv").open()))
    assert table[0]["Dice a<b"] == "0.2"
    assert table[0]["Dice late"] == ""
    assert table[1]["validation_loss"] == ""
    assert [row["best"] for row in table] == ["0", "1"]
    root = ElementTree.parse(tmp_path / "curves.svg").getroot()
    lines = [e for e in root if e.tag.endswith("polyline")]
    assert len(lines) == 4
    assert any(e.text == "a<b" for e in root)
    # Dice 0.2 and 0.6 of the first class: 260 pixels high, from 30 on.
    points = [p.split(",") for p in lines[2].get("points").split()]
    assert [float(y) for _, y in points] == [pytest.approx(238), pytest.approx(134)]


def test_devices_that_are_not_there_are_refused():
    assert choose_device("cpu") == torch.device("cpu")
    for name in ("nonsense", "cuda:99"):
        with pytest.raises(ResourceError, match=name):
            choose_device(name)


def test_a_cpu_computes_in_full_precision_unless_told_otherwise():
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu) == "fp32"
    assert choose_precision("fp16", cpu) == "fp32"
    assert choose_precision("bf16", cpu) == "bf16"


def test_errors_of_memory_are_told_from_others():
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not out_of_memory(RuntimeError("sizes do not match"))
    assert not out_of_memory(ValueError("out of memory"))


def test_nnunets_networks_train_too(tmp_path):
    pytest.importorskip("dynamic_network_architectures")
    pytest.importorskip("batchgeneratorsv2")
    from mednext_engine.networks.registry import build_network
    from mednext_engine.training import Phase

    network = build_network(
        "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        {
            "n_stages": 3,
            "features_per_stage": [2, 4, 8],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * 3,
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            "n_conv_per_stage": [1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"affine": True},
            "nonlin": "torch.nn.LeakyReLU",
        },
        1,
        2,
        True,
    )
    phases = (Phase("decoder", 1, 0, 1e-3, trains="decoder"), Phase("all", 1, 0, 1e-3))
    encoder = network.encoder.state_dict()
    before = {k: v.clone() for k, v in encoder.items()}
    unchanged = []

    def look(_):
        unchanged.append(all(torch.equal(encoder[k], v) for k, v in before.items()))

    recipe = short_recipe(phases=phases, steps_per_epoch=1)
    train(network, sphere_task(tmp_path), recipe, tmp_path / "run", Control(on_epoch=look))
    assert unchanged == [True, False]


def test_deep_supervision_weighs_outputs_by_hand():
    # Two of three outputs count: 2/3 of the finest, 1/3 of the next, nothing of the coarsest.
    task = SegmentationTask((), (), 2, ("a",))
    labels = torch.from_numpy(np.indices((4, 4, 4))[0] // 2).to(torch.int16)[None]
    outputs = [torch.zeros(1, 2, n, n, n, requires_grad=True) for n in (4, 2, 1)]
    parts = []
    for logits in outputs[:2]:
        n = logits.shape[-1] ** 3
        # p = 1/2 everywhere: cross-entropy log 2, Dice 2 (n/4) / (n/2 + n/2).
        parts.append(np.log(2) - (n / 2 + 1e-5) / (n + 1e-5))
    loss = task.loss(lambda image: outputs, (torch.zeros(1, 1, 4, 4, 4), labels))
    assert loss.item() == pytest.approx(2 / 3 * parts[0] + 1 / 3 * parts[1], abs=1e-6)
    loss.backward()
    assert outputs[2].grad is None


def test_what_is_new_learns_at_a_rate_of_its_own(tmp_path):
    recipe = short_recipe(optimizer="sgd", fresh=("decoder.heads.",), fresh_factor=10.0)
    network = tiny_network()
    stepper = Stepper(network, recipe, Group(torch.device("cpu")), lambda: None)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for group in stepper.optimizer.param_groups:
        group["weight_decay"] = group["momentum"] = 0.0
        group["nesterov"] = False
    task = sphere_task(tmp_path)
    batch = (torch.randn(1, 1, 16, 16, 16), torch.ones(1, 16, 16, 16, dtype=torch.int16))
    stepper.step(task, batch, 1e-3, 1.0)
    moved = {
        name: float((p.detach() - before[name]).norm() / p.grad.norm())
        for name, p in network.named_parameters()
        if p.grad is not None and float(p.grad.norm()) > 1e-6
    }
    heads = [v for name, v in moved.items() if name.startswith("decoder.heads.")]
    others = [v for name, v in moved.items() if not name.startswith("decoder.heads.")]
    assert heads == pytest.approx([1e-2] * len(heads), rel=1e-3)
    assert others == pytest.approx([1e-3] * len(others), rel=2e-2)
