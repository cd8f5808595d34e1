"""Whether a model folder is still what its card says, byte by byte."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ModelError
from ..monitor import Monitor
from .checkpoint import inspect_checkpoint
from .folder import Model
from .layout import file_sha256, model_files


@dataclass(frozen=True)
class Verification:
    """Result of `verify_model`: how many files were compared, and a sentence for each problem."""

    checked: int
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


def verify_model(model: Model, monitor: Monitor | None = None) -> Verification:
    """Compares every file with the SHA-256 in the model's card, and inspects its checkpoints."""
    monitor = monitor or Monitor()
    problems: list[str] = []
    present = set(model_files(model.path)) - {"mednext.json"}
    listed = dict(model.card.files)
    if not listed:
        problems.append("The model's card holds no checksums to compare with.")
    with monitor.stage("Comparing checksums", 0.0, 1.0):
        for done, name in enumerate(sorted(present | set(listed))):
            monitor.advance(done / len(present | set(listed)))
            if name not in present:
                problems.append(f"{name[:100]} is missing.")
            elif listed and name not in listed:
                problems.append(f"{name} is not listed in the model's card.")
            elif listed and file_sha256(model.path / name) != listed[name]:
                problems.append(f"{name} was changed or damaged: its SHA-256 differs.")
            elif name.endswith(".pth"):
                try:
                    inspect_checkpoint(model.path / name)
                except ModelError as error:
                    problems.append(error.message)
    return Verification(len(present & set(listed)), tuple(problems))
