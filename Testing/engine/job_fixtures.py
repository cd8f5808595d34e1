"""A small model, a small volume and a worker process, for the tests of jobs and command line."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

LABELS = {"background": 0, "bright": 1, "dark": 2}


def write_tiny_model(
    folder: Path, *, channels: int = 2, patch: int = 32, inputs: int = 1, seed: int = 0
) -> Path:
    """A MedNeXt with random weights that finds three classes; `channels` and `patch` make it slow
    where a test needs time."""
    import torch
    from model_fixtures import a_configuration, plans

    from mednext_engine.models.card import Card
    from mednext_engine.models.plan import read_plan
    from mednext_engine.models.writer import write_model
    from mednext_engine.networks import MedNeXt

    kwargs = {
        "channels": channels,
        "blocks": [1] * 9,
        "expansion": 2,
        "kernel_size": 3,
    }
    configuration = a_configuration(
        patch_size=[patch] * 3,
        spacing=[2.0, 2.0, 2.0],
        normalization_schemes=["ZScoreNormalization"] * inputs,
        use_mask_for_norm=[False] * inputs,
        architecture={
            "network_class_name": "mednext_engine.networks.MedNeXt",
            "arch_kwargs": kwargs,
            "_kw_requires_import": [],
        },
    )
    plan = read_plan(
        plans(
            {"3d_fullres": configuration},
            transpose_forward=[0, 1, 2],
            transpose_backward=[0, 1, 2],
        ),
        "3d_fullres",
    )
    torch.manual_seed(seed)
    network = MedNeXt(inputs, 3, **kwargs)
    write_model(
        folder,
        plan=plan,
        weights={"0": network.state_dict()},
        labels=LABELS,
        channel_names=[f"channel{n}" for n in range(inputs)],
        card=Card(title="Tiny", id=folder.name, license="Apache-2.0"),
    )
    return folder


def write_volume(path: Path, shape: tuple[int, int, int] = (24, 30, 28), seed: int = 0) -> Path:
    """A bright ball in noise; voxels of 2 mm, oblique axes, an origin of its own."""
    generator = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    values = generator.normal(100, 10, shape) + 200 * (z**2 + y**2 + x**2 < 0.4)
    image = sitk.GetImageFromArray(values.astype(np.float32))
    image.SetSpacing((2.0, 2.0, 2.0))
    image.SetOrigin((-12.5, 7.25, 31.0))
    angle = np.deg2rad(20)
    turn = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    image.SetDirection(np.ravel(turn).tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), True)
    return path


def private_places(folder: Path) -> dict[str, str]:
    """Environment that keeps a process away from the user's own models and logs, and within the
    processor time that a test may take."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    return {"MEDNEXT_MODELS": str(folder / "models"), "MEDNEXT_LOGS": str(folder / "logs")}


def blocking(folder: Path, *names: str) -> dict[str, str]:
    """Environment of a Python in which the packages `names` cannot be imported."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {names!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    inherited = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join(p for p in (str(folder), inherited) if p)}


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be reaped does not."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            return state not in ("Z", "X")
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
