"""Loaded once by the process that `tests.fakes.warm` copies: all that a gateway or a command would load."""

import functools
import gc
import warnings

import tiktoken.model  # noqa: F401

from gateway.embedding import embedders as embed

embed.load_local = functools.cache(embed.load_local)
embed.load_local()
# LanceDB is only loaded here, and nothing of it runs when this process is copied
warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)
gc.freeze()
