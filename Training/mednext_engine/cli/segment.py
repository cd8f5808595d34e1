"""`mednext segment`: one volume, or a folder of them."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, EngineError, InputError, OutputError, ResourceError
from ..monitor import Monitor
from . import exits
from .cases import WRITABLE, Case, Share, find_cases, find_share, is_complete, suffix
from .exits import UsageError
from .interrupt import Interrupt
from .outcome import draw, show_result, show_summary
from .show import Display

if TYPE_CHECKING:
    from ..inference.options import Box, Options
    from ..models.folder import Model

PATIENCE = 1.5
"""Seconds that the running case gets to stop after Ctrl-C; a layer of a network takes longer."""

EPILOG = """\
one volume:
  mednext segment head.nii.gz labels.nii.gz
  mednext segment dicom_folder/ labels.nii.gz
  mednext segment t1.nii.gz labels.nii.gz --channel t2.nii.gz --model two_channels

a folder of volumes (channels of a case as nnU-Net names them: case_0000, case_0001), or of DICOM
folders; what is done already is skipped, a bad case does not stop the rest:
  mednext segment images/ results/

more than one process: each does its share of the cases, and skips what is done
  torchrun --nproc-per-node 4 -m mednext_engine.cli segment images/ results/
  sbatch --array=0-7 --wrap "mednext segment images/ results/"
  CUDA_VISIBLE_DEVICES=1 mednext segment images/ results/ --part 2/2
"""


def add(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "segment",
        help="segment a volume, a DICOM folder or a folder of volumes",
        description="Segments volumes; the result has the grid of the image.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="IN", type=Path, help="image, DICOM folder or folder")
    parser.add_argument("output", metavar="OUT", type=Path, help="label map, or folder for results")
    parser.add_argument("--model", metavar="ID", help="installed model, or path of a model folder")
    parser.add_argument(
        "--channel", metavar="FILE", type=Path, action="append", default=[], dest="channels",
        help="a further channel of the image, in the model's order; may be repeated",
    )  # fmt: skip
    _add_choices(parser)
    _add_results(parser)
    parser.add_argument("--part", metavar="K/N", help="do the K-th of N shares of the cases")
    parser.add_argument("--overwrite", action="store_true", help="also do what is done already")
    parser.add_argument("--quiet", action="store_true", help="no progress, only results and errors")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")
    parser.set_defaults(run=run)


def _add_choices(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    add("--backend", default="auto", help="of the network on a CPU: auto, torch or openvino")
    add("--precision", default="auto", help="auto, float32, bfloat16 or float16")
    add("--threads", type=int, metavar="N", help="CPU threads of the network (default: all cores)")
    add("--memory", type=float, metavar="GIB", help="use at most this much (default: what is free)")
    add("--folds", metavar="0,1,...", help="folds of the model to average (default: all)")
    add("--mirror", action="store_true", help="average over mirrored copies: up to 8 times slower")
    add("--step", type=float, default=0.5, metavar="SHARE",
        help="distance of neighbouring tiles as a share of their size (default: 0.5)")  # fmt: skip
    add("--roi", metavar="BOX", type=parse_box, help="segment only this box: voxel:I,J,K:I,J,K "
        "(half-open), or ras:R,A,S:R,A,S or lps:... in mm")  # fmt: skip


def _add_results(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--format", default=".nii.gz", metavar="SUFFIX",
        help=f"of results in a folder: {', '.join(WRITABLE)} (default: .nii.gz)")  # fmt: skip
    add("--uncertainty", action="store_true", help="also write OUT_uncertainty: entropy, 0 to 1")
    add(
        "--probabilities",
        action="store_true",
        help="also write OUT_probabilities.npz",
    )
    add("--picture", metavar="PNG", type=Path, help="also draw the labels over the image")


@dataclass
class Job:
    """What all cases of one command share."""

    model: Model
    options: Options
    segmenter: Any
    display: Display
    picture: Path | None


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    display = Display(args.json, args.quiet)
    model = _model(args.model)
    cases, batch = find_cases(
        args.input, args.output, len(model.channel_names), args.channels, _form(args.format)
    )
    _check_results(args, cases, batch)
    share = find_share(args.part) if batch else Share()
    with Interrupt(PATIENCE) as interrupt:
        job = _prepare(args, model, display)
        if batch:
            return _run_batch(job, cases, share, args.overwrite, interrupt)
        monitor = interrupt.guard(Monitor(report=display.progress))
        try:
            _make_folder(cases[0].output.parent)
            segment_case(job, cases[0], monitor)
        except Cancelled as error:
            display.error(error)
            return interrupt.exit_code
    return exits.OK


def segment_case(job: Job, case: Case, monitor: Monitor) -> None:
    """Segments one case, writes and shows what came out."""
    if case.problem:
        raise InputError(case.problem)
    from ..inference.engine import segment_file

    job.display.begin(case.name)
    try:
        result = segment_file(
            list(case.inputs),
            case.output,
            job.model,
            job.options,
            monitor,
            segmenter=job.segmenter,
            uncertainty_path=case.uncertainty if job.options.uncertainty else None,
            probabilities_path=case.probabilities if job.options.probabilities else None,
        )
        if job.picture is not None:
            with monitor.stage("Drawing", 0.99, 1.0):
                draw(job.model, case, result.labels, job.picture)
    finally:
        job.display.end()
    show_result(job.display, job.model, case, result)


def _run_batch(
    job: Job, cases: Sequence[Case], share: Share, overwrite: bool, interrupt: Interrupt
) -> int:
    mine = share.of(cases)
    if share.total > 1:
        job.display.note(
            f"Share {share.index + 1} of {share.total}: {len(mine)} of {len(cases)} cases."
        )
    _make_folder(cases[0].output.parent)
    failed: list[str] = []
    done = skipped = 0
    started = time.monotonic()
    for case in mine:
        if interrupt.happened:
            break
        if not overwrite and is_complete(case.output, _further(job.options, case)):
            skipped += 1
            continue
        monitor = interrupt.guard(Monitor(report=job.display.progress))
        try:
            segment_case(job, case, monitor)
            done += 1
        except Cancelled:
            break
        except EngineError as error:
            job.display.error(error, case.name)
            failed.append(case.name)
        except MemoryError:
            job.display.error(ResourceError("The memory does not suffice."), case.name)
            failed.append(case.name)
    left = len(mine) - done - skipped - len(failed)
    show_summary(job.display, done, skipped, failed, left, time.monotonic() - started)
    if interrupt.happened:
        return interrupt.exit_code
    return exits.SOME_FAILED if failed else exits.OK


def _prepare(args: argparse.Namespace, model: Model, display: Display) -> Job:
    """Builds the options and the segmenter."""
    from ..inference.devices import require_runtime

    require_runtime()
    from ..inference.engine import Segmenter
    from ..inference.options import Options

    options = Options(
        device=args.device,
        step=args.step,
        mirror=args.mirror,
        folds=tuple(args.folds.split(",")) if args.folds else None,
        precision=args.precision,
        backend=args.backend,
        roi=args.roi,
        probabilities=args.probabilities,
        uncertainty=args.uncertainty,
        threads=args.threads,
        largest_memory=round(args.memory * 2**30) if args.memory else None,
    )
    options = _own_device(options)
    return Job(model, options, Segmenter(model), display, args.picture)


def _own_device(options: Options) -> Options:
    """Gives each of torchrun's processes on one machine a graphics card or cores of its own."""
    rank, size = os.environ.get("LOCAL_RANK", ""), os.environ.get("LOCAL_WORLD_SIZE", "")
    if not (rank.isdigit() and size.isdigit() and int(size) > 1):
        return options
    from ..inference.devices import list_devices

    cards = [one["name"] for one in list_devices() if one["name"].startswith("cuda")]
    if options.device in ("auto", "cuda") and cards:
        return replace(options, device=cards[int(rank) % len(cards)])
    if options.threads is None:
        return replace(options, threads=max(1, (os.cpu_count() or 1) // int(size)))
    return options


def _model(wanted: str | None) -> Model:
    from ..models.resources import resource_path
    from ..models.store import find_model

    if wanted is not None:
        return find_model(wanted)
    try:
        shipped = sorted(p.parent.name for p in resource_path("Models").glob("*/plans.json"))
    except EngineError:
        shipped = []
    if len(shipped) != 1:
        raise UsageError("No model was chosen.", "Say which one: --model; see mednext models list.")
    return find_model(shipped[0])


def _check_results(args: argparse.Namespace, cases: Sequence[Case], batch: bool) -> None:
    if batch and args.picture:
        raise UsageError("--picture draws one volume, not a folder of them.")
    if args.picture and args.picture.suffix.lower() != ".png":
        raise UsageError(f"A picture is written as PNG, so {args.picture.name} must end in .png.")
    if suffix(cases[0].output) not in WRITABLE:
        raise UsageError(f"{cases[0].output.name} must end in one of {', '.join(WRITABLE)}.")


def _form(said: str) -> str:
    form = said if said.startswith(".") else f".{said}"
    if form not in WRITABLE:
        raise UsageError(f"--format is one of {', '.join(WRITABLE)}.")
    return form


def parse_box(text: str) -> Box:
    """A box as in `ras:-40,-20,0:40,60,80`; "voxel" where no space is named."""
    from ..inference.options import Box

    space, *corners = text.split(":") if text.count(":") == 2 else ("voxel", *text.split(":"))
    try:
        low, high = (tuple(float(n) for n in corner.split(",")) for corner in corners)
        return Box(low, high, space)  # type: ignore[arg-type]
    except (ValueError, InputError) as error:
        reason = f" {error}" if isinstance(error, InputError) else ""
        raise argparse.ArgumentTypeError(
            f"a box is SPACE:LOW:HIGH such as ras:-40,-20,0:40,60,80.{reason}"
        ) from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The folder {folder} cannot be made: {error.strerror}.", "Choose another one."
        ) from None


def _further(options: Options, case: Case) -> list[Path]:
    wanted = ((options.uncertainty, case.uncertainty), (options.probabilities, case.probabilities))
    return [path for asked, path in wanted if asked]
