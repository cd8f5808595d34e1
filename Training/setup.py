"""Puts what ships beside the code (model, catalogue, sample volume) into the wheel.

Everything else is in pyproject.toml; setuptools has no declarative way to take files from outside.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RESOURCES = Path(__file__).resolve().parent.parent / "Resources"
SHIPPED = ("Models", "Catalog", "SampleData")


class BuildWithResources(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # a clone finds them where they are
        for name in SHIPPED:
            target = Path(self.build_lib) / "mednext_engine" / "Resources" / name
            shutil.copytree(RESOURCES / name, target, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithResources})
