"""`mednext evaluate`: label maps against references."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import EngineError
from . import exits
from .exits import UsageError
from .show import Display, table


def add(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="compare label maps with references: Dice, surface Dice, HD95",
        description="Compares label maps with references, by label. Two files, or two folders "
        "with files of the same names.",
    )
    parser.add_argument("prediction", type=Path, metavar="PREDICTION")
    parser.add_argument("reference", type=Path, metavar="REFERENCE")
    parser.add_argument(
        "--tolerance", type=float, default=1.0, metavar="MM",
        help="of the surface Dice (default: 1 mm)",
    )  # fmt: skip
    parser.add_argument("--labels", metavar="1,2,...", help="only these (default: all there are)")
    parser.add_argument("--ignore", type=int, metavar="VALUE", help="reference value that says "
                        "unknown: such voxels do not count")  # fmt: skip
    parser.add_argument("--model", metavar="ID", help="take the names of the labels from a model")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write all scores there")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from ..evaluation.compare import Row, pair_cases, score_case, summarise, write_csv

    labels = _labels(args.labels)
    names = _names(args.model)
    display = Display(args.json)
    pairs = pair_cases(args.prediction, args.reference)
    rows: list[Row] = []
    failed: list[str] = []
    for case, prediction, reference in pairs:
        try:
            own = score_case(
                prediction,
                reference,
                case=case,
                labels=labels,
                names=names,
                ignore=args.ignore,
                tolerance=args.tolerance,
            )
        except EngineError as error:
            if len(pairs) == 1 or error.code == "dependency":
                raise
            display.error(error, case)
            failed.append(case)
            continue
        rows.extend(own)
        if args.json:
            for row in own:
                display.emit("result", **row.cells())
    if args.csv:
        write_csv(args.csv, rows)
    summaries = [one.cells() for one in summarise(rows)]
    if args.json:
        display.emit("summary", labels=summaries, tolerance_mm=args.tolerance, failed=failed)
    else:
        surface = f"surface Dice at {args.tolerance:g} mm"
        header = ("label", "name", "cases", "missed", "Dice", surface, "HD95 mm")
        print(table(header, [tuple(one.values()) for one in summaries]))
        print(f"\n{len(pairs) - len(failed)} of {len(pairs)} cases compared.")
    return exits.SOME_FAILED if failed else exits.OK


def _labels(said: str | None) -> list[int] | None:
    if said is None:
        return None
    try:
        return [int(one) for one in said.split(",")]
    except ValueError:
        raise UsageError(f"--labels is a list of whole numbers, not {said!r}.") from None


def _names(model: str | None) -> dict[int, str]:
    if model is None:
        return {}
    from ..models.store import find_model

    return {entry.value: entry.name for entry in find_model(model).card.labels}
