"""Jobs from data sets as people have them on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from finetune_case_fixtures import a_pattern, blocks, write_image

from mednext_engine.errors import InputError
from mednext_engine.finetuning.job import Annotated, Job, read_job
from mednext_engine.finetuning.sources import job_from_data


def make(data: Path, **settings: Any) -> Job:
    settings = {"name": "New", "base": None, **settings}
    job = job_from_data(data, data.parent / "job", **settings)
    assert read_job(job.folder) == job
    return job


def a_pair(image: Path, labels: Path, count: int = 2) -> None:
    write_image(image, a_pattern())
    write_image(labels, blocks(count=count))


def test_images_and_labels_in_two_folders(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("b", "a"):
        a_pair(data / f"images/{name}.nii.gz", data / f"labels/{name}.nii.gz")
    write_image(data / "images/unlabelled.nii.gz", a_pattern())
    (data / "labels.json").write_text('{"Bar": 1, "background": 0, "Rod": 2}')
    job = make(data, channels=["T1"], annotated=Annotated("slices", beyond=True))
    assert [case.id for case in job.cases] == ["case_001", "case_002"]
    assert job.cases[0].images == ((data / "images/a.nii.gz").resolve(),)
    assert job.cases[0].labels == (data / "labels/a.nii.gz").resolve()
    assert job.cases[0].values == {"Bar": 1, "Rod": 2}
    assert job.cases[0].annotated == Annotated("slices", beyond=True)
    assert [label.name for label in job.labels] == ["Bar", "Rod"]
    assert job.channels == ("T1",)


@pytest.mark.parametrize("end", ["_seg", "-seg", "-label", "_labels", "_Segmentation"])
def test_label_files_beside_the_images(tmp_path: Path, end: str) -> None:
    data = tmp_path / "data"
    a_pair(data / "p1.nii.gz", data / f"p1{end}.nii.gz")
    write_image(data / "other.nii.gz", a_pattern())
    job = make(data)
    assert [case.images[0].name for case in job.cases] == ["p1.nii.gz"]
    assert job.cases[0].values == {"Label 1": 1, "Label 2": 2}
    assert job.channels == ("Channel 1",)
    assert job.cases[0].source == {"name": "p1"}


def test_channels_and_names_that_slicer_wrote(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for channel in range(2):
        write_image(data / f"p_{channel:04d}.nrrd", a_pattern(seed=channel))
    image = sitk.GetImageFromArray(blocks())
    for index, name in enumerate(("Bar", "Rod")):
        image.SetMetaData(f"Segment{index}_Name", name)
        image.SetMetaData(f"Segment{index}_LabelValue", str(index + 1))
    sitk.WriteImage(image, str(data / "p.seg.nrrd"))
    job = make(data)
    assert [path.name for path in job.cases[0].images] == ["p_0000.nrrd", "p_0001.nrrd"]
    assert job.cases[0].values == {"Bar": 1, "Rod": 2}
    assert len(job.channels) == 2


def test_values_of_all_files_are_found(tmp_path: Path) -> None:
    data = tmp_path / "data"
    a_pair(data / "p1.nii.gz", data / "p1_seg.nii.gz", count=1)
    a_pair(data / "p2.nii.gz", data / "p2_seg.nii.gz", count=3)
    assert [label.name for label in make(data).labels] == ["Label 1", "Label 2", "Label 3"]


def a_raw_data_set(data: Path, labels: dict[str, Any], **more: Any) -> Path:
    for name in ("x_01", "x_02"):
        for channel in range(2):
            write_image(data / f"imagesTr/{name}_{channel:04d}.nii.gz", a_pattern(seed=channel))
        write_image(data / f"labelsTr/{name}.nii.gz", blocks())
    dataset = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": labels,
        "numTraining": 2,
        "file_ending": ".nii.gz",
        **more,
    }
    (data / "dataset.json").write_text(json.dumps(dataset))
    return data


def test_nnunet_raw_with_its_ignore_label(tmp_path: Path) -> None:
    labels = {"background": 0, "Bar": 1, "Rod": 2, "ignore": 3}
    job = make(a_raw_data_set(tmp_path / "Dataset001_X", labels))
    assert job.channels == ("T1", "T2")
    assert [len(case.images) for case in job.cases] == [2, 2]
    assert job.cases[0].values == {"Bar": 1, "Rod": 2}
    assert job.cases[0].ignore == 3
    assert [label.name for label in job.labels] == ["Bar", "Rod"]


def test_regions_are_refused_with_the_reason(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    data = a_raw_data_set(tmp_path / "data", labels, regions_class_order=[1, 2])
    with pytest.raises(InputError, match="because it trains classes that exclude each other"):
        make(data)


def test_incomplete_data_sets_are_refused(tmp_path: Path) -> None:
    data = a_raw_data_set(tmp_path / "data", {"background": 0, "Bar": 1, "Rod": 2})
    (data / "imagesTr/x_02_0001.nii.gz").unlink()
    with pytest.raises(InputError, match=r"labelsTr/x_02.nii.gz needs 2 image files"):
        make(data)
    (data / "dataset.json").unlink()
    with pytest.raises(InputError, match=r"dataset.json is missing"):
        make(data)


def test_folders_without_pairs_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_image(data / "p1.nii.gz", a_pattern())
    with pytest.raises(InputError, match="no pairs"):
        make(data)
    with pytest.raises(InputError, match="no folder"):
        make(tmp_path / "nowhere")
    write_image(data / "p1_seg.nii.gz", a_pattern())
    with pytest.raises(InputError, match="not a label map"):
        make(data)
    write_image(data / "p1_seg.nii.gz", np.zeros((12, 14, 16), np.uint8))
    with pytest.raises(InputError, match="No label file holds a label"):
        make(data)
    write_image(data / "p1_seg.nii.gz", blocks())
    (data / "labels.json").write_text('{"labels": {"Bar": "one"}}')
    with pytest.raises(InputError, match="Label 'Bar'"):
        make(data)
