"""The one gate between Qt and our code: connections that exist, slots that never fail silently.

In PythonQt a connection to a signal that does not exist only prints, and an exception in a slot is
printed and lost. Here the first raises and the second is shown to the person.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from .errors import UserError

Report = Callable[[str, str], None]  # message, hint


class Guard:
    """Connects slots and remembers them, so that they can all be disconnected.

    `report` shows a message and a hint. After `close` every slot does nothing: a timer may outlive
    its widget.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._closed = False
        self._signals: list[tuple[Any, str, Callable[..., None]]] = []
        self._observers: list[tuple[Any, int]] = []

    def __call__(self, function: Callable[..., Any]) -> Callable[..., None]:
        """`function` as a slot; of a signal's arguments it gets as many as it takes."""
        accepted = _positional(function)

        def slot(*arguments: Any) -> None:
            if self._closed:
                return
            try:
                function(*arguments[:accepted])
            except UserError as error:
                self._report(error.message, error.hint)
            except Exception as error:
                logging.exception("MedNeXt Segmentation: a slot failed")
                self._report(f"{type(error).__name__}: {error}", "")

        return slot

    def connect(self, sender: Any, signal: str, function: Callable[..., Any]) -> None:
        """Connects; raises RuntimeError where `sender` has no such signal."""
        slot = self(function)
        if not sender.connect(signal, slot):
            raise RuntimeError(f"{sender.className()} has no signal {signal}.")
        self._signals.append((sender, signal, slot))

    def observe(self, subject: Any, event: int, function: Callable[..., Any]) -> None:
        """Observes a VTK object."""
        self._observers.append((subject, subject.AddObserver(event, self(function))))

    def forget(self, sender: Any) -> None:
        """Disconnects everything of one sender."""
        for one, signal, slot in self._signals:
            if one is sender:
                sender.disconnect(signal, slot)
        self._signals = [entry for entry in self._signals if entry[0] is not sender]

    def close(self) -> None:
        """Disconnects everything, for good."""
        self._closed = True
        for sender, signal, slot in self._signals:
            if sender:  # the wrapper of a widget that died is falsy
                sender.disconnect(signal, slot)
        for subject, tag in self._observers:
            subject.RemoveObserver(tag)
        self._signals, self._observers = [], []


def _positional(function: Callable[..., Any]) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(parameter.kind in kinds for parameter in parameters)
