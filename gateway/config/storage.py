"""Configuration sections of where the memory is kept: object storage, the database beside it, and how it is written."""

import re
from dataclasses import dataclass
from typing import Self

from pydantic import Field, field_validator, model_validator

from gateway.config.secrets import OptionalKey
from gateway.config.sections import Positive, Section

__all__ = ["StorageConfig", "StoreConfig", "StoreLimits", "check_uri", "is_object_storage"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9._-]+)*/?")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?/?|https?://\[[0-9A-Fa-f:]+\](?::[0-9]{1,5})?/?")


class StorageConfig(Section):
    endpoint: str | None = Field(
        None, description="URL of an S3-compatible server; null: that of AWS, or `AWS_ENDPOINT_URL`."
    )
    region: str | None = Field(None, max_length=64, description="Region of the bucket; null: `AWS_REGION`.")
    access_key: OptionalKey = Field(None, description="Access key; null: the credentials of the environment (`AWS_…`).")
    secret_key: OptionalKey = Field(None, description="The secret of `access_key`.")
    allow_http: bool = Field(False, description="Allow an endpoint without TLS: memories cross the network readable.")

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not _ENDPOINT.fullmatch(endpoint):
            raise ValueError("an endpoint is https://host:port, without a path, and without credentials")
        return endpoint

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key belong together: set both, or neither")
        if self.endpoint is not None and self.endpoint.startswith("http://") and not self.allow_http:
            raise ValueError("the endpoint has no TLS: write https://, or set allow_http")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """How many rows are gathered before they are stored, and for how many seconds; and how many fragments a table may
    have before it is compacted."""

    flush_rows: int
    flush_seconds: float
    compact_fragments: int


_FOLDER = StoreLimits(flush_rows=256, flush_seconds=2.0, compact_fragments=64)
_OBJECTS = StoreLimits(flush_rows=256, flush_seconds=15.0, compact_fragments=16)


class StoreConfig(Section):
    flush_rows: int | None = Field(
        None, ge=1, le=4096, description="New memories that are stored at once; on S3 of each bucket. null: 256."
    )
    flush_seconds: Positive | None = Field(
        None,
        le=3600,
        description="Seconds that new memories, which are searchable and durable, wait for others; null: "
        "`remember.batch_window_ms` in a folder, 15 on S3.",
    )
    compact_fragments: int | None = Field(
        None,
        ge=2,
        le=1024,
        description="Writes to a table after which it is compacted; null: 64 in a folder, 16 on S3, where each costs "
        "every reader requests.",
    )

    def limits(self, uri: str, batch_window: float) -> StoreLimits:
        """The limits for a memory at `uri`; `batch_window` is the configured one of a folder."""
        is_folder = not is_object_storage(uri)
        default = _FOLDER if is_folder else _OBJECTS
        seconds = batch_window if is_folder else default.flush_seconds
        return StoreLimits(
            flush_rows=self.flush_rows or default.flush_rows,
            flush_seconds=self.flush_seconds or seconds,
            compact_fragments=self.compact_fragments or default.compact_fragments,
        )


def is_object_storage(uri: str) -> bool:
    """True if a memory's address is not a folder."""
    return uri.startswith("s3://")


def check_uri(uri: str) -> str:
    """A memory's address. Raises ValueError if it is neither a folder nor an address on S3."""
    if is_object_storage(uri) and not _S3.fullmatch(uri):
        raise ValueError("an address on S3 is s3://bucket/prefix, without credentials")
    if _SCHEME.match(uri) and not is_object_storage(uri):
        raise ValueError("a memory is kept in a folder, or at an address s3://bucket/prefix")
    return uri
