"""The parts of the MedNeXt Segmentation module, one a file.

None of them imports torch, and of the engine they import `mednext_engine.jobs.protocol` only. What
touches widgets is called `*_panel` (and `qt_process`); everything else works on MRML alone.
"""

from .engine_location import make_engine_importable

make_engine_importable()
