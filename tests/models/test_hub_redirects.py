"""A hub sends on to its storage, and never into the network that omlx runs in."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx2
import pytest

from omlx.server.errors import DownloadFailed
from omlx.server.models.hub import Hub, PullRequest, pull
from omlx.server.models.hub_redirects import check_redirect

from .fake_hub import running_hub, weights

INWARDS = [
    ("http://169.254.169.254/latest/meta-data", "which is not https"),
    ("https://169.254.169.254/", "whose address 169.254.169.254 is not on the internet"),
    ("https://localhost/", "is not on the internet"),
    ("https://[::ffff:10.0.0.1]/", "is not on the internet"),
    ("https://2130706433/", "whose address 127.0.0.1 is not on the internet"),
    ("https://100.100.100.200/", "is not on the internet"),
    ("http://93.184.216.34/", "which is not https"),
    ("file:///etc/passwd", "which is not https"),
    ("https://[::1/", "no address"),
    ("https://a..b/", "no address"),
    (f"https://{'a' * 64}.example/", "no address"),
]
OUTWARDS = ["/elsewhere", "https://93.184.216.34/", "https://hub.example:8443/", "https://198.18.0.9/"]


def redirect(asked: str, target: str) -> httpx2.Response:
    return httpx2.Response(302, headers={"location": target}, request=httpx2.Request("GET", asked))


@pytest.mark.parametrize(("target", "words"), INWARDS)
def test_a_redirect_inwards_or_without_tls_is_refused(target: str, words: str) -> None:
    with pytest.raises(DownloadFailed, match=f"^hub.example sends on to .*{words}"):
        check_redirect(redirect("https://hub.example/a", target))


@pytest.mark.parametrize("target", OUTWARDS)
def test_a_redirect_on_the_internet_is_followed(target: str) -> None:
    check_redirect(redirect("https://hub.example/a", target))


def test_a_mirror_without_tls_may_send_on_to_itself_and_one_with_tls_may_not_leave_it() -> None:
    check_redirect(redirect("http://10.0.0.5:80/a", "http://10.0.0.5:9000/b"))
    check_redirect(redirect("http://10.0.0.5:80/a", "https://10.0.0.5/b"))
    with pytest.raises(DownloadFailed, match="not https"):
        check_redirect(redirect("https://10.0.0.5/a", "http://10.0.0.5/b"))
    with pytest.raises(DownloadFailed, match="not on the internet"):
        check_redirect(redirect("http://10.0.0.5/a", "https://10.0.0.6/b"))


def test_a_name_needs_one_address_on_the_internet_and_one_that_only_a_proxy_knows_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {
        "cdn.example": ["93.184.216.34"],
        "faked.example": ["fdfe:dcba:9876::7", "198.18.0.7"],
        "inner.example": ["10.0.0.7", "fd00::7"],
        "xn--fa-hia.example": ["10.0.0.8"],
    }

    def resolve(host: str, _port: None, **_options: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(0, 0, 0, "", (address, 0)) for address in names[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for name in ("cdn.example", "faked.example", "unknown.example"):
        check_redirect(redirect("https://hub.example/", f"https://{name}/"))
    with pytest.raises(DownloadFailed, match=r"inner\.example, whose address 10\.0\.0\.7"):
        check_redirect(redirect("https://hub.example/", "https://inner.example/"))
    with pytest.raises(DownloadFailed, match=r"faß\.example, whose address 10\.0\.0\.8"):
        check_redirect(redirect("https://hub.example/", "https://xn--fa-hia.example/"))


@pytest.mark.parametrize("side", ["api", "hub", "storage"])
def test_no_step_of_a_download_follows_one(side: str, tmp_path: Path) -> None:
    with running_hub() as fake:
        fake.files = {"config.json": b'{"model_type": "llama"}', "model.safetensors": weights(1000)}
        fake.sends_on = {side: "http://localhost:1/"}
        with pytest.raises(DownloadFailed, match=r"^127\.0\.0\.1 sends on to http://localhost, which is not https"):
            pull(PullRequest("org/model"), tmp_path, Hub(fake.url, pause_seconds=0.0))
