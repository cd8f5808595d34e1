"""Short ways to give a stand-in the Qt properties of the real widget."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Property


def stored(kind: Any, key: str, default: Any) -> Property:
    """A property that is only kept."""

    def read(self: Any) -> Any:
        return self.__dict__.get(key, default)

    def write(self: Any, value: Any) -> None:
        self.__dict__[key] = value

    return Property(kind, read, write)


def refilling(kind: Any, key: str, default: Any) -> Property:
    """A property that is kept; the widget then lists its contents anew with `_fill()`."""

    def read(self: Any) -> Any:
        return self.__dict__.get(key, default)

    def write(self: Any, value: Any) -> None:
        self.__dict__[key] = list(value) if kind == "QStringList" else value
        self._fill()

    return Property(kind, read, write)


def of_child(kind: Any, child: str, name: str) -> Property:
    """A property of the widget inside: `of_child(float, "_box", "minimum")`."""

    def read(self: Any) -> Any:
        return getattr(getattr(self, child), name)()

    def write(self: Any, value: Any) -> None:
        getattr(getattr(self, child), f"set{name[0].upper()}{name[1:]}")(value)

    return Property(kind, read, write)


def shown(child: str) -> Property:
    """Whether the widget inside is shown."""

    def read(self: Any) -> bool:
        return not getattr(self, child).isHidden()

    def write(self: Any, value: bool) -> None:
        getattr(self, child).setVisible(value)

    return Property(bool, read, write)


def classes_of(names: dict[str, Any], prefix: str) -> dict[str, type]:
    """The stand-ins a module defines, by name."""
    return {
        name: value
        for name, value in names.items()
        if name.startswith(prefix) and isinstance(value, type)
    }
