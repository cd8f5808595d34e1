"""What a training needs beyond what segmenting needs. No imports: Slicer's side may read it too.

batchgeneratorsv2 asks for batchgenerators, which asks for scikit-learn, matplotlib and others; none
of these is imported by the transforms of nnU-Net's recipe. What is imported: SciPy and pandas
(`spatial.py`). Installed with `pip install --no-deps`, in this order, each only if it is missing,
nothing that is there is touched.
"""

from __future__ import annotations

WITHOUT_DEPENDENCIES: tuple[tuple[str, str], ...] = (
    ("six", ">=1.16,<2"),  # of python-dateutil
    ("python-dateutil", ">=2.8.2,<3"),  # of pandas
    ("pytz", ">=2023.3"),  # of pandas 2
    ("tzdata", ">=2023.3"),  # of pandas
    ("pandas", ">=2.2.2,<3"),  # runs with NumPy 1 and 2; pandas 3 would want a newer NumPy
    ("scipy", ">=1.11.4,<2"),
    ("batchgeneratorsv2", ">=0.3.5,<0.4"),
)
"""Name and version range of each package."""

MODULES: dict[str, str] = {
    "six": "six",
    "python-dateutil": "dateutil",
    "pytz": "pytz",
    "tzdata": "tzdata",
    "pandas": "pandas",
    "scipy": "scipy",
    "batchgeneratorsv2": "batchgeneratorsv2",
}
"""Package -> module that shows that it is there."""


OF_PANDAS = ("six", "python-dateutil", "pytz", "tzdata")
"""Asked for only where pandas itself is missing: its versions differ in which of them they need."""


def missing() -> list[str]:
    """Requirements (name and range) of which the module is not found; imports nothing."""
    from importlib.util import find_spec

    has_pandas = find_spec(MODULES["pandas"]) is not None
    return [
        f"{name}{versions}"
        for name, versions in WITHOUT_DEPENDENCIES
        if find_spec(MODULES[name]) is None and not (has_pandas and name in OF_PANDAS)
    ]
