"""Only what pyproject.toml cannot say: the kernels in C are optional.

Without a compiler the installation goes on, and Python does the same: cuts and checks slowly, reads and writes small
files a little slower.
"""

import sys

from setuptools import Extension, setup

_OPTIMIZE = ["/O2"] if sys.platform == "win32" else ["-O3", "-Wall", "-Wextra"]

setup(
    ext_modules=[
        Extension(
            "dedupstore.chunking._gear",
            ["dedupstore/chunking/_gear.c"],
            depends=["dedupstore/chunking/_gear_avx512.h"],
            extra_compile_args=_OPTIMIZE,
            optional=True,
        ),
        Extension(
            "dedupstore.codec._blake3",
            ["dedupstore/codec/_blake3.c"],
            depends=["dedupstore/codec/_blake3_lanes.h"],
            extra_compile_args=_OPTIMIZE,
            optional=True,
        ),
        Extension(
            "dedupstore.codec._patch",
            ["dedupstore/codec/_patch.c"],
            extra_compile_args=_OPTIMIZE,
            optional=True,
        ),
        Extension(
            "dedupstore.sources._many_names",
            ["dedupstore/sources/_many_names.c"],
            depends=["dedupstore/sources/_stat_result.h"],
            extra_compile_args=_OPTIMIZE,
            optional=True,
        ),
        Extension(
            "dedupstore.sources._small_files",
            ["dedupstore/sources/_small_files.c"],
            depends=["dedupstore/sources/_stat_result.h"],
            extra_compile_args=_OPTIMIZE,
            optional=True,
        ),
        Extension(
            "dedupstore.sources._rows",
            ["dedupstore/sources/_rows.c"],
            extra_compile_args=_OPTIMIZE,
            optional=True,
        ),
        Extension(
            "dedupstore.model._survey",
            ["dedupstore/model/_survey.c"],
            extra_compile_args=_OPTIMIZE,
            optional=True,
        ),
        Extension(
            "dedupstore.engine._write",
            ["dedupstore/engine/_write.c"],
            extra_compile_args=_OPTIMIZE,
            optional=True,
        ),
    ]
)
