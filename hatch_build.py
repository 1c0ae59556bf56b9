"""The build of the wheel: it contains the compiled library where a C compiler is there, and is pure where none is."""

import importlib.util
import os
import platform
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_BUILDER = Path(__file__).parent / "gateway" / "native" / "build.py"
_NAME = {"win32": "_kernels.dll", "darwin": "_kernels.dylib"}.get(sys.platform, "_kernels.so")


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # its parameter is a builder's configuration
    """Compiles `gateway/native` into the wheel, and names the platform in its tag."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        library = Path(self._folder.name) / _NAME
        cause = self._compile(library)
        if cause is not None:
            self.app.display_warning(f"the compiled library is left out, numpy does its work: {cause}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform_tag()}"
        build_data["force_include"][str(library)] = f"gateway/native/{_NAME}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_folder"):
            self._folder.cleanup()

    def _compile(self, library: Path) -> str | None:
        """Compile the library; the cause if it failed. No failure of this may fail the installation."""
        try:
            spec = importlib.util.spec_from_file_location("build_kernels", _BUILDER)
            if spec is None or spec.loader is None:
                return "its source is not there"
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            cause: str | None = module.build(library)
            return cause
        except Exception as error:  # noqa: BLE001 — see above
            return f"{type(error).__name__}: {error}"


def _platform_tag() -> str:
    """The tag of this platform. A wheel that others shall use gets theirs from WHEEL_PLATFORM, such as
    manylinux_2_28_x86_64."""
    chosen = os.environ.get("WHEEL_PLATFORM")
    if chosen:
        return chosen
    if sys.platform == "darwin":
        release = "11_0" if platform.machine() == "arm64" else "10_13"
        return f"macosx_{release}_{platform.machine()}"
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
