"""Builds the anatomy that `synthesis.py` draws from: one 1 mm grid, template brain in a real head.

    pip download --no-deps nilearn pydeface, unzip both, then
    python prepare.py --template nilearn/datasets/data --head pydeface/data --out anatomy.npz

The MNI152 T1 template in nilearn's wheel is skull-stripped and comes with maps of grey and white
matter; pydeface's wheel holds an average of whole heads. The latter is registered to the former.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

TEMPLATE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
HEAD = "mean_reg2mean.nii.gz"
GRID_SIZE, GRID_ORIGIN = (224, 280, 280), (-112.0, -150.0, -170.0)  # mm, LPS, spacing 1
SKIN = 0.12  # of white matter's intensity
FARTHEST = 60.0  # mm; distances are cut here


def read(path: Path) -> sitk.Image:
    return sitk.DICOMOrient(sitk.ReadImage(str(path), sitk.sitkFloat32), "LPS")


def registration(mask: sitk.Image, bins: int) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(bins)
    method.SetMetricFixedMask(mask)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def register(
    template: sitk.Image, brain: sitk.Image, head: sitk.Image, scale: float, shift: float
) -> sitk.Transform:
    """Transform from template space to the head's: affine, then B-spline.

    It starts from `scale` (head to template) and a `shift` upwards in mm.

    The metric is measured in the brain and a few millimetres around it: the template is zero
    there, the head has dark bone, so the brain's outline counts as much as its inside.
    """
    mask = sitk.BinaryDilate(brain, [4] * 3)
    coarse = sitk.Shrink(sitk.SmoothingRecursiveGaussian(template, 2.0), [3] * 3)
    affine = sitk.AffineTransform(3)
    affine.SetCenter([0, 10, 10])
    affine.Scale(scale)
    affine.SetTranslation([0, 0, shift])
    method = registration(mask, 32)
    method.SetOptimizerAsRegularStepGradientDescent(
        2.0, 1e-3, 150, relaxationFactor=0.7, gradientMagnitudeTolerance=1e-7
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(affine, inPlace=True)
    method.Execute(coarse, sitk.SmoothingRecursiveGaussian(head, 2.0))
    print(f"affine: {method.GetMetricValue():.4f}")
    spline = sitk.BSplineTransformInitializer(template, [8, 9, 8], 3)
    method = registration(mask, 40)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.3, seed=1)
    method.SetMovingInitialTransform(affine)
    method.SetOptimizerAsLBFGSB(numberOfIterations=30)
    method.SetInitialTransform(spline, inPlace=True)
    method.SetShrinkFactorsPerLevel([2])
    method.SetSmoothingSigmasPerLevel([1.5])
    method.Execute(template, head)
    print(f"spline: {method.GetMetricValue():.4f}")
    return sitk.CompositeTransform([affine, spline])


def distance(mask: np.ndarray) -> np.ndarray:
    """Signed distance in voxels (z, y, x), negative inside."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, squaredDistance=False))


def solid(mask: np.ndarray) -> np.ndarray:
    """The largest piece without its hollows, so that air in sinuses counts as head."""
    image = sitk.BinaryMorphologicalOpening(sitk.GetImageFromArray(mask.astype(np.uint8)), [2] * 3)
    image = sitk.RelabelComponent(sitk.ConnectedComponent(image)) == 1
    image = sitk.BinaryMorphologicalClosing(image, [6] * 3)
    slices = [
        sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(s)))
        for s in sitk.GetArrayFromImage(image)
    ]
    return np.stack(slices) > 0


def anatomy(template_folder: Path, head_folder: Path) -> dict[str, np.ndarray]:
    t1, grey, white = (read(template_folder / TEMPLATE.format(k)) for k in ("t1", "gm", "wm"))
    head = read(head_folder / HEAD)
    brain = sitk.BinaryFillhole(t1 > 0)
    # The head is about a tenth smaller than the template, which is larger than life.
    transform = register(t1, brain, head, 0.9, -15.0)
    grid = sitk.Image(GRID_SIZE, sitk.sitkFloat32)
    grid.SetOrigin(GRID_ORIGIN)

    def on_grid(image: sitk.Image, by: sitk.Transform | None = None) -> np.ndarray:
        placed = sitk.Resample(image, grid, by or sitk.Transform(), sitk.sitkLinear, 0.0)
        return sitk.GetArrayFromImage(placed)

    maps = {"grey": on_grid(grey) / 255, "white": on_grid(white) / 255, "t1": on_grid(t1)}
    maps["head"] = on_grid(head, transform)
    pure = maps["white"] > 0.9
    for name in ("t1", "head"):
        maps[name] = maps[name] / np.median(maps[name][pure])
    inside = on_grid(sitk.Cast(brain, sitk.sitkFloat32)) > 0.5
    maps["brain_distance"] = np.clip(distance(inside), -FARTHEST, FARTHEST)
    covered = solid((maps["head"] > SKIN) | inside)
    maps["depth"] = np.clip(0.5 - distance(covered), 0, FARTHEST) * covered
    return {name: values.astype(np.float16) for name, values in maps.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--template", type=Path, required=True, help="nilearn/datasets/data")
    parser.add_argument("--head", type=Path, required=True, help="pydeface/data")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    maps = anatomy(arguments.template, arguments.head)
    folder = arguments.out.resolve().parent
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".npz", delete=False) as file:
        np.savez_compressed(file, **maps)
    os.replace(file.name, arguments.out)


if __name__ == "__main__":
    main()
