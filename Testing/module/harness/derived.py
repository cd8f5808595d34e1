"""Classes that Python code derives from Qt's: virtual methods they override are called by Qt."""

from __future__ import annotations

import traceback
from functools import cache
from typing import Any

from . import api, convert, signals


@cache
def derived_class(own: type, base: type) -> type:
    """A class of Qt whose virtual methods call what `own` overrides."""
    members = own._pq_members  # type: ignore[attr-defined]
    body: dict[str, Any] = {"STANDS_FOR": members.name}
    names = {
        name
        for part in own.__mro__
        if "_pq_members" not in part.__dict__ and not hasattr(object, part.__name__)
        for name in part.__dict__
    }
    for name in names:
        if name in members.methods or name in members.properties:
            body[name] = _forward(name, base, members)
    return type(own.__name__, (base,), body)


def _forward(name: str, base: type, members: api.Members) -> Any:
    overloads = members.methods.get(name)
    returns = overloads[0].returns if overloads else members.properties[name].split(" ")[0]

    def forward(self: Any, *arguments: Any) -> Any:
        wrapper = getattr(self, "_pq_derived", None)
        method = None if wrapper is None else _override(wrapper, name)
        if method is None:
            return getattr(base, name)(self, *arguments)
        try:
            answer = method(*[convert.from_qt(argument) for argument in arguments])
        except Exception as error:
            signals.slot_errors.append(error)
            traceback.print_exc()
            return getattr(base, name)(self, *arguments)
        if returns == "void" or answer is None:
            return None
        return convert.to_qt(answer, returns, members.name, False)

    return forward


def _override(wrapper: Any, name: str) -> Any:
    for part in type(wrapper).__mro__:
        if "_pq_members" in part.__dict__:
            return None
        if name in part.__dict__:
            return part.__dict__[name].__get__(wrapper)
    return None
