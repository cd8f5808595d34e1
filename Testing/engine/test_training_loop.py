import csv
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_fixtures import short_recipe, sphere_case, sphere_task, stored_case, tiny_network

from mednext_engine.errors import Cancelled, InputError, OutputError, ResourceError
from mednext_engine.training import Control, Phase, SegmentationTask, load_weights, train
from mednext_engine.training import loop as loop_module
from mednext_engine.training import state as state_module
from mednext_engine.training.errors import TrainingError
from mednext_engine.training.stepper import Stepper

pytest.importorskip("batchgeneratorsv2")


@pytest.fixture(autouse=True)
def one_thread():
    own = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(own)
    assert not [t for t in threading.enumerate() if t.name.startswith("augmentation")]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def cancel_after(control, steps):
    def count(report):
        if report.step == steps:
            control.monitor.cancel()

    control.on_step = count
    return control


def test_a_tiny_network_learns_a_sphere(tmp_path):
    recipe = short_recipe(60, phases=(Phase("all", 60, 5, 1e-2),), steps_per_epoch=20, threads=2)
    reports = []
    outcome = train(
        tiny_network(channels=4),
        sphere_task(tmp_path, 3),
        recipe,
        tmp_path / "run",
        Control(on_epoch=reports.append),
    )
    best = max(r.dice["ball"] for r in reports)
    assert best > 0.9
    assert reports[outcome.best_epoch - 1].dice["ball"] == best
    assert (outcome.reason, outcome.steps, outcome.epochs) == ("finished", 60, 3)
    assert outcome.skipped == 0
    assert reports[-1].train_loss < reports[0].train_loss
    assert reports[-1].memory_bytes > 0
    rows = list(csv.DictReader((tmp_path / "run" / "curves.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["Dice ball"]) == pytest.approx(reports[-1].dice["ball"], abs=1e-5)
    assert "<polyline" in (tmp_path / "run" / "curves.svg").read_text()
    assert equal(load_weights(tmp_path / "run" / "checkpoint_best.pth"), outcome.best_weights)


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    task, recipe = sphere_task(tmp_path), short_recipe(7, phases=(Phase("all", 7, 2, 1e-2),))
    whole = train(tiny_network(), task, recipe, tmp_path / "whole", Control())
    run = tmp_path / "parts"
    for steps in (3, 4):  # once within an epoch, once where a validation is due
        control = cancel_after(Control(), steps)
        with pytest.raises(Cancelled):
            train(tiny_network(), task, recipe, run, control, resume=True)
    # Another network to begin with, and more threads: what counts is in the checkpoint.
    twin = tiny_network()
    torch.nn.init.zeros_(next(twin.parameters()))
    parts = train(twin, task, replace(recipe, threads=3), run, Control(), resume=True)
    assert equal(whole.last_weights, parts.last_weights)
    assert equal(whole.best_weights, parts.best_weights)
    assert whole.best_epoch == parts.best_epoch
    same = [(r.epoch, r.train_loss, r.validation_loss, r.dice, r.best) for r in whole.curves]
    assert same == [
        (r.epoch, r.train_loss, r.validation_loss, r.dice, r.best) for r in parts.curves
    ]


def test_a_run_is_resumed_with_its_own_settings_only(tmp_path):
    task, recipe = sphere_task(tmp_path), short_recipe(2)
    train(tiny_network(), task, recipe, tmp_path / "run", Control())
    with pytest.raises(InputError, match="another seed"):
        train(tiny_network(), task, replace(recipe, seed=1), tmp_path / "run", Control(), True)
    with pytest.raises(InputError, match="another network"):
        train(tiny_network(channels=3), task, recipe, tmp_path / "run", Control(), True)


def test_stop_keeps_the_best(tmp_path):
    control = Control()
    control.on_step = lambda report: control.stop.set() if report.step == 5 else None
    outcome = train(
        tiny_network(), sphere_task(tmp_path), short_recipe(50), tmp_path / "r", control
    )
    assert (outcome.reason, outcome.steps, outcome.epochs) == ("stopped", 5, 2)
    assert 1 <= outcome.best_epoch <= 2


def test_stop_before_the_first_epoch_is_judged_all_the_same(tmp_path):
    control = Control()
    control.on_step = lambda report: control.stop.set()
    recipe = short_recipe(50, steps_per_epoch=10)
    outcome = train(tiny_network(), sphere_task(tmp_path), recipe, tmp_path / "run", control)
    assert (outcome.steps, outcome.best_epoch) == (1, 1)
    assert equal(outcome.best_weights, outcome.last_weights)


def test_cancelling_leaves_a_step_in_its_middle(tmp_path):
    control, calls = Control(), []
    network = tiny_network()

    def late(module, inputs, output):
        calls.append(1)
        if len(calls) == 3:
            control.monitor.cancel()

    network.decoder.stages[0].register_forward_hook(late)
    with pytest.raises(Cancelled):
        train(network, sphere_task(tmp_path), short_recipe(20), tmp_path / "run", control)
    stored = torch.load(tmp_path / "run" / "checkpoint_latest.pth", weights_only=True)
    assert stored["progress"]["step"] == 2
    assert all(p.grad is None for p in network.parameters())


def test_the_frozen_encoder_has_no_gradient_and_does_not_change(tmp_path):
    phases = (
        Phase("decoder", 2, 0, 1e-2, trains="decoder"),
        Phase("stem", 2, 0, 1e-2, trains="decoder+stem"),
        Phase("all", 2, 0, 1e-2),
    )
    network, seen = tiny_network(), []
    start = {k: v.clone() for k, v in network.state_dict().items()}

    def look(report):
        changed = {
            k.split(".")[0] + ("." + k.split(".")[1] if "stem" in k else "")
            for k, v in network.state_dict().items()
            if not torch.equal(v, start[k])
        }
        graph = network.encoder(torch.zeros(1, 1, 16, 16, 16))[0].requires_grad
        seen.append((changed, graph))

    recipe = short_recipe(6, phases=phases)
    train(network, sphere_task(tmp_path), recipe, tmp_path / "run", Control(on_epoch=look))
    assert seen[0] == ({"decoder"}, False)
    assert seen[1] == ({"decoder", "encoder.stem"}, True)
    assert seen[2] == ({"decoder", "encoder.stem", "encoder"}, True)


class FailingTask(SegmentationTask):
    """Some steps have a loss that is no number."""

    bad: tuple[int, ...] = ()

    def loss(self, network, batch):
        calls = self.__dict__.setdefault("_calls", [])
        calls.append(1)
        loss = super().loss(network, batch)
        return loss * float("nan") if len(calls) in self.bad else loss


def test_steps_without_a_loss_are_left_out_and_counted(tmp_path):
    task = sphere_task(tmp_path)
    failing = FailingTask(task.train_cases, task.validation_cases, 2, ("ball",))
    object.__setattr__(failing, "bad", (2,))
    losses, control = [], Control()
    control.on_step = lambda report: losses.append(report.loss)
    outcome = train(tiny_network(), failing, short_recipe(4), tmp_path / "run", control)
    assert outcome.skipped == 1
    assert [np.isfinite(v) for v in losses] == [True, False, True, True]
    assert any("no number" in note for note in control.monitor.notes)
    assert all(torch.isfinite(v).all() for v in outcome.last_weights.values())


def test_many_steps_without_a_loss_end_the_run_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "MOST_SKIPPED", 3)
    task = sphere_task(tmp_path)
    failing = FailingTask(task.train_cases, task.validation_cases, 2, ("ball",))
    object.__setattr__(failing, "bad", (1, 2, 3, 4))
    with pytest.raises(TrainingError, match="3 steps in a row"):
        train(tiny_network(), failing, short_recipe(9), tmp_path / "run", Control())


def test_a_plateau_ends_the_run_after_the_warm_up(tmp_path):
    phases = (Phase("all", 40, 6, 1e-9),)  # learns nothing
    recipe = short_recipe(40, phases=phases, patience_epochs=2)
    outcome = train(tiny_network(), sphere_task(tmp_path), recipe, tmp_path / "run", Control())
    assert outcome.reason == "plateau"
    assert outcome.epochs >= 5  # three epochs of warm-up and two of patience
    assert outcome.epochs < 20


def test_without_validation_the_latest_weights_are_the_best(tmp_path):
    task = replace(sphere_task(tmp_path), validation_cases=())
    outcome = train(tiny_network(), task, short_recipe(4), tmp_path / "run", Control())
    assert outcome.best_epoch == outcome.epochs == 2
    assert outcome.curves[0].validation_loss is None
    assert equal(outcome.best_weights, outcome.last_weights)


def test_sparse_annotation_is_learnt_and_judged_where_it_is(tmp_path):
    train_case = sphere_case(tmp_path, "t", 0, annotated_slices=slice(None, None, 4))
    held_out = sphere_case(tmp_path, "v", 0, annotated_slices=slice(2, None, 4))
    task = SegmentationTask((train_case,), (held_out,), 2, ("ball",))
    recipe = short_recipe(60, phases=(Phase("all", 60, 5, 1e-2),), steps_per_epoch=30)
    outcome = train(tiny_network(channels=4), task, recipe, tmp_path / "run", Control())
    assert outcome.curves[-1].dice["ball"] > 0.85


def test_regions_train(tmp_path):
    task = replace(sphere_task(tmp_path), num_classes=1, regions=((1,),))
    outcome = train(tiny_network(1), task, short_recipe(2), tmp_path / "run", Control())
    assert set(outcome.curves[0].dice) == {"ball"}


def test_too_little_memory_is_met_by_checkpointing_then_batch_then_patch(tmp_path, monkeypatch):
    sizes = []
    step = Stepper.step

    def scarce(self, task, batch, rate, weight):
        kinds = {m.checkpointing for m in self.network.modules() if hasattr(m, "checkpointing")}
        sizes.append((kinds, batch[0].shape[0], batch[0].shape[2:].numel()))
        if batch[0].shape[2:].numel() > 32 * 32 * 48:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(self, task, batch, rate, weight)

    monkeypatch.setattr(Stepper, "step", scarce)
    recipe, control = short_recipe(2, patch_size=(32, 48, 48)), Control()
    outcome = train(tiny_network(), sphere_task(tmp_path), recipe, tmp_path / "run", control)
    assert outcome.steps == 2
    whole = 32 * 48 * 48
    assert sizes == [
        ({None}, 2, whole),
        ({None, "expansion"}, 2, whole),
        ({"expansion"}, 2, whole),
        ({"block"}, 2, whole),
        ({"block"}, 1, whole),
        ({"block"}, 1, 32 * 32 * 48),
        ({"block"}, 1, 32 * 32 * 48),
    ]
    assert "The patch is 32 x 32 x 48" in control.monitor.notes[-1]


def test_no_memory_at_all_is_said_in_a_sentence(tmp_path, monkeypatch):
    def none_left(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Stepper, "step", none_left)
    with pytest.raises(ResourceError, match="memory"):
        train(tiny_network(), sphere_task(tmp_path), short_recipe(2), tmp_path / "run", Control())


def test_a_full_disk_is_said_and_the_checkpoint_before_stays(tmp_path, monkeypatch):
    task, run = sphere_task(tmp_path), tmp_path / "run"
    control = cancel_after(Control(), 1)
    with pytest.raises(Cancelled):
        train(tiny_network(), task, short_recipe(4), run, control)
    before = (run / "checkpoint_latest.pth").read_bytes()

    def full(content, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        train(tiny_network(), task, short_recipe(4), run, Control(), resume=True)
    assert (run / "checkpoint_latest.pth").read_bytes() == before
    assert not [p for p in run.iterdir() if p.name.startswith(".")]


def test_a_case_that_vanishes_in_mid_run_is_named(tmp_path):
    task = sphere_task(tmp_path, 1)
    control = Control(on_step=lambda report: task.train_cases[0].data.unlink(missing_ok=True))
    with pytest.raises(InputError, match="'train0'"):
        train(tiny_network(), task, short_recipe(20), tmp_path / "run", control)


def test_a_damaged_checkpoint_is_said(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / state_module.LATEST).write_bytes(b"not a checkpoint")
    from mednext_engine.errors import ModelError

    with pytest.raises(ModelError, match="cannot be read"):
        train(tiny_network(), sphere_task(tmp_path), short_recipe(2), run, Control(), resume=True)


def test_checkpoints_are_written_as_often_as_agreed(tmp_path):
    run, seen = tmp_path / "run", []
    recipe = short_recipe(4, checkpoint_seconds=0.0, steps_per_epoch=10)

    def look(report):
        path = run / "checkpoint_latest.pth"
        if path.is_file():
            seen.append(torch.load(path, weights_only=True)["progress"]["step"])

    train(tiny_network(), sphere_task(tmp_path), recipe, run, Control(on_step=look))
    assert seen == [1, 2, 3]


def test_bfloat16_trains_on_a_cpu(tmp_path):
    # oneDNN's bfloat16 gradient of a depthwise kernel is at times no number over a single voxel.
    recipe = short_recipe(2, precision="bf16", patch_size=(32, 32, 32))
    outcome = train(tiny_network(), sphere_task(tmp_path), recipe, tmp_path / "run", Control())
    assert outcome.skipped == 0
    assert all(v.dtype == torch.float32 for v in outcome.last_weights.values())


def test_a_cancel_is_heard_within_two_seconds(tmp_path):
    control = Control()
    threading.Timer(1.0, control.monitor.cancel).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        train(tiny_network(), sphere_task(tmp_path), short_recipe(10**6), tmp_path / "r", control)
    assert time.monotonic() - began < 6  # of which the first is the timer's; the machine is shared


def test_arrays_that_do_not_belong_together_are_refused(tmp_path):
    case = stored_case(tmp_path, "odd", np.zeros((1, 8, 8, 8), "f4"), np.zeros((8, 8), np.int16))
    task = SegmentationTask((case,), (), 2, ("ball",))
    with pytest.raises(InputError, match="'odd'"):
        train(tiny_network(), task, short_recipe(2), tmp_path / "run", Control())
