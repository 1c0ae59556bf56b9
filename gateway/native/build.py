"""Compiles the library: `python -m gateway.native.build` beside its source, and the build of the wheel elsewhere.

Without a compiler there is no library, and the gateway computes with numpy: a failure is a line and nothing more.
This module runs before anything is installed, so it imports the standard library only.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["build", "main"]

_FOLDER = Path(__file__).parent
_SOURCES = ("kernels.c", "tokenizer.c")
_COMPILERS = ("cc", "gcc", "clang", "zig cc")
# -ffast-math would link code that changes how the whole process computes with very small numbers
_FLAGS = ("-std=gnu11", "-O3", "-shared", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-w")
_TIME_LIMIT = 120.0  # seconds; a slow machine takes twenty


def build(target: Path) -> str | None:
    """Compile the library into a file. Returns why it could not be done, or None."""
    options = [*_FLAGS, *(() if sys.platform == "win32" else ("-fPIC",)), *_architecture()]
    libraries = () if sys.platform == "win32" else ("-lm",)
    sources = [str(_FOLDER / name) for name in _SOURCES]
    try:
        compiler = _find_compiler()
        if compiler is None:
            return "no C compiler"
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            output = Path(folder) / target.name
            command = [*compiler, *options, *sources, "-o", str(output), *libraries]
            done = subprocess.run(  # noqa: S603
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIME_LIMIT, check=False
            )
            if done.returncode:
                lines = done.stderr.decode(errors="replace").strip().splitlines()
                return f"{compiler[0]} failed: {lines[0] if lines else done.returncode}"
            os.replace(output, target)
    except (OSError, ValueError, subprocess.SubprocessError) as error:  # ValueError: quotes in $CC that do not end
        return f"{type(error).__name__}: {error}"
    return None


def _find_compiler() -> list[str] | None:
    chosen = os.environ.get("CC")
    for command in [chosen] if chosen else _COMPILERS:
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    return None


def _architecture() -> list[str]:
    """On macOS the interpreter may run as another architecture than the compiler's own."""
    oldest = "11.0" if platform.machine() == "arm64" else "10.13"  # as in the wheel's tag
    options = ["-arch", platform.machine(), f"-mmacosx-version-min={oldest}"]
    return options if sys.platform == "darwin" else []


def main() -> int:
    """Compile the library in place."""
    name = {"win32": "_kernels.dll", "darwin": "_kernels.dylib"}.get(sys.platform, "_kernels.so")
    cause = build(_FOLDER / name)
    if cause is not None:
        sys.stderr.write(f"the compiled library is left out, numpy does its work: {cause}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
