"""The library of compiled loops, where there is one.

`kernels.c` is compiled into the wheel, or by `python -m gateway.native.build` beside its source. Without it, or with
the environment variable MEMORY_GATEWAY_NATIVE=0, `kernels` returns None and all callers compute with numpy. The
variable can also name a path of the library, to use less than the processor offers: avx512, avx2, neon or generic.
"""

from gateway.native.library import EncoderModel, Kernels, Matrix, TokenizerModel, kernels, library_name, load

__all__ = ["EncoderModel", "Kernels", "Matrix", "TokenizerModel", "kernels", "library_name", "load"]
