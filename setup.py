"""The compiled lanes, where there is a compiler: everything else about the package is in pyproject.toml."""

import os
import sysconfig

from setuptools import Extension, setup

# Free-threaded builds have no limited API.
limited = not sysconfig.get_config_var("Py_GIL_DISABLED")
# The wheel without lanes, for machines that no other is for.
wanted = os.environ.get("MEASLOG_LANES_BUILD") != "no"

setup(
    ext_modules=[
        Extension(
            "measlog._lanes",
            ["src/measlog/_lanes.c"],
            extra_compile_args=["-std=gnu11", "-O3", "-Wno-psabi"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")] if limited else [],
            py_limited_api=limited,
            optional=True,  # without it the same answers come from hashlib
        )
    ]
    if wanted
    else [],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited and wanted else {},
)
