"""`mednext networks` and `mednext doctor`."""

from __future__ import annotations

import argparse
from typing import Any

from . import exits
from .show import dump, gigabytes, table


def add(commands: Any) -> None:
    """Adds the commands to the parser."""
    parser = commands.add_parser(
        "networks",
        help="every network with its parameters and multiply-accumulates",
        description="Networks for 1 input channel, 3 classes, 128 x 128 x 128 voxels, without the "
        "heads of deep supervision; multiply-accumulates of convolutions.",
    )
    parser.add_argument("--json", action="store_true", help="a list of objects, for machines")
    parser.set_defaults(run=networks)
    parser = commands.add_parser(
        "doctor", help="versions, devices, memory, what is missing and what to do"
    )
    parser.add_argument("--json", action="store_true", help="one object, for machines")
    parser.set_defaults(run=doctor)


def networks(args: argparse.Namespace) -> int:
    from ..networks.flops import count_all

    rows = [dict(one) for one in count_all()]
    if args.json:
        print(dump(rows, indent=1))
        return exits.OK
    keys = ("key", "name", "kernel_size", "parameters")
    shown = [(*(r[key] for key in keys), float(r["gmacs"])) for r in rows]
    print(table(("name", "network", "kernel", "parameters", "GMAC at 128^3"), shown))
    return exits.OK


def doctor(args: argparse.Namespace) -> int:
    from ..jobs.doctor import examine
    from ..jobs.logs import log_directory

    found = examine(devices=True, log=str(log_directory() / "worker.log"))
    code = exits.OK if found["usable"] else exits.DEPENDENCY
    if args.json:
        print(dump(found))
        return code
    print(f"MedNeXtSeg engine {found['engine']}, Python {found['python']}, {found['platform']}")
    print(f"CPU      {found['cpu']}, {found['cores']} cores")
    if "memory_total" in found:
        total, free = gigabytes(found["memory_total"]), gigabytes(found["memory_free"])
        print(f"memory   {total}, {free} free")
    for device in found.get("devices", []):
        total, free = gigabytes(device["total"]), gigabytes(device["free"])
        print(f"device   {device['name']}, {device['title']}, {total}, {free} free")
    if "models_free" in found:
        print(f"models   {found['models_directory']}, {gigabytes(found['models_free'])} free")
    print(f"log      {found['log']}\n")
    rows = [
        (p["name"], p["version"] or "missing", "" if p["required"] else "optional", p["hint"])
        for p in found["packages"]
    ]
    print(table(("package", "version", "", "to install"), rows))
    print()
    for problem in found["problems"]:
        print(f"problem: {problem}")
    print("Segment can run." if found["usable"] else "Segment cannot run yet.")
    return code
