"""Values on their way between Python code and Qt, converted as loosely as PythonQt does."""

from __future__ import annotations

import enum
import numbers
from functools import cache
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets
from vtkmodules.vtkCommonCore import vtkObjectBase

from . import api

MODULES = (QtCore, QtGui, QtWidgets, QtUiTools)
_INTEGERS = {
    "int", "uint", "unsigned int", "signed int", "long", "ulong", "unsigned long", "long long",
    "qlonglong", "qulonglong", "qint64", "quintptr", "short", "ushort", "uchar", "vtkIdType", "WId",
}  # fmt: skip
_FLOATS = {"double", "float", "qreal"}
_SEQUENCES = (list, tuple)


class Mismatch(Exception):
    """A value does not fit a C++ type."""


class EnumValue(int):
    """A number with the name of its enumeration, as PythonQt hands enumerators out."""

    def __new__(cls, value: int, enum_name: str = "", key: str = "") -> EnumValue:
        result = super().__new__(cls, value)
        result.enum_name = enum_name  # type: ignore[attr-defined]
        result.key = key  # type: ignore[attr-defined]
        return result

    def __str__(self) -> str:
        return str(int(self))

    def __or__(self, other: int) -> EnumValue:
        return EnumValue(int(self) | int(other), self.enum_name)  # type: ignore[attr-defined]

    __ror__ = __or__


def unwrapped(value: Any) -> Any:
    """The Qt object inside a wrapper; anything else as it is."""
    inner = value.__dict__.get("_qt") if hasattr(value, "_pq_members") else None
    return value if inner is None else inner


def to_qt(value: Any, kind: str, owner: str, strict: bool) -> Any:
    """`value` as the C++ type `kind`, seen from class `owner`.

    Raises:
        Mismatch: it does not fit; with `strict` only what needs no conversion fits.
    """
    inner = unwrapped(value)
    if kind == "PyObject":
        return value
    if kind == "QVariant":
        return _variant(inner)
    if kind in ("QString", "char", "QChar"):
        return _text(value, inner, strict)
    if kind in ("QByteArray",):
        return _bytes(inner, strict)
    if kind == "bool":
        return _boolean(inner, strict)
    if kind in _INTEGERS:
        return _integer(inner, strict)
    if kind in _FLOATS:
        return _number(inner, strict)
    if kind == "QStringList":
        return _texts(value, inner, strict)
    if kind.startswith(("QList<", "QVector<")):
        return _sequence(value, kind[kind.index("<") + 1 : -1].rstrip("*"), owner, strict)
    if kind.startswith("vtk"):
        return _vtk(inner, kind)
    if kind == "QVariantMap":
        if not isinstance(inner, dict):
            raise Mismatch(kind)
        return {str(key): _variant(unwrapped(item)) for key, item in inner.items()}
    enumeration = enum_class(kind, owner)
    if enumeration is not None:
        return _enumerator(inner, enumeration, strict)
    return _object(inner, kind)


def _variant(inner: Any) -> Any:
    if isinstance(inner, EnumValue):
        return int(inner)
    if isinstance(inner, numbers.Number) and not isinstance(inner, bool | int | float):
        return inner.item() if hasattr(inner, "item") else inner
    return inner


def _text(value: Any, inner: Any, strict: bool) -> str:
    if isinstance(inner, str):
        return inner
    if strict:
        raise Mismatch("QString")
    if isinstance(inner, bytes):
        return inner.decode("utf-8", "replace")
    if isinstance(inner, QtCore.QByteArray):
        return bytes(inner.data()).decode("utf-8", "replace")
    return str(value)


def _bytes(inner: Any, strict: bool) -> QtCore.QByteArray:
    if isinstance(inner, QtCore.QByteArray):
        return inner
    if isinstance(inner, bytes | bytearray):
        return QtCore.QByteArray(bytes(inner))
    if isinstance(inner, str) and not strict:
        return QtCore.QByteArray(inner.encode("utf-8"))
    raise Mismatch("QByteArray")


def _boolean(inner: Any, strict: bool) -> bool:
    if isinstance(inner, bool) or type(inner).__name__ == "bool_":
        return bool(inner)
    if strict:
        raise Mismatch("bool")
    return _integer(inner, strict) != 0


def _integer(inner: Any, strict: bool) -> int:
    if isinstance(inner, numbers.Integral) and not isinstance(inner, bool):
        return int(inner)
    if not strict and isinstance(inner, numbers.Real):
        return int(inner)  # a float is truncated, a bool counts
    raise Mismatch("int")


def _number(inner: Any, strict: bool) -> float:
    if isinstance(inner, numbers.Real) and (not strict or isinstance(inner, float)):
        return float(inner)
    raise Mismatch("double")


def _texts(value: Any, inner: Any, strict: bool) -> list[str]:
    if isinstance(inner, str) and strict:
        raise Mismatch("QStringList")
    if not isinstance(inner, (*_SEQUENCES, str)):
        raise Mismatch("QStringList")
    return [_text(item, unwrapped(item), strict) for item in value]  # a str falls into letters


def _sequence(value: Any, kind: str, owner: str, strict: bool) -> list[Any]:
    if not isinstance(value, _SEQUENCES):
        raise Mismatch(f"QList<{kind}>")
    return [to_qt(item, kind, owner, strict) for item in value]


def _vtk(inner: Any, kind: str) -> Any:
    if inner is None:
        return None
    if not isinstance(inner, vtkObjectBase):
        if isinstance(inner, str):
            raise Mismatch(kind)
        raise TypeError("method requires a VTK object")
    if not inner.IsA(kind):
        raise Mismatch(kind)
    return inner


def _enumerator(inner: Any, enumeration: type, strict: bool) -> Any:
    if isinstance(inner, enumeration):
        return inner
    if isinstance(inner, bool) or not isinstance(inner, int):
        raise Mismatch(enumeration.__name__)
    if strict and not isinstance(inner, EnumValue):
        raise Mismatch(enumeration.__name__)
    try:
        return enumeration(int(inner))
    except ValueError as error:
        raise Mismatch(str(error)) from None


def _object(inner: Any, kind: str) -> Any:
    kind = kind.rstrip("*& ")
    wanted = qt_class(kind)
    if inner is None and (wanted is None or _by_pointer(wanted)):
        return None
    if wanted is not None and isinstance(inner, wanted):
        return inner
    raise Mismatch(kind)


def _by_pointer(wanted: type) -> bool:
    """Whether C++ takes this class by pointer, so that None can stand for it."""
    by_value = (QtGui.QIcon, QtCore.QSize, QtGui.QColor, QtCore.QUrl, QtGui.QPixmap, QtGui.QFont)
    return not issubclass(wanted, by_value)


custom_classes: dict[str, type] = {}
"""CTK's, qMRML's and qSlicer's stand-ins by name; filled by the modules that define them."""


@cache
def qt_class(name: str) -> type | None:
    """The class that stands behind a name: ours for CTK and Slicer, else Qt's own."""
    if name in custom_classes:
        return custom_classes[name]
    for module in MODULES:
        found = getattr(module, name, None)
        if isinstance(found, type):
            return found
    return None


@cache
def enum_class(kind: str, owner: str) -> type | None:
    """Qt's enumeration for `Qt::Alignment`, or for `Shape` said inside QFrame; or None."""
    if "::" in kind:
        scope, name = kind.split("::", 1)
        return _enum_in(scope, name)
    if not api.known(owner):
        return None
    for scope in (owner, *api.members(owner).bases):
        found = _enum_in(scope, kind)
        if found is not None:
            return found
    return None


def _enum_in(scope: str, name: str) -> type | None:
    holder = qt_class(scope)
    found = getattr(holder, name, None) if holder is not None else None
    if found is None and holder is not None and name.endswith("s"):
        found = getattr(holder, name[:-1], None)  # Qt 6 has no Foos beside the enumeration Foo
    return found if isinstance(found, type) and issubclass(found, enum.Enum) else None


def shown(value: Any) -> str:
    """What PythonQt prints of a plain value: "(1, 2)" of a size; "" where it prints no more."""
    if isinstance(value, QtGui.QColor):
        return f"({value.name()})"
    _, bracket, rest = repr(value).partition("(")
    return bracket + rest if bracket and repr(value).startswith("PySide6") else ""


def from_qt(value: Any) -> Any:
    """What PythonQt hands to Python for a value of Qt: wrappers, tuples, plain numbers."""
    from . import binding  # the two need each other

    if isinstance(value, enum.Enum):
        return EnumValue(value.value, type(value).__name__, value.name or "")
    if isinstance(value, list | tuple):
        return tuple(from_qt(item) for item in value)
    if isinstance(value, dict):
        return {key: from_qt(item) for key, item in value.items()}
    if isinstance(value, shiboken6.Object):
        return binding.wrap(value)
    return value
