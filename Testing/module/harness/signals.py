"""Connections by PythonQt's rules: fewer arguments are fine, unknown signals only answer False."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable
from functools import cache
from typing import Any

import shiboken6
from PySide6.QtCore import SIGNAL, QMetaObject, QObject, Signal

from . import api, convert

slot_errors: list[BaseException] = []
"""What slots raised. PythonQt prints it and goes on; the tests look here."""

_connections: dict[int, list[_Connection]] = {}


class _Connection:
    """One signal of one object to one callable, which is kept alive by it."""

    def __init__(self, sender: QObject, signature: str, slot: Callable[..., Any]) -> None:
        self.signature = signature
        self.slot = slot
        relay = guarded(slot)
        name = custom_signal(sender, signature)
        if name is None:
            self._handle = QObject.connect(sender, SIGNAL(signature), relay)
            self._undo = lambda: QObject.disconnect(self._handle)
        else:
            getattr(sender, name).connect(relay)
            self._undo = lambda: getattr(sender, name).disconnect(relay)

    def cut(self) -> None:
        self._undo()


def guarded(slot: Callable[..., Any]) -> Callable[..., None]:
    """Calls `slot` with as many arguments as it takes; what it raises is printed and kept."""
    takes = _argument_count(slot)

    def relay(*arguments: Any) -> None:
        given = [convert.from_qt(argument) for argument in arguments]
        try:
            slot(*(given if takes is None else given[:takes]))
        except SystemExit:
            raise
        except BaseException as error:
            slot_errors.append(error)
            traceback.print_exc(file=sys.stderr)

    return relay


def _argument_count(slot: Callable[..., Any]) -> int | None:
    """Positional arguments of a Python function or method; None: pass them all."""
    function = slot.__func__ if inspect.ismethod(slot) else slot
    if not inspect.isfunction(function) or function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return int(function.__code__.co_argcount) - (1 if inspect.ismethod(slot) else 0)


def custom_signal(sender: QObject, signature: str) -> str | None:
    """Name of the Python signal that stands for `signature`; None when C++ has it itself."""
    if sender.metaObject().indexOfSignal(signature) >= 0:
        return None
    name = signature.split("(")[0]
    names = getattr(sender, "SIGNALS", {})
    return names.get(signature, name)


def connect(sender: QObject, owner: str, signature: str, slot: Callable[..., Any]) -> bool:
    """Connects; False and a line on stderr when `owner` has no such signal."""
    wanted = normalized(signature)
    known = {normalized(text) for text in api.members(owner).signals}
    if wanted not in known or not exists(sender, wanted):
        print(f"QObject::connect: No such signal {owner}::{signature}", file=sys.stderr)
        return False
    if not callable(slot):
        print(f"QObject::connect: {slot!r} cannot be called", file=sys.stderr)
        return False
    kept = _connections_of(sender)
    kept.append(_Connection(sender, wanted, slot))
    return True


def exists(sender: QObject, signature: str) -> bool:
    """Whether this Qt has the signal, or a stand-in has a Python signal for it.

    A name alone is not enough: Qt 6 lost overloads of signals whose name it kept.
    """
    name = custom_signal(sender, signature)
    known = signature in getattr(sender, "SIGNALS", {})
    return name is None or known or name in _python_signals(type(sender))


@cache
def _python_signals(kind: type) -> frozenset[str]:
    return frozenset(
        name
        for base in kind.__mro__
        if not base.__module__.startswith("PySide6")
        for name, value in base.__dict__.items()
        if isinstance(value, Signal)
    )


def disconnect(sender: QObject, signature: str | None, slot: Callable[..., Any] | None) -> bool:
    """Cuts what matches; False when nothing did."""
    kept = _connections.get(_key(sender), [])
    wanted = None if signature is None else normalized(signature)
    matching = [
        one
        for one in kept
        if wanted in (None, one.signature) and (slot is None or one.slot == slot)
    ]
    for one in matching:
        one.cut()
        kept.remove(one)
    return bool(matching)


def connection_count(sender: QObject) -> int:
    """Connections to Python that `sender` holds: tests see with it what was left behind."""
    return len(_connections.get(_key(sender), []))


def normalized(signature: str) -> str:
    text = bytes(QMetaObject.normalizedSignature(signature).data()).decode()
    return text.removeprefix("2")  # as Qt's SIGNAL() macro marks it


def _key(sender: QObject) -> int:
    return int(shiboken6.getCppPointer(sender)[0])


def _connections_of(sender: QObject) -> list[_Connection]:
    key = _key(sender)
    if key not in _connections:
        _connections[key] = []
        QObject.connect(sender, SIGNAL("destroyed()"), lambda: _connections.pop(key, None))
    return _connections[key]
