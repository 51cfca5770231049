"""The model hub, spoken to through huggingface_hub: a repository's files, and their bytes from any place on.

The hub's own downloads begin again from nothing when they were stopped, so only its parts are used here.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urljoin, urlsplit

from ..errors import DownloadFailed
from .hub_files import RemoteFile
from .hub_redirects import refuse_redirects_inwards

if TYPE_CHECKING:
    from huggingface_hub import HfApi

DEFAULT_ENDPOINT = "https://huggingface.co"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ATTEMPTS = 5
_SILENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository's files as they are at `commit`."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub's address, the token that is sent there and to no other host, and the pause before another attempt."""

    endpoint: str = DEFAULT_ENDPOINT
    token: str | None = field(default=None, repr=False)
    pause_seconds: float = 1.0

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Hub:
        """HF_ENDPOINT and HF_TOKEN; the token of `hf auth login` goes to the hub that it was made for alone.

        Raises `DownloadFailed` for a token that would travel in the clear.
        """
        endpoint = (environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
        token = environ.get("HF_TOKEN") or (_logged_in_token() if endpoint == DEFAULT_ENDPOINT else None)
        parts = urlsplit(endpoint)
        if token and parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise DownloadFailed(
                f"HF_ENDPOINT {endpoint} is not https, so HF_TOKEN is not sent there; unset one of them"
            )
        return cls(endpoint, token)

    def listing(self, repo: str, revision: str | None) -> Listing:
        """Raises `DownloadFailed` with the reason."""
        with _told(self, repo):
            info = self._api().model_info(repo, revision=revision, files_metadata=True, timeout=_SILENCE_SECONDS)
        files = tuple(
            RemoteFile(each.rfilename, each.size or 0, each.lfs.sha256 if each.lfs else None, each.blob_id)
            for each in info.siblings or []
        )
        if info.sha is None:
            raise DownloadFailed(f"{self.endpoint} names no commit of {repo}; is HF_ENDPOINT a model hub?")
        return Listing(repo, info.sha, files)

    def fetch(self, listing: Listing, file: RemoteFile, path: Path, on_bytes: Callable[[int], None]) -> None:
        """Write what is missing of `file` to the end of `path`.

        `on_bytes` is told of each piece, negative where pieces are taken back; what it raises ends the
        download and leaves the bytes that are there. Raises `DownloadFailed`.
        """
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(listing.repo, file.name, revision=listing.commit, endpoint=self.endpoint)
        with _told(self, listing.repo), path.open("ab") as target:
            _get(self, url, target, file, on_bytes)

    def read_start(self, listing: Listing, file: RemoteFile, num_bytes: int) -> bytes:
        """The first bytes of a file, and no more of it. Raises `DownloadFailed`."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import hf_raise_for_status, http_stream_backoff

        url = hf_hub_url(listing.repo, file.name, revision=listing.commit, endpoint=self.endpoint)
        found = b""
        with _told(self, listing.repo):
            place, headers = _place(self, url)
            headers |= {"range": f"bytes=0-{num_bytes - 1}"}
            with http_stream_backoff("GET", place, headers=headers, timeout=_SILENCE_SECONDS) as response:
                hf_raise_for_status(response)
                for piece in response.iter_bytes():
                    found += piece
                    if len(found) >= num_bytes:  # a server that knows no ranges would go on to the end
                        break
        return found[:num_bytes]

    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(self.endpoint, token=self.token or False, library_name="omlx")

    def headers(self, url: str) -> dict[str, str]:
        """The token, for this hub's own host alone."""
        own, other = urlsplit(self.endpoint), urlsplit(url)
        is_own = (own.scheme, own.netloc) == (other.scheme, other.netloc)
        return {"authorization": f"Bearer {self.token}"} if self.token and is_own else {}


def _get(hub: Hub, url: str, target: BinaryIO, file: RemoteFile, on_bytes: Callable[[int], None]) -> None:
    """Get the rest of the file, in several attempts while they bring something."""
    import httpx2

    attempts = _ATTEMPTS
    while (have := target.seek(0, os.SEEK_END)) < file.size:
        try:
            _get_once(hub, url, target, have, on_bytes)
        except httpx2.TransportError:
            attempts = _ATTEMPTS if target.tell() > have else attempts - 1
            if attempts == 0:
                raise
            time.sleep(hub.pause_seconds)
            on_bytes(0)  # it may have been stopped meanwhile


def _get_once(hub: Hub, url: str, target: BinaryIO, have: int, on_bytes: Callable[[int], None]) -> None:
    """Follow `url` to the file's place, and write what comes from there, `have` bytes on."""
    from huggingface_hub.utils import hf_raise_for_status, http_stream_backoff

    place, headers = _place(hub, url)
    headers |= {"range": f"bytes={have}-"}
    with http_stream_backoff(
        "GET",
        place,
        headers=headers,
        timeout=_SILENCE_SECONDS,
        retry_on_exceptions=(),
        retry_on_status_codes=(408, 429),
    ) as response:
        hf_raise_for_status(response)
        if have and response.status_code != HTTPStatus.PARTIAL_CONTENT:  # it starts from the beginning
            target.truncate(0)
            on_bytes(-have)
        for piece in response.iter_bytes():
            target.write(piece)
            on_bytes(len(piece))


def _place(hub: Hub, url: str) -> tuple[str, dict[str, str]]:
    """Where the file's bytes lie, and the headers to ask for them with."""
    from huggingface_hub import get_hf_file_metadata

    place = urljoin(url, get_hf_file_metadata(url, token=False, headers=hub.headers(url)).location)
    return place, {**hub.headers(place), "accept-encoding": "identity"}


def _logged_in_token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


@contextmanager
def _told(hub: Hub, repo: str) -> Iterator[None]:
    """What the hub's library raises, as our own error with its remedy."""
    import httpx2
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    refuse_redirects_inwards()
    try:
        yield
    except GatedRepoError:
        raise DownloadFailed(
            f"{repo} is gated: ask for access on {hub.endpoint}/{repo}, then set HF_TOKEN to a token of yours"
        ) from None
    except RepositoryNotFoundError:
        remedy = "HF_TOKEN may not open it" if hub.token else "where it is private, set HF_TOKEN"
        raise DownloadFailed(f"there is no model {repo} at {hub.endpoint}; check its name, and {remedy}") from None
    except RevisionNotFoundError:
        raise DownloadFailed(f"{repo} has no such revision; leave --revision out for its newest") from None
    except HfHubHTTPError as error:
        raise DownloadFailed(
            f"{hub.endpoint} answered HTTP {error.response.status_code} for {repo}; try again"
        ) from error
    except (httpx2.HTTPError, ConnectionError) as error:
        raise DownloadFailed(
            f"{hub.endpoint} cannot be reached ({error or type(error).__name__}); "
            "try again: it goes on from what is there"
        ) from error
