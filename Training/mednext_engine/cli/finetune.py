"""`mednext finetune`: a data set, or a job folder, becomes a model."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, InputError
from ..monitor import Monitor
from . import exits
from .exits import UsageError
from .interrupt import Interrupt
from .show import Display, gigabytes, seconds, table

if TYPE_CHECKING:
    from ..finetuning.job import Annotated, Job
    from ..finetuning.run import Finished
    from ..finetuning.survey import Survey
    from ..training.control import EpochReport

DEFAULT_BASE = "BrainTissueMR"
SCRATCH = "none"
NEVER = 10**6  # epochs
PATIENCE = 600.0  # seconds that further processes wait for the first to write the job folder
EPILOG = """\
what DATASET may be:
  images/NAME.nii.gz with labels/NAME.nii.gz, or NAME.nii.gz with NAME_seg.nii.gz
  an nnU-Net raw data set (imagesTr, labelsTr, dataset.json)
  a job folder, as 3D Slicer's panel or an earlier run of this command made it

what is drawn only in part:
  --annotated slices     only on some slices; what is between them is unknown, not background
  --empty-beyond         and nothing lies beyond the first and the last of these slices
  --annotated painted    value 0 is unknown everywhere, and one label is the background

a run that was stopped or killed goes on where it was:
  mednext finetune DATASET --name "My model" --resume

several graphics cards or computers share one training (see docs/fine-tuning.md):
  torchrun --nproc-per-node 4 -m mednext_engine.cli finetune DATASET --batch 8
"""


def add(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "finetune",
        help="train a model on your own labels, starting from one that is installed",
        description="Fine-tunes a model on labelled volumes. The result is installed like any "
        "other model; nothing leaves this computer.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("data", metavar="DATASET", type=Path, help="data set, or job folder")
    add("--base", metavar="MODEL", default=DEFAULT_BASE,
        help=f"installed model or model folder to start from, or '{SCRATCH}' for a new network "
        f"(default: {DEFAULT_BASE})")  # fmt: skip
    add("--name", metavar="TITLE", help="of the new model (default: the folder's name)")
    add("--preset", choices=("quick", "standard", "thorough"), default="standard")
    add(
        "--annotated",
        choices=("everything", "slices", "painted"),
        default="everything",
        help="what of the volumes is drawn (default: everything)",
    )
    add(
        "--empty-beyond",
        action="store_true",
        help="with --annotated slices: every structure is drawn from end to end, so that beyond "
        "the first and the last slice, further than the widest gap between two, is background",
    )
    add("--channels", metavar="A,B,...", help="names of the image's channels")
    _add_settings(parser)
    add("--job", metavar="FOLDER", type=Path, help="where the run keeps what it needs")
    add("--out", metavar="FOLDER", type=Path, help="the model's folder, instead of installing it")
    add("--resume", action="store_true", help="go on with a run that was interrupted")
    add("--check-only", action="store_true", help="only say what is wrong, and what it would take")
    add("--quiet", action="store_true", help="no progress, only results and errors")
    add("--json", action="store_true", help="one JSON object a line, for machines")
    parser.set_defaults(run=run)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--steps", type=int, metavar="N", help="instead of the preset's")
    add("--transfer", choices=("whole", "encoder", "scratch"), default="whole",
        help="what is kept of the base model: all, its encoder, or only its plan")  # fmt: skip
    add("--network", metavar="NAME",
        help="with --base none: a network of `mednext networks`, such as v2-base-k3 (default: a "
        "small one that this device can train)")  # fmt: skip
    add("--upkern", action="store_true", help="enlarge the base's kernels from 3 to 5 voxels")
    add("--spacing", metavar="MM", default="base",
        help="base, own (the volumes' median), or Z,Y,X in mm (default: base)")  # fmt: skip
    add("--patch", metavar="Z,Y,X", help="voxels of a patch (default: the base's)")
    add("--batch", type=int, metavar="N", help="patches a step")
    add("--context", type=float, default=1.0, metavar="FACTOR", help="enlarge the patch by this")
    add("--no-mirror", action="store_true", help="never mirror, whatever the labels are")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    add("--checkpointing", choices=("auto", "block", "expansion"), default="auto",
        help="gradient checkpointing: less memory, more time")  # fmt: skip
    add("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    add("--seed", type=int, default=0, metavar="N")
    add("--preview-every", type=int, default=5, metavar="EPOCHS", help="0: never (default: 5)")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    first = int(os.environ.get("RANK", "0")) == 0
    display = Display(args.json and first, args.quiet or not first)
    with Interrupt() as interrupt:
        monitor = interrupt.guard(Monitor(report=display.progress if first else lambda _: None))
        job = _job(args, first)
        display.begin(job.name)
        try:
            if args.check_only:
                return _check(job, display, monitor)
            _train(args, job, display, monitor)
        except Cancelled as error:
            display.end()
            display.error(
                Cancelled(error.message, f"Go on with: mednext finetune {job.folder} --resume")
            )
            return interrupt.exit_code
        finally:
            display.end()
    return exits.OK


# ---- the job ---------------------------------------------------------------------------------


def _job(args: argparse.Namespace, first: bool) -> Job:
    """The job folder that is meant, made of the data set where there is none yet."""
    from ..finetuning.job import read_job

    if (args.data / "job.json").is_file():
        return read_job(args.data.resolve())
    if not args.data.is_dir():
        raise InputError(f"There is no folder {args.data}.")
    folder = _job_folder(args)
    if not first:
        deadline = time.monotonic() + PATIENCE
        while not (folder / "job.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.2)
        return read_job(folder)
    there = (folder / "job.json").is_file()
    if there and args.resume:
        return read_job(folder)
    if args.resume:
        raise InputError(
            f"There is no run to go on with in {folder}.", "Give its --name, --job or job folder."
        )
    if there and not args.check_only:
        from ..finetuning.runs import describe_run

        state = describe_run(folder)["state"]
        if state in ("running", "interrupted"):
            raise UsageError(
                f"{folder} holds a run that is {state}.",
                "Go on with --resume, or give this one another --name or --job.",
            )
    return _new_job(args, folder)


def _job_folder(args: argparse.Namespace) -> Path:
    if args.job is not None:
        return Path(args.job).resolve()
    from ..finetuning.runs import runs_directory
    from ..models.importing import safe_identifier

    return runs_directory() / safe_identifier(_title(args))


def _new_job(args: argparse.Namespace, folder: Path) -> Job:
    from ..finetuning.sources import job_from_data

    return job_from_data(
        args.data.resolve(),
        folder,
        name=_title(args),
        base=None if args.base.lower() == SCRATCH else args.base,
        preset=args.preset,
        options=_options(args),
        annotated=_annotated(args),
        channels=args.channels.split(",") if args.channels else None,
    )


def _annotated(args: argparse.Namespace) -> Annotated:
    from ..finetuning.job import Annotated

    if args.empty_beyond and args.annotated != "slices":
        raise UsageError("--empty-beyond belongs to --annotated slices.")
    return Annotated(args.annotated, beyond=args.empty_beyond)


def _title(args: argparse.Namespace) -> str:
    return str(args.name or args.data.resolve().name or "Model")


def _options(args: argparse.Namespace) -> Any:
    from ..finetuning.options import read_options
    from ..finetuning.reading import as_input_error

    with as_input_error():
        return read_options(_as_json(args))


def _as_json(args: argparse.Namespace) -> dict[str, Any]:
    """The settings as a `job.json` has them."""
    spacing = args.spacing
    if "," in spacing:
        spacing = _numbers(spacing, float, "--spacing")
    return {
        "device": args.device,
        "transfer": args.transfer,
        "network": args.network,
        "upkern": args.upkern,
        "spacing": spacing,
        "patch": _numbers(args.patch, int, "--patch") if args.patch else None,
        "batch": args.batch,
        "steps": args.steps,
        "mirror": False if args.no_mirror else "auto",
        "precision": args.precision,
        "checkpointing": args.checkpointing,
        "context": args.context,
        "seed": args.seed,
        "threads": args.threads,
        "preview_every": args.preview_every or NEVER,
    }


def _numbers(text: str, kind: type, option: str) -> list[Any]:
    try:
        values = [kind(one) for one in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        raise UsageError(f"{option} is three numbers Z,Y,X, not {text!r}.")
    return values


# ---- what is done ----------------------------------------------------------------------------


def _check(job: Job, display: Display, monitor: Monitor) -> int:
    from ..finetuning.survey import survey

    found = survey(job, monitor)
    display.end()
    _show_check(display, found)
    return exits.OK if found.report.can_start else exits.INPUT


def _train(args: argparse.Namespace, job: Job, display: Display, monitor: Monitor) -> None:
    from ..finetuning.preview import PreviewReport
    from ..finetuning.run import News, finetune

    def on_epoch(report: EpochReport) -> None:
        if args.json:
            display.emit("epoch", case=job.name, **vars(report))
        else:
            display.note(_epoch_line(report))

    def on_resumed(reports: Sequence[EpochReport]) -> None:
        if args.json:
            for report in reports:
                on_epoch(report)
        elif reports:
            display.note(f"goes on after: {_epoch_line(replace(reports[-1], seconds_left=None))}")

    def on_preview(report: PreviewReport) -> None:
        if args.json:
            display.emit("preview", **{**vars(report), "path": str(report.path)})

    news = News(on_epoch, on_resumed, on_preview)
    made = finetune(job.folder, monitor, resume=args.resume, news=news, out=args.out)
    display.end()
    if made is not None:
        _show_result(display, made)


def _epoch_line(report: EpochReport) -> str:
    parts = [f"epoch {report.epoch} of {report.epochs}", f"loss {report.train_loss:.3f}"]
    if report.validation_loss is not None:
        parts.append(f"held out {report.validation_loss:.3f}")
    if report.dice:
        mean = sum(report.dice.values()) / len(report.dice)
        parts.append(f"Dice {mean:.3f}" + (" (best)" if report.best else ""))
    if report.seconds_left is not None:
        parts.append(f"{seconds(report.seconds_left)} left")
    return ", ".join(parts)


def _show_check(display: Display, found: Survey) -> None:
    report, estimate = found.report, found.estimate
    if display.machine:
        display.emit(
            "result",
            problems=[vars(problem) for problem in report.problems],
            labels=[vars(state) for state in report.labels],
            validation=report.validation,
            estimate={**vars(estimate), "steps": found.recipe.steps},
            can_start=report.can_start,
        )
        return
    lines = []
    for one in report.problems:
        where = f"{one.case}: " if one.case else ""
        lines.append(f"{one.level}: {where}{one.message} {one.hint}".rstrip())
    rows = [(state.name, state.state, state.base or "") for state in report.labels]
    lines += ["", table(("label", "", "in the base model"), rows), ""]
    patch = " x ".join(map(str, found.recipe.patch_size))
    lines.append(
        f"{found.recipe.steps} steps of {found.recipe.batch_size} patches of {patch} voxels on "
        f"{estimate.device}, {gigabytes(estimate.memory_bytes or 0)} of memory, "
        f"{gigabytes(estimate.disk_bytes or 0)} of disk"
        + (f", about {seconds(estimate.seconds)}." if estimate.seconds else ".")
    )
    lines.append("It can start." if report.can_start else "It cannot start like this.")
    display.result("\n".join(line for line in lines if line is not None))


def _show_result(display: Display, made: Finished) -> None:
    rows = [(row["label"], row["before"], row["after"]) for row in made.before_after]
    text = [
        f"{made.model.card.title} -> {made.model.path}",
        *table(("label", "Dice before", "Dice after"), rows).splitlines(),
        made.held_out,
    ]
    display.result(
        "\n  ".join(text),
        model=made.model.id,
        path=str(made.model.path),
        before_after=made.before_after,
        held_out=made.held_out,
        reason=made.reason,
        notes=made.notes,
        seconds=round(made.seconds, 1),
    )
