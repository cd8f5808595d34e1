"""The command line: `mednext segment | finetune | models | evaluate | networks | doctor`.

Nothing heavy is imported before a command needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from .. import __version__
from ..errors import Cancelled, DependencyError, EngineError, ResourceError
from . import evaluate, exits, finetune, inform, models, segment
from .show import Display

__all__ = ["main"]

DEBUG = "MEDNEXT_DEBUG"


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    parser = argparse.ArgumentParser(
        prog="mednext",
        description="Segments medical volumes with MedNeXt and nnU-Net v2 models, and fine-tunes "
        "them. Everything stays on this computer.",
        epilog=f"exit codes:\n{exits.described()}\n\nenvironment:\n"
        "  MEDNEXT_MODELS     where your models are\n"
        "  MEDNEXT_RUNS       where fine-tunings keep what they need\n"
        "  MEDNEXT_RESOURCES  where Models, Catalog and SampleData of the product are\n"
        f"  {DEBUG}      show where in the program an error arose\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mednext {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for part in (segment, finetune, models, evaluate, inform):
        part.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code (see `exits`)."""
    # OpenVINO reports usage to its maker where it finds this package; without it, it uses a stub.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait sleep: see the worker
    args = build_parser().parse_args(arguments)
    try:
        return int(args.run(args))
    except (KeyboardInterrupt, Cancelled):
        sys.stderr.write("\nStopped.\n")
        return exits.INTERRUPTED
    except BrokenPipeError:  # whoever read our output, such as `head`, has enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the interpreter's last flush
        return exits.OK
    except Exception as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        return _fail(error, bool(getattr(args, "json", False)))


def _fail(error: Exception, machine: bool) -> int:
    known: EngineError
    if isinstance(error, EngineError):
        known = error
    elif isinstance(error, MemoryError):
        known = ResourceError(
            "The memory of this computer does not suffice.",
            "Close other programs, or segment a region of interest.",
        )
    elif isinstance(error, ImportError) and not (error.name or "").startswith("mednext_engine"):
        known = DependencyError(
            f"A package that is needed cannot be imported: {error.name or error}.",
            "See mednext doctor.",
        )
    else:
        known = EngineError(
            f"mednext failed in a way it does not know ({type(error).__name__}: {error}).",
            f"Please report it with what it shows when {DEBUG}=1 is set.",
        )
    Display(machine).error(known)
    return exits.of_error(known)
