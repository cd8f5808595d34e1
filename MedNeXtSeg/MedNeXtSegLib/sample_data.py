"""The sample volume: shipped, so that it loads without a network, and registered in SampleData."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .engine_location import resources_folder
from .errors import UserError
from .importing import read_image

FILE_NAME = "Colin27_T1.nii.gz"
NODE_NAME = "Colin27_T1"
SHA256 = "a009051127f64dc3dd554d5f5b589870ea72106d9642c21b4e7093e478cfc309"
# Where the file can be downloaded once the repository is public; see the release check-list.
ADDRESS = (
    "https://github.com/SlicerMedNeXtSeg/SlicerMedNeXtSeg/raw/main/"
    "Resources/SampleData/Colin27_T1.nii.gz"
)


def sample_path() -> Path | None:
    """The shipped file, or None where it was not shipped."""
    folder = resources_folder()
    path = folder / "SampleData" / FILE_NAME if folder is not None else None
    return path if path is not None and path.is_file() else None


def register(icons_folder: str) -> None:
    """Registers the volume in the module SampleData, with its checksum."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # Slicer 5.12 and newer
        logic.registerCustomSampleDataCategory("MedNeXtSeg", _("MedNeXt Segmentation"))
    path = sample_path()
    thumbnail = Path(icons_folder) / "MedNeXtSeg.png"
    logic.registerCustomSampleDataSource(
        category="MedNeXtSeg",
        sampleName=NODE_NAME,
        thumbnailFileName=str(thumbnail) if thumbnail.is_file() else None,
        uris=path.as_uri() if path is not None else ADDRESS,
        fileNames=FILE_NAME,
        nodeNames=NODE_NAME,
        checksums=f"SHA256:{SHA256}",
    )


def load_sample(scene: Any) -> Any:
    """Loads the shipped volume; returns its node. Raises UserError where it is not there whole."""
    path = sample_path()
    if path is None:
        raise UserError(
            _("The sample volume did not come with this installation."),
            _("Install the extension again from the Extensions Manager."),
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise UserError(
            _("The sample volume is damaged: its checksum is not the one it was shipped with."),
            _("Install the extension again from the Extensions Manager."),
        )
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(NODE_NAME))
    image = read_image(path)
    slicer.util.updateVolumeFromArray(node, image.values)
    from .geometry import to_matrix

    node.SetIJKToRASMatrix(to_matrix(image.grid.ijk_to_ras))
    node.CreateDefaultDisplayNodes()
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node
