"""Calls to Qt: the overload is chosen by the types Slicer's list gives, then Qt does the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import shiboken6
from PySide6.QtCore import QObject, QTimer

from . import api, convert, loops, signals


class BoundMethod:
    """`label.setText`: callable with positional arguments only."""

    def __init__(self, wrapper: Any, members: api.Members, name: str) -> None:
        self._wrapper = wrapper
        self._members = members
        self.__name__ = name

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        overloads = self._members.methods[self.__name__]
        refuse_keywords(overloads, keywords)
        inner = living(self._wrapper, f"Trying to call '{self.__name__}' on")
        return invoke(inner, self._members.name, overloads, arguments)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, BoundMethod)
            and other.__name__ == self.__name__
            and other._wrapper is self._wrapper
        )

    def __hash__(self) -> int:
        return hash((self.__name__, id(self._wrapper)))


class ClassMethod:
    """`qt.QTimer.singleShot`, or `qt.QWidget.mousePressEvent(self, event)` in a derived class."""

    def __init__(self, owner: str, overloads: list[api.Method]) -> None:
        self._owner = owner
        self._overloads = overloads
        self.__name__ = overloads[0].name

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        refuse_keywords(self._overloads, keywords)
        static = [one for one in self._overloads if one.static]
        if static:
            return invoke_static(self._owner, static, arguments)
        if not arguments or not hasattr(arguments[0], "_pq_members"):
            raise TypeError(f"unbound method {self.__name__} needs an object as first argument")
        inner = living(arguments[0], f"Trying to call '{self.__name__}' on")
        found = getattr(convert.qt_class(self._owner), self.__name__)
        chosen, given = choose(self._overloads, arguments[1:], self._owner)
        del chosen
        return convert.from_qt(found(inner, *given))


class Signal:
    """`button.clicked`: connect, disconnect, emit; a call emits too."""

    def __init__(self, wrapper: Any, members: api.Members, name: str) -> None:
        self._wrapper = wrapper
        self._members = members
        self._name = name

    def connect(self, slot: Any) -> bool:
        """All overloads of the name are connected, as PythonQt does."""
        inner = living(self._wrapper, f"Trying to connect '{self._name}' of")
        done = [
            signals.connect(inner, self._members.name, signature, slot)
            for signature in self._signatures(inner)
        ]
        return any(done)

    def disconnect(self, slot: Any = None) -> bool:
        inner = living(self._wrapper, f"Trying to disconnect '{self._name}' of")
        done = [signals.disconnect(inner, one, slot) for one in self._signatures(inner)]
        return any(done)

    def emit(self, *arguments: Any) -> None:
        inner = living(self._wrapper, f"Trying to emit '{self._name}' of")
        matching = [
            signature
            for signature, name in self._members.signals.items()
            if name == self._name
            and len(api.split_types(signature.split("(", 1)[1][:-1])) == len(arguments)
            and signals.exists(inner, signature)
        ]
        if not matching:
            raise ValueError(f"Called {self._name} with wrong number of arguments: {arguments}")
        values = [convert.unwrapped(argument) for argument in arguments]
        name = signals.custom_signal(inner, matching[0])
        if name is None:
            kinds = matching[0].split("(", 1)[1][:-1]
            getattr(inner, self._name)[kinds].emit(*values)
        else:
            getattr(inner, name).emit(*values)

    def __call__(self, *arguments: Any) -> Any:
        overloads = self._members.methods.get(self._name)
        if overloads:
            inner = living(self._wrapper, f"Trying to call '{self._name}' on")
            return invoke(inner, self._members.name, overloads, arguments)
        return self.emit(*arguments)

    def _signatures(self, inner: QObject) -> list[str]:
        """The overloads, each with all its arguments.

        Raises:
            AttributeError: Slicer's Qt 5 has overloads this Qt lacks, so that the two would differ.
        """
        mine = [text for text, name in self._members.signals.items() if name == self._name]
        full = [text for text in mine if not text.endswith("()")] or mine
        there = [text for text in full if _exists(inner, text)]
        if len(there) < len(full):
            raise AttributeError(
                f"{self._members.name}.{self._name} is {len(full)} signals in Qt 5, and a slot "
                f"would get them all; connect one by its signature: {', '.join(full)}."
            )
        return there


def _exists(inner: QObject, signature: str) -> bool:
    return signals.exists(inner, signature)


def living(wrapper: Any, doing: str) -> Any:
    """The Qt object inside; ValueError when C++ has destroyed it."""
    inner = wrapper.__dict__.get("_qt")
    if inner is None or not shiboken6.isValid(inner):
        raise ValueError(f"{doing} a destroyed {type(wrapper)._pq_members.name} object")
    return inner


def refuse_keywords(overloads: Sequence[api.Method], keywords: dict[str, Any]) -> None:
    if keywords:
        raise ValueError(
            f"Called {overloads[0]} with keyword arguments, but called slot does not support "
            "kwargs."
        )


def choose(
    overloads: Sequence[api.Method], arguments: Sequence[Any], owner: str
) -> tuple[api.Method, list[Any]]:
    """The overload the arguments fit, first without conversion, then loosely."""
    fitting = [one for one in overloads if len(one.parameters) == len(arguments)]
    if not fitting:
        raise ValueError(
            f"Called {overloads[0]} with wrong number of arguments: {tuple(arguments)}"
        )
    for strict in (True, False):
        for one in fitting:
            try:
                given = [
                    convert.to_qt(value, kind, one.owner, strict)
                    for value, kind in zip(arguments, one.parameters, strict=True)
                ]
            except convert.Mismatch:
                continue
            return one, given
    offered = "; ".join(str(one) for one in overloads)
    raise ValueError(
        f"Could not find matching overload for given arguments: {tuple(arguments)}; "
        f"the following slots are available: {offered}"
    )


def invoke(
    inner: Any, class_name: str, overloads: Sequence[api.Method], arguments: Sequence[Any]
) -> Any:
    """Calls the method on the Qt object and hands its answer to Python."""
    name = overloads[0].name
    if name in ("findChild", "findChildren"):
        return _find(inner, name, arguments)
    chosen, given = choose(overloads, arguments, class_name)
    if chosen.static:
        return invoke_static(class_name, [chosen], arguments)
    if name == "deleteLater":
        return loops.delete_later(inner)
    found = getattr(inner, name, None) or getattr(inner, f"{name}_", None)
    if found is None:
        raise AttributeError(
            f"{class_name}.{name} exists in Slicer's Qt 5, but not here: it is gone in Qt 6, or "
            "the harness has no stand-in for it yet."
        )
    with loops.around(name):
        answer = found(*given)
    return convert.from_qt(_trimmed(answer, chosen))


def invoke_static(owner: str, overloads: Sequence[api.Method], arguments: Sequence[Any]) -> Any:
    chosen, given = choose(overloads, arguments, owner)
    if (owner, chosen.name) == ("QTimer", "singleShot") and len(given) == 2:
        QTimer.singleShot(given[0], signals.guarded(given[1]))
        return None
    holder = convert.qt_class(owner)
    found = getattr(holder, chosen.name, None) or getattr(holder, f"{chosen.name}_", None)
    if found is None:
        raise AttributeError(f"{owner}.{chosen.name} is gone in Qt 6: write for both.")
    with loops.around(chosen.name):
        answer = found(*given)
    return convert.from_qt(_trimmed(answer, chosen))


def _trimmed(answer: Any, chosen: api.Method) -> Any:
    """PySide6 returns what C++ hands out by reference beside the answer; PythonQt does not."""
    single = not chosen.returns.startswith(("QList", "QStringList", "QVector"))
    if isinstance(answer, tuple) and (single or isinstance(answer[0], list)):
        return answer[0]
    if chosen.returns == "void":
        return None
    return answer


def _find(inner: QObject, name: str, arguments: Sequence[Any]) -> Any:
    kind = arguments[0]
    label = arguments[1] if len(arguments) > 1 else ""
    class_name = kind if isinstance(kind, str) else kind._pq_members.name
    wanted = convert.qt_class(class_name) or QObject
    if name == "findChild":
        found = inner.findChild(wanted, label) if label else inner.findChild(wanted)
        return convert.from_qt(found)
    found_all = inner.findChildren(wanted, label) if label else inner.findChildren(wanted)
    return convert.from_qt(list(found_all))


def construct(wrapper: Any, members: api.Members, arguments: Sequence[Any]) -> None:
    """Makes the Qt object of a wrapper; of a derived class if Python overrides virtuals."""
    from . import binding, derived  # the three need each other

    if not members.constructors:
        raise ValueError(f"No constructors available for {members.name}")
    given = choose(members.constructors, arguments, members.name)[1]
    while given and given[-1] is None:
        given.pop()
    own = type(wrapper)
    base = convert.qt_class(members.name)
    if base is None:
        raise AttributeError(f"{members.name} has no stand-in in the harness yet.")
    if own is own._wrapped_class():
        wrapper.__dict__["_qt"] = base(*given)
    else:
        inner = derived.derived_class(own, base)(*given)
        inner._pq_derived = wrapper
        wrapper.__dict__["_qt"] = inner
    binding.remember(wrapper)
