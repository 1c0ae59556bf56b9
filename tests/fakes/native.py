"""The compiled library on each path that this machine has."""

from gateway.native import Kernels, load

__all__ = ["PATHS"]

PATHS: list[Kernels] = []
"""Empty where the library was not built."""

for _name in ("avx512", "avx2", "neon", "generic"):
    _kernels = load(_name)
    if _kernels is not None and _kernels.path == _name:
        PATHS.append(_kernels)
