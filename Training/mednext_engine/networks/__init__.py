"""Networks: MedNeXt v1 and v2, UpKern, official weights, and the registry of what may be built.

`MedNeXt` is loaded when it is first asked for: the parameters alone (`parameters`) and the registry
do without PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .mednext import MedNeXt

__all__ = ["MedNeXt"]


def __getattr__(name: str) -> Any:
    if name == "MedNeXt":
        from .mednext import MedNeXt

        return MedNeXt
    raise AttributeError(name)
