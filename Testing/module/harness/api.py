"""What real Slicer's Python offers for a class, from the committed extract.

`slicer_api_extract.json` is cut by `tools/extract_slicer_api.py` out of a list that was read off
the running application (3D Slicer 5.13, Qt 5.15). The harness refuses every name not in it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

EXTRACT = Path(__file__).with_name("slicer_api_extract.json")
_TWO_WORDS = {"unsigned int", "long long", "unsigned long", "unsigned char", "unsigned short"}
_METHOD = re.compile(r"^(static )?(\w+)\((.*)\)(?: -> (.*))?$")


@dataclass(frozen=True)
class Method:
    """One overload: `parameters` are the names of C++ types, as PythonQt shows them."""

    name: str
    parameters: tuple[str, ...]
    returns: str
    static: bool
    owner: str

    def __str__(self) -> str:
        return f"{self.name}({','.join(self.parameters)}) -> {self.returns}"


@dataclass
class Members:
    """All a class offers, its bases included."""

    name: str
    bases: tuple[str, ...]
    module: str
    qobject: bool
    properties: dict[str, str] = field(default_factory=dict)
    methods: dict[str, list[Method]] = field(default_factory=dict)
    signals: dict[str, str] = field(default_factory=dict)  # signature -> name
    enums: dict[str, dict[str, int]] = field(default_factory=dict)
    constructors: list[Method] = field(default_factory=list)

    @cached_property
    def signal_names(self) -> frozenset[str]:
        return frozenset(self.signals.values())

    def enum_value(self, name: str) -> tuple[str, int] | None:
        """Enumeration and number of an enumerator; the enumeration, not its set of flags."""
        found = [enum for enum, values in self.enums.items() if name in values]
        if not found:
            return None
        single = [one for one in found if one.endswith("Flag")] or sorted(found, key=len)
        return single[0], self.enums[single[0]][name]


@cache
def extract() -> dict[str, Any]:
    """The committed extract as it lies in the file."""
    loaded: dict[str, Any] = json.loads(EXTRACT.read_text(encoding="utf-8"))
    return loaded


def known(name: str) -> bool:
    return name in extract()["classes"]


@cache
def members(name: str) -> Members:
    """Everything `name` offers; a base's method is added below the class's own overloads."""
    raw = extract()["classes"][name]
    base = raw["base"]
    if base and known(base):
        above = members(base)
        result = Members(
            name,
            (base, *above.bases),
            raw["module"],
            raw["qobject"],
            dict(above.properties),
            {key: list(value) for key, value in above.methods.items()},
            dict(above.signals),
            dict(above.enums),
        )
    else:
        result = Members(name, (), raw["module"], raw["qobject"])
    result.properties.update(raw["properties"])
    result.enums.update(raw["enums"])
    for signature in raw["signals"]:
        result.signals[signature] = signature.split("(")[0]
    own: dict[str, list[Method]] = {}
    for text in raw["methods"]:
        method = parse_method(text, name)
        own.setdefault(method.name, []).append(method)
    for key, overloads in own.items():
        result.methods[key] = overloads + result.methods.get(key, [])
    result.constructors = [parse_method(text, name) for text in raw["constructors"]]
    return result


def parse_method(text: str, owner: str) -> Method:
    """Reads `static singleShot(int msec, PyObject callable) -> void`."""
    match = _METHOD.match(text)
    if match is None:
        raise ValueError(f"This line of the list cannot be read: {text}")
    static, name, parameters, returns = match.groups()
    types = tuple(_type_of(part) for part in split_types(parameters))
    return Method(name, types, returns or "void", bool(static), owner)


def split_types(text: str) -> list[str]:
    """Parts between commas that are not inside `<>`."""
    parts, depth, current = [], 0, ""
    for letter in text:
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += letter
    if current.strip():
        parts.append(current.strip())
    return parts


def _type_of(part: str) -> str:
    words = part.replace("const ", "").strip()
    if words in _TWO_WORDS or " " not in words:
        return words.rstrip("&* ")
    kind, last = words.rsplit(" ", 1)
    return kind.rstrip("&* ") if re.fullmatch(r"[&*]?\w+", last) else words
