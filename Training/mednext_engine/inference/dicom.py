"""A folder with one DICOM image series, read as a volume; only voxels and geometry are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError

_POSITION, _ORIENTATION = "0020|0032", "0020|0037"
_MODALITY, _SERIES_NUMBER = "0008|0060", "0020|0011"
_UNEVEN = 0.1
"""Slice distances may differ from their median by this share."""


@dataclass(frozen=True)
class Series:
    """Files of one image series in slice order, and words to tell it from others."""

    files: tuple[str, ...]
    title: str


def read_series(folder: Path) -> sitk.Image:
    """Reads the one image series in `folder` or below it.

    Raises:
        InputError: no image series, several of them, slices missing, doubled or sheared.
    """
    folder = folder.resolve()
    found = list(find_series(folder))
    if not found:
        raise InputError(
            f"The folder {folder.name} holds no DICOM series of slices.",
            "Give the folder that holds the slices of one series, or an image file.",
        )
    if len(found) > 1:
        titles = "; ".join(series.title for series in found)
        raise InputError(
            f"The folder {folder.name} holds {len(found)} image series: {titles}.",
            "Put the series to be segmented into a folder of its own.",
        )
    series = found[0]
    _check_slices(series, folder.name)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(series.files)
    try:
        image = reader.Execute()
    except RuntimeError:
        raise InputError(
            f"The DICOM series in {folder.name} cannot be read: slices are damaged or of "
            "different sizes.",
            "Export the series again.",
        ) from None
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"The DICOM series in {folder.name} is a colour (RGB) image; "
            "one value a voxel is needed."
        )
    # A series of one multi-frame file comes with a fourth axis of one entry.
    return image[..., 0] if image.GetDimension() == 4 and image.GetSize()[3] == 1 else image


def find_series(folder: Path) -> Iterator[Series]:
    """Image series of at least two slices in `folder` and the folders below it."""
    for place in [folder, *sorted(p for p in folder.rglob("*") if p.is_dir())]:
        for identifier in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(place)):
            files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(place), identifier)
            header = _header(files[0])
            if header is None:
                continue  # a report, a structure set or another thing without pixels
            size = header.GetSize()
            slices = len(files) * (size[2] if len(size) > 2 else 1)
            if slices < 2:
                continue
            where = "" if place == folder else f" in {place.relative_to(folder)}"
            title = f"series {_tag(header, _SERIES_NUMBER)} ({_tag(header, _MODALITY)}, "
            yield Series(tuple(files), f"{title}{slices} slices){where}")


def _header(file: str) -> sitk.ImageFileReader | None:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return reader


def _tag(reader: sitk.ImageFileReader, key: str) -> str:
    return reader.GetMetaData(key).strip() if reader.HasMetaDataKey(key) else "?"


def _check_slices(series: Series, name: str) -> None:
    """Refuses slices that do not make up a rectangular grid."""
    if len(series.files) == 1:
        return
    headers = [_header(file) for file in series.files]
    if not all(h is not None and h.HasMetaDataKey(_POSITION) for h in headers):
        return  # without positions the order of the files is all there is
    places = np.array([_numbers(h, _POSITION) for h in headers if h is not None])
    first = headers[0]
    if first is None or not first.HasMetaDataKey(_ORIENTATION):
        return
    row, column = np.split(_numbers(first, _ORIENTATION), 2)
    normal = np.cross(row, column)
    steps = np.abs(np.diff(places @ normal))
    if steps.min() < 1e-3:
        raise InputError(
            f"The DICOM series in {name} has several slices at the same place "
            "(time points or echoes).",
            "Export one time point or echo as a series of its own.",
        )
    if np.abs(steps / np.median(steps) - 1).max() > _UNEVEN:
        raise InputError(
            f"The slices of the DICOM series in {name} are not evenly spaced "
            f"({steps.min():.3g} to {steps.max():.3g} mm): some seem to be missing.",
            "Export the complete series, or resample it to even slices.",
        )
    way = places[-1] - places[0]
    if np.linalg.norm(way - normal * (way @ normal)) > 0.02 * np.linalg.norm(way):
        raise InputError(
            f"The slices of the DICOM series in {name} are sheared (a tilted gantry).",
            "Resample the image to a rectangular grid first, for example with Slicer's DICOM "
            "module.",
        )


def _numbers(reader: sitk.ImageFileReader, key: str) -> np.ndarray:
    try:
        return np.array([float(part) for part in reader.GetMetaData(key).split("\\")])
    except ValueError:
        raise InputError("A DICOM slice states a position that is not a number.") from None
