"""What the panel is set to, kept in the scene: a saved scene brings its settings back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_CHANNEL = "Channel{index}"
_FLAG = {True: "true", False: "false"}


class SceneSettings:
    """Typed access to a vtkMRMLScriptedModuleNode. What is not there has its default."""

    def __init__(self, node: Any) -> None:
        self.node = node

    def text(self, name: str, default: str = "") -> str:
        return str(self.node.GetParameter(name)) or default

    def set_text(self, name: str, value: str) -> None:
        if self.node.GetParameter(name) != value:
            self.node.SetParameter(name, value)

    def flag(self, name: str, default: bool) -> bool:
        return self.text(name, _FLAG[default]) == _FLAG[True]

    def set_flag(self, name: str, value: bool) -> None:
        self.set_text(name, _FLAG[bool(value)])

    def reference(self, role: str) -> Any:
        return self.node.GetNodeReference(role)

    def set_reference(self, role: str, node: Any) -> None:
        wanted = node.GetID() if node is not None else None
        if self.node.GetNodeReferenceID(role) != wanted:
            self.node.SetNodeReferenceID(role, wanted)

    def channels(self, count: int) -> list[Any]:
        return [self.reference(_CHANNEL.format(index=index)) for index in range(count)]

    def set_channels(self, volumes: Sequence[Any]) -> None:
        for index, volume in enumerate(volumes):
            self.set_reference(_CHANNEL.format(index=index), volume)
