"""`mednext models`: list, look at, import, export, download, remove and verify models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import Cancelled
from ..monitor import Monitor
from . import exits
from .exits import UsageError
from .interrupt import Interrupt
from .show import Display, dump, gigabytes, table


def add(commands: Any) -> None:
    """Adds the commands to the parser."""
    parser = commands.add_parser("models", help="list, import, export, download, remove, verify")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, action: Any, summary: str) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = verbs.add_parser(name, help=summary, description=summary)
        one.add_argument("--json", action="store_true", help="JSON, for machines")
        one.set_defaults(run=action)
        return one

    one = verb("list", list_, "installed models")
    one.add_argument("--catalogue", action="store_true", help="those that can be downloaded")
    verb("info", info, "all about one model").add_argument("model", metavar="ID")
    one = verb("import", import_, "install a model from a folder or a zip")
    one.add_argument("path", type=Path, metavar="PATH")
    one.add_argument("--name", help="id to install it under")
    one.add_argument("--configuration", help="which one, where the folder holds several")
    one.add_argument("--replace", action="store_true", help="replace a model of the same id")
    one = verb("export", export, "write a model to one zip")
    one.add_argument("model", metavar="ID")
    one.add_argument("path", type=Path, metavar="ZIP")
    one = verb("download", download, "download a model of the catalogue")
    one.add_argument("model", metavar="ID")
    one.add_argument("--replace", action="store_true", help="replace a model of the same id")
    one = verb("remove", remove, "delete an installed model from this computer")
    one.add_argument("model", metavar="ID")
    one.add_argument("--yes", action="store_true", help="do not ask")
    verb("verify", verify, "compare a model's files with their checksums").add_argument(
        "model", metavar="ID"
    )


def list_(args: argparse.Namespace) -> int:
    if args.catalogue:
        return _list_catalogue(args)
    from ..jobs.inventory import installed_models

    found = installed_models()
    if args.json:
        print(dump(found))
        return exits.OK
    rows = [
        (m["id"], m["title"], m["modality"], len(m["channels"]), len(m["labels"]),
         "yours" if m["removable"] else "shipped")
        for m in found["models"]
    ]  # fmt: skip
    print(table(("id", "title", "modality", "channels", "labels", "source"), rows))
    for problem in found["problems"]:
        print(f"not usable: {problem}")
    print(f"\nYour models are in {found['directory']}")
    return exits.OK


def _list_catalogue(args: argparse.Namespace) -> int:
    from ..jobs.inventory import catalogue_entries

    entries = catalogue_entries()
    if args.json:
        print(dump({"entries": entries}))
        return exits.OK
    rows = [
        (e["id"], e["title"], e["modality"], _size(e["size"]),
         e["license"], "installed" if e["installed"] else "")
        for e in entries
    ]  # fmt: skip
    print(table(("id", "title", "modality", "size", "licence", ""), rows))
    return exits.OK


def info(args: argparse.Namespace) -> int:
    from ..models.store import describe, find_model

    model = find_model(args.model)
    described = describe(model)
    if args.json:
        print(dump({**described, "card": model.card.to_json()}))
        return exits.OK
    for key, value in described.items():
        if key == "labels" or value in ("", []):
            continue
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        print(f"{key.replace('_', ' '):<13} {shown}")
    print()
    rows = [(x["value"], x["name"], "#{:02x}{:02x}{:02x}".format(*x["color"]))
            for x in described["labels"]]  # fmt: skip
    print(table(("label", "name", "colour"), rows))
    return exits.OK


def import_(args: argparse.Namespace) -> int:
    from ..models.store import import_model

    def work(monitor: Monitor) -> Any:
        return import_model(
            args.path,
            monitor,
            configuration=args.configuration,
            name=args.name,
            replace_existing=args.replace,
        )

    return _install(args, str(args.path), work)


def download(args: argparse.Namespace) -> int:
    from ..models.catalogue import download_model, find_entry

    entry = find_entry(args.model)
    return _install(
        args,
        entry.id,
        lambda monitor: download_model(entry, monitor, replace_existing=args.replace),
    )


def export(args: argparse.Namespace) -> int:
    from ..models.store import export_model, find_model

    model = find_model(args.model)

    def finish(display: Display, path: Any) -> None:
        display.result(f"{model.id} -> {path}", model=model.id, path=str(path))

    return _watched(args, model.id, lambda m: export_model(model, args.path, m), finish)


def remove(args: argparse.Namespace) -> int:
    import sys

    from ..models.store import find_model, remove_model

    model = find_model(args.model)
    if not args.yes:
        if not sys.stdin.isatty():
            raise UsageError("Removing a model needs --yes where nobody can be asked.")
        answer = input(f"Delete {model.id} ({model.path}) from this computer? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            return exits.OK
    remove_model(model)
    Display(args.json).result(f"{model.id} was removed.", removed=model.id)
    return exits.OK


def verify(args: argparse.Namespace) -> int:
    from ..models.store import find_model, verify_model

    model = find_model(args.model)
    problems: list[str] = []

    def finish(display: Display, found: Any) -> None:
        problems.extend(found.problems)
        text = "\n".join(problems) or f"{model.id} is sound: {found.checked} files compared."
        display.result(text, model=model.id, checked=found.checked, problems=problems)

    code = _watched(args, model.id, lambda m: verify_model(model, m), finish)
    return exits.SOME_FAILED if problems else code


def _install(args: argparse.Namespace, name: str, work: Any) -> int:
    def finish(display: Display, model: Any) -> None:
        display.result(
            f"{model.id} is installed: {model.card.title}", model=model.id, path=str(model.path)
        )

    return _watched(args, name, work, finish)


def _watched(args: argparse.Namespace, name: str, work: Any, finish: Any) -> int:
    """Does `work` with progress and Ctrl-C, then shows what it gave."""
    display = Display(args.json)
    with Interrupt() as interrupt:
        monitor = interrupt.guard(Monitor(report=display.progress))
        display.begin(Path(name).name)
        try:
            value = work(monitor)
        except Cancelled as error:
            display.end()
            display.error(error)
            return interrupt.exit_code
        finally:
            display.end()
    finish(display, value)
    return exits.OK


def _size(count: int | None) -> str:
    return gigabytes(count) if count else ""
