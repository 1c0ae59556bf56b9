"""Loaded once by the process that `tests.fakes.warm` copies: all that a gateway or a command would load."""

import functools
import gc
import warnings

import tiktoken.model  # noqa: F401

import gateway.app
import gateway.cli
import gateway.commands.evaluate
import gateway.commands.explain
import gateway.commands.forget
import gateway.commands.history
import gateway.commands.reindex
import gateway.commands.transfer
import gateway.commands.usage
import gateway.recall.recall
import gateway.recall.working_sets
import gateway.store.encoder  # noqa: F401
from gateway.store import embed

embed.load_local = functools.cache(embed.load_local)
embed.load_local()
# LanceDB is only loaded here, and nothing of it runs when this process is copied
warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)
gc.freeze()
