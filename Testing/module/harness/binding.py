"""Objects that behave like PythonQt's wrappers, over real Qt objects.

A property is an attribute and hides the method of its name; a name that real Slicer does not
offer for the class raises AttributeError; keyword arguments raise ValueError. What is offered
comes from the extract (api.py), what happens is Qt's own doing (PySide6).
"""

from __future__ import annotations

import keyword
import weakref
from functools import cache
from typing import Any

import shiboken6
from PySide6.QtCore import QObject

from . import api, calls, convert, signals

_wrappers: weakref.WeakValueDictionary[int, PythonQtInstanceWrapper] = weakref.WeakValueDictionary()


class PythonQtClassWrapper(type):
    """The class of `qt.QLabel` and its like: enumerators and static methods are found on it."""

    _pq_members: api.Members

    def __getattr__(cls, name: str) -> Any:
        members = cls.__dict__.get("_pq_members")
        if members is None:
            for base in cls.__mro__[1:]:
                if "_pq_members" in base.__dict__:
                    return getattr(base, name)
            raise AttributeError(name)
        found = members.enum_value(name)
        if found is not None:
            return getattr(_enum_type(members.name, found[0]), name)
        if name in members.enums:
            return _enum_type(members.name, name)
        overloads = members.methods.get(_plain(name))
        if overloads:
            return calls.ClassMethod(members.name, overloads)
        raise AttributeError(f"type object '{members.name}' has no attribute '{name}'")


@cache
def _enum_type(owner: str, name: str) -> type:
    values = api.members(owner).enums[name]
    made = type(name, (convert.EnumValue,), {})
    for key, value in values.items():
        setattr(made, key, made(value, name, key))
    return made


def _plain(name: str) -> str:
    """`exec_` and `print_` are `exec` and `print` to Qt."""
    short = name.removesuffix("_")
    return (
        short
        if name != short and (keyword.iskeyword(short) or short in ("exec", "print"))
        else name
    )


class PythonQtInstanceWrapper(metaclass=PythonQtClassWrapper):
    """One Qt object in the hands of Python."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        members = type(self)._wrapped_class()._pq_members
        if keywords:
            raise ValueError(f"{members.name}: keyword arguments are not supported.")
        calls.construct(self, members, arguments)

    @classmethod
    def _wrapped_class(cls) -> Any:
        """The class of Qt itself, below what Python code derived from it."""
        return next(base for base in cls.__mro__ if "_pq_members" in base.__dict__)

    def __getattr__(self, name: str) -> Any:
        members = type(self)._pq_members
        inner = self.__dict__.get("_qt")
        if inner is None:
            raise AttributeError(f"{members.name}.__init__ was not called before '{name}'")
        if name in members.properties or (name == "name" and members.qobject):
            return self._read("objectName" if name == "name" else name)
        plain = _plain(name)
        if members.qobject and plain in members.signal_names:
            return calls.Signal(self, members, plain)
        if plain in members.methods:
            return calls.BoundMethod(self, members, plain)
        if name in members.enums or members.enum_value(name) is not None:
            return getattr(type(self)._wrapped_class(), name)
        if _has_dynamic_property(members, inner, name):
            return convert.from_qt(inner.property(name))
        raise AttributeError(f"{members.name} has no attribute named '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        members = type(self)._pq_members
        if name in members.properties:
            self._write(members, name, value)
            return
        inner = self.__dict__.get("_qt")
        if _has_dynamic_property(members, inner, name):
            inner.setProperty(name, convert.to_qt(value, "QVariant", members.name, False))
            return
        if type(self) is type(self)._wrapped_class():
            raise AttributeError(
                f"'{name}' does not exist on {members.name} and creating new attributes on C++ "
                "objects is not allowed"
            )
        object.__setattr__(self, name, value)

    def _read(self, name: str) -> Any:
        class_name = type(self)._pq_members.name
        inner = calls.living(self, f"Trying to read property '{name}' from")
        if inner.metaObject().indexOfProperty(name) < 0:
            raise AttributeError(
                f"{class_name}.{name} is a property in Qt 5, not in Qt 6: write for both."
            )
        return convert.from_qt(inner.property(name))

    def _write(self, members: api.Members, name: str, value: Any) -> None:
        inner = calls.living(self, f"Trying to set property '{name}' on")
        kind = members.properties[name]
        if kind.endswith("(read-only)"):
            raise AttributeError(f"Property '{name}' of type '{kind}' is not writable")
        if inner.metaObject().indexOfProperty(name) < 0:
            raise AttributeError(
                f"{members.name}.{name} is a property in Qt 5, not in Qt 6: write for both."
            )
        try:
            converted = convert.to_qt(value, kind, members.name, False)
        except convert.Mismatch:
            raise AttributeError(
                f"Property '{name}' of type '{kind}' does not accept an object of type "
                f"{type(value).__name__} ({value!r})"
            ) from None
        inner.setProperty(name, converted)

    def connect(self, *arguments: Any) -> bool:
        inner = calls.living(self, "Trying to call 'connect' on")
        if len(arguments) == 2:
            return signals.connect(inner, type(self)._pq_members.name, *arguments)
        if len(arguments) == 3 and isinstance(arguments[0], str):
            signature, receiver, slot = arguments
            return signals.connect(
                inner, type(self)._pq_members.name, signature, getattr(receiver, slot.split("(")[0])
            )
        raise ValueError(f"Could not find matching overload of connect for {arguments}")

    def disconnect(self, signature: str | None = None, slot: Any = None) -> bool:
        inner = calls.living(self, "Trying to call 'disconnect' on")
        return signals.disconnect(inner, signature, slot)

    def className(self) -> str:
        return type(self)._pq_members.name

    def inherits(self, name: str) -> bool:
        members = type(self)._pq_members
        return name in (members.name, *members.bases)

    def delete(self) -> None:
        inner = calls.living(self, "Trying to delete")
        shiboken6.delete(inner)

    def __bool__(self) -> bool:
        inner = self.__dict__.get("_qt")
        return inner is not None and shiboken6.isValid(inner)

    def __eq__(self, other: object) -> bool:
        if other is None:
            return not self
        if not isinstance(other, PythonQtInstanceWrapper):
            return (
                _as_plain(self) == other if type(self)._pq_members.name == "QByteArray" else False
            )
        mine, theirs = self.__dict__.get("_qt"), other.__dict__.get("_qt")
        if mine is theirs:
            return True
        if not self or not other:
            return False
        if shiboken6.getCppPointer(mine)[0] == shiboken6.getCppPointer(theirs)[0]:
            return True
        by_value = not isinstance(mine, QObject) and "__eq__" in type(self)._pq_members.methods
        return bool(by_value and mine == theirs)

    def __hash__(self) -> int:
        return hash(id(self.__dict__.get("_qt")))

    def __repr__(self) -> str:
        name = type(self)._pq_members.name
        inner = self.__dict__.get("_qt")
        if inner is not None and not isinstance(inner, QObject):
            shown = convert.shown(inner)
            if shown:
                return f"{name} {shown}"
        return f"{name} (C++ object at {id(inner):#x})"

    def __str__(self) -> str:
        plain = _as_plain(self)
        return repr(self) if plain is None else str(plain)

    def __dir__(self) -> list[str]:
        members = type(self)._pq_members
        return sorted({*members.properties, *members.methods, *members.signal_names})


def _has_dynamic_property(members: api.Members, inner: Any, name: str) -> bool:
    if inner is None or not members.qobject or not shiboken6.isValid(inner):
        return False
    return name.encode() in [bytes(key.data()) for key in inner.dynamicPropertyNames()]


def _as_plain(wrapper: PythonQtInstanceWrapper) -> Any:
    if type(wrapper)._pq_members.name == "QByteArray":
        return bytes(wrapper.__dict__["_qt"].data())
    return None


@cache
def make_class(name: str) -> type:
    """The class Python sees under `name`: it shares no base with other Qt classes."""
    body = {"_pq_members": api.members(name), "__doc__": f"Stands for {name} of PythonQt."}
    return PythonQtClassWrapper(name, (PythonQtInstanceWrapper,), body)


def wrap(inner: Any) -> Any:
    """The wrapper of a Qt object; the same one each time while somebody holds it."""
    made = getattr(inner, "_pq_derived", None)
    if made is not None:
        return made
    if not isinstance(inner, QObject):
        return _fresh(inner)
    key = int(shiboken6.getCppPointer(inner)[0])
    known = _wrappers.get(key)
    if known is not None and known.__dict__["_qt"] is inner:
        return known
    wrapper = _fresh(inner)
    _wrappers[key] = wrapper
    return wrapper


def remember(wrapper: PythonQtInstanceWrapper) -> None:
    """Takes a wrapper that Python code has just constructed."""
    inner = wrapper.__dict__["_qt"]
    if isinstance(inner, QObject):
        _wrappers[int(shiboken6.getCppPointer(inner)[0])] = wrapper


def _fresh(inner: Any) -> Any:
    made = make_class(class_name(inner))
    wrapper = made.__new__(made)
    wrapper.__dict__["_qt"] = inner
    return wrapper


def class_name(inner: Any) -> str:
    """The nearest class of `inner` that Slicer's list knows."""
    for base in type(inner).__mro__:
        name = getattr(base, "STANDS_FOR", base.__name__)
        if api.known(name):
            return str(name)
    raise AttributeError(f"{type(inner).__name__} is not in the extract of Slicer's Python API")
