"""Who is let in, and what every answer forbids the browser."""

from __future__ import annotations

import pytest
from browsing import Browser

from fsm_conn.inspector import Inspector
from fsm_conn.inspector.app import PAGE_FILES

TOKEN = "a-token-that-is-long-enough"
PATHS = ("/", "/main.js", "/api/feed", "/api/picture?of=1&theme=light&detail=full")
WISHES = ("/api/look", "/api/act", "/api/answer", "/api/steer")


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_whose_name_points_here_is_refused(path: str) -> None:
    """DNS rebinding: the browser takes such a page for one of ours, and only `Host` tells."""
    browser = Browser(Inspector(token=False).app)
    assert (await browser.get(path, host="evil.example:8765")).status == 421
    assert (await browser.get(path, host="127.0.0.1.evil.example")).status == 421
    assert (await browser.get(path, host="")).status == 421


@pytest.mark.parametrize("host", ["localhost:8765", "LOCALHOST", "127.0.0.1", "[::1]:9"])
async def test_this_machine_has_several_names(host: str) -> None:
    """By any of them, and any port, for a tunnel may have another."""
    assert (await Browser(Inspector(token=False).app).get("/", host=host)).status == 200


@pytest.mark.parametrize("path", WISHES)
async def test_a_page_of_another_origin_is_refused(path: str) -> None:
    """Also one of this machine on another port, one that is sandboxed, and one that says nothing of its origin."""
    browser = Browser(Inspector(token=False, allow=("fire",)).app)
    pages = ("http://evil.example", "http://127.0.0.1:9999", "null", "http://127.0.0.1:8765.evil.example", "http://[")
    for origin in pages:
        assert (await browser.post(path, {}, origin=origin)).status == 403
    for site in ("cross-site", "same-site"):
        assert (await browser.post(path, {}, sec_fetch_site=site)).status == 403
    assert (await browser.post(path, {}, origin="http://127.0.0.1:8765")).status in (400, 404)


@pytest.mark.parametrize("path", WISHES)
async def test_what_a_form_can_send_is_no_wish(path: str) -> None:
    """Only what needs the consent of the server before it is sent from elsewhere."""
    answer = await Browser(Inspector(token=False).app).post(path, {}, content_type="text/plain")
    assert answer.status == 415


async def test_the_token_opens_everything_but_the_empty_page() -> None:
    """Also for whoever is elsewhere, by a name that was given."""
    app = Inspector(host="0.0.0.0", hosts=("inspector.example",), token=TOKEN).app
    far = Browser(app, peer="203.0.113.7", host="inspector.example")
    assert (await far.get("/")).status == 200
    assert (await far.get("/main.js")).status == 200
    for wrong in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": TOKEN},
        {"authorization": f"bearer {TOKEN}"},
    ):
        assert (await far.get("/api/feed", **wrong)).status == 401
        assert (await far.post("/api/act", {}, **wrong)).status == 401
    assert (await far.post("/api/act", {}, authorization=f"Bearer {TOKEN}")).status == 400


async def test_without_a_token_only_this_machine_is_answered() -> None:
    """As where an application that mounts it listens on all addresses."""
    app = Inspector(token=False).app
    assert (await Browser(app, peer="203.0.113.7").get("/")).status == 403
    assert (await Browser(app, peer="::1").get("/")).status == 200
    assert (await Browser(app, peer=None).get("/")).status == 200  # a Unix socket


@pytest.mark.parametrize(
    "options", [{"host": "0.0.0.0"}, {"host": "::"}, {"hosts": ("inspector.example",)}, {"host": "192.0.2.1"}]
)
def test_others_could_reach_it_only_with_a_token(options: dict[str, object]) -> None:
    """It is refused before anything listens."""
    with pytest.raises(ValueError, match="needs a token"):
        Inspector(**options, token=False)  # type: ignore[arg-type]
    assert Inspector(**options, token=TOKEN).token == TOKEN  # type: ignore[arg-type]
    assert Inspector(**options).token  # type: ignore[arg-type]


@pytest.mark.parametrize("allow", [(), ("fire",)])
async def test_nobody_is_answered_without_a_token_unless_that_was_said(allow: tuple[str, ...]) -> None:
    """Not even on this machine, where others work, and behind a proxy of which all come from here."""
    inspector = Inspector(allow=allow)
    browser = Browser(inspector.app)
    assert (await browser.get("/")).status == 200  # the page, which holds nothing
    assert (await browser.get("/api/picture")).status == 401
    assert (await browser.post("/api/act", {})).status == 401
    assert (await browser.post("/api/act", {}, authorization=f"Bearer {inspector.token}")).status == 400
    assert inspector.token != Inspector().token
    open_to_all = Inspector(allow=allow, token=False)
    assert open_to_all.token is None
    assert (await Browser(open_to_all.app).post("/api/act", {})).status == 400


@pytest.mark.parametrize("token", ["short", "", "a token with a line\nbreak", "ein-Schlüssel-mit-Umlaut"])
def test_a_token_cannot_be_guessed(token: str) -> None:
    """And can be sent as a header."""
    with pytest.raises(ValueError, match="token: give at least 16"):
        Inspector(token=token)


@pytest.mark.parametrize("status", [200, 404, 401, 421])
async def test_every_answer_forbids_what_is_not_ours(status: int) -> None:
    """Scripts in the page, files from elsewhere, frames around it, and keeping it."""
    browser = Browser(Inspector(token=TOKEN).app)
    path, headers = {
        200: ("/", {}),
        404: ("/nothing", {"authorization": f"Bearer {TOKEN}"}),
        401: ("/api/feed", {}),
        421: ("/", {"host": "evil.example"}),
    }[status]
    answer = await browser.get(path, **headers)
    assert answer.status == status
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


async def test_no_other_file_is_given_away() -> None:
    """Whatever the path says; only the names of the page's own files mean anything."""
    browser = Browser(Inspector(token=False).app)
    for path in (
        "/../inspector.py",
        "/..%2finspector.py",
        "/page/main.js",
        "/main.js/",
        "/.",
        "/__init__.py",
        "//etc/passwd",
    ):
        assert (await browser.get(path)).status in (404, 307), path
    for name in PAGE_FILES:
        assert (await browser.get(f"/{name}")).status == 200


async def test_a_mounted_page_is_guarded_alike() -> None:
    """What needs the token is told apart by the file, not by where it is mounted."""
    browser = Browser(Inspector(token=TOKEN).app)
    for root in ("/inspect", "/api", "/api/feed"):
        assert (await browser.get("/", root=root)).status == 200
        assert (await browser.get("/api/feed", root=root)).status == 401
        assert (await browser.get("/api/picture", root=root)).status == 401
    assert (await browser.get("", root="/inspect")).status == 307


async def test_a_wish_is_small_and_well_formed() -> None:
    """What is not, is refused before it is read to its end."""
    browser = Browser(Inspector(token=False).app)
    for body in (b"{", b"[]", b"7", b"[" * 5000, b"\xff"):
        assert (await browser.ask("POST", "/api/look", body, content_type="application/json")).status == 400
    large = await browser.ask("POST", "/api/look", b" " * 20_000, content_type="application/json")
    assert large.status == 413
    for wish in ({}, {"window": None}, {"window": "guessed"}, {"window": ["x"]}):
        assert (await browser.post("/api/look", wish)).status == 404
    for wish in ({"act": 7}, {"act": "fire", "trigger": 7}, {}):
        assert (await browser.post("/api/act", wish)).status == 400


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """No address of another host stands in it, and no script in its markup."""
    from fsm_conn.inspector.app import PAGE

    for path in PAGE.iterdir():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, path
        assert "https:" not in text, path
        for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert sink not in text, (path, sink)
    assert "<script>" not in (PAGE / "index.html").read_text("utf-8")
    assert sum(path.stat().st_size for path in PAGE.iterdir()) < 300_000
