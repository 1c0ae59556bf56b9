"""Classifies paths under `/v1` at an upstream: inference, or server-side state of its account. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from gateway.errors import BadRequest, Forbidden, NotFound
from gateway.turn import Principal, Right

__all__ = ["UpstreamPath", "parse_path"]

_SEPARATORS = re.compile(r"[/\\]")
_GATEWAY_PATHS: Final = frozenset(("chat/completions", "completions", "responses", "messages"))
"""Paths that the gateway handles itself; a POST to them is never just passed through."""
_INFERENCE: Final = frozenset(
    (
        *("embeddings", "moderations", "rerank", "score", "classify", "pooling", "tokenize", "detokenize"),
        *("audio/speech", "audio/transcriptions", "audio/translations"),
        *("images/generations", "images/edits", "images/variations"),
        *("responses/input_tokens", "responses/compact", "messages/count_tokens"),
    )
)
"""Stateless paths: they store nothing at an upstream."""
_OWNED: Final = ("responses", "conversations")
"""Collections whose members have owners registered in the gateway."""
_BLOCKED: Final = frozenset(("organization", "organizations"))
"""Administration of an account, never reachable."""


@dataclass(frozen=True, slots=True)
class UpstreamPath:
    """A path without `/v1`, decoded, with single slashes.

    `steps` are in lower case. `owned_id`, as the client sent it, is the id of a stored response or conversation, or an
    empty string.
    """

    steps: tuple[str, ...]
    owned_id: str

    @property
    def plain(self) -> str:
        return "/".join(self.steps)

    @property
    def is_inference(self) -> bool:
        return self.plain in _INFERENCE

    @property
    def makes_conversation(self) -> bool:
        return self.steps == ("conversations",)

    def reads_json(self, headers: Mapping[str, str]) -> bool:
        """True if an upstream may parse a body as JSON even without the exact content type."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        is_text = not kind or kind.endswith("json") or kind.startswith("text/")
        return bool(self.steps) and (self.steps[0] in _OWNED or (self.is_inference and is_text))

    def check_method(self, method: str) -> None:
        """Raise NotFound for another spelling of a path that the gateway handles itself."""
        if method == "POST" and self.plain in _GATEWAY_PATHS:
            raise NotFound(f"ask for /v1/{self.plain} by exactly that path")

    def check(self, principal: Principal, method: str, *, is_own_account: bool) -> None:
        """Raise Forbidden or NotFound if a key may not reach the path. `is_own_account`: the client's own credentials
        go to the upstream, which isolates accounts itself."""
        if self.steps and self.steps[0] in _BLOCKED:
            raise NotFound("the administration of an upstream's account is not reachable through the gateway")
        is_free = self.is_inference or self.owned_id or (method == "POST" and self.makes_conversation)
        if not (is_free or is_own_account or Right.UPSTREAM_STATE in principal.rights):
            raise Forbidden(
                f"/v1/{self.plain} reaches what the upstream keeps for all keys of the gateway: "
                f"this key does not have the right `{Right.UPSTREAM_STATE}`"
            )


def parse_path(raw: str) -> UpstreamPath:
    """Parse a request's path (`/v1` may be missing or doubled; encoded) as an upstream may read it.

    Raises BadRequest for dot segments.
    """
    steps = [step for step in _SEPARATORS.split(unquote(unquote(raw))) if step]
    if not {".", ".."}.isdisjoint(steps):
        raise BadRequest("a path must not have dot segments", param="path")
    while steps and steps[0].lower() == "v1":
        steps = steps[1:]
    lower = tuple(step.lower() for step in steps)
    is_owned = len(lower) > 1 and lower[0] in _OWNED and "/".join(lower) not in _INFERENCE
    return UpstreamPath(lower, steps[1].partition("?")[0] if is_owned else "")
