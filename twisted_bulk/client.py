"""Clients of the API for Python programs, and a check of callbacks. Rooms: api_client/."""

from twisted_bulk.api_client.async_client import AsyncClient
from twisted_bulk.api_client.extraction import extract
from twisted_bulk.api_client.failures import (
    BadSignature,
    ClientError,
    DownloadFailed,
    NotBulkwav,
    Refused,
    Unreachable,
    WaitTimeout,
)
from twisted_bulk.api_client.sync_client import Client
from twisted_bulk.api_client.webhook import verify

__all__ = [
    "AsyncClient",
    "BadSignature",
    "Client",
    "ClientError",
    "DownloadFailed",
    "NotBulkwav",
    "Refused",
    "Unreachable",
    "WaitTimeout",
    "extract",
    "verify",
]
