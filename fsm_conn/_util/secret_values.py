"""Decides which values of an environment are secrets that must not be shown.

A value is a secret unless it plainly is not: evidence in which every `test` and `/srv` is hidden helps nobody. These
are not secrets:

- what is public anyway: values that the host's environment holds under an innocent name, and the words of the plugin's
  command, which every user of the machine can read;
- a path, a URL without a password and a query, and words, names and small numbers, one or a few;
- anything shorter than four characters without surrounding blanks, and one character repeated.

The first two do not hold for a variable whose name denotes a secret (`API_KEY`, `DB_PASSWORD`), except for a path under
a name that denotes a path (`TLS_KEY_FILE`, a shell's `PWD`). The password of a URL is a secret under any name, and so
are values of its query whose names denote secrets.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from fsm_conn._util.redact import HIDDEN, SHORTEST_SECRET

__all__ = ["secrets_around", "secrets_in", "secrets_of_url", "without_secrets"]

_SECRET_NAME = re.compile(
    r"COOKIE|TOKEN|SECRET|PASS|PWD|KEY|CRED|AUTH(?!OR)|BEARER|JWT|PRIVATE|SALT|SIGNATURE|SESSION|DSN|\bPIN\b|_PIN\b|LICEN[CS]E",
    re.IGNORECASE,
)
_PATH_NAME = re.compile(
    r"(?:FILE|PATH|DIR|DIRECTORY|HOME|ROOT|SOCK|SOCKET|CREDENTIALS|CONFIG|BUNDLE|CERTS?)$|\A(?:OLD)?PWD\Z",
    re.IGNORECASE,
)
_PLAIN = frozenset({"true", "false", "none", "null", "auto", "trace", "debug", "info", "warn", "warning", "error"})
_SMALL_NUMBER = re.compile(r"[0-9.,:-]{1,5}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_PATHS = re.compile(r"(?:~|\.{1,2})?/[^\s?#=&;|<>*'\"$`\\]*")
_TOKENS = re.compile(r"[^\W_]+")
_WORD = re.compile(r"(?:[a-z]{1,15}|[A-Z]{1,15}|(?:[A-Z]?[a-z]{2,12}){1,4}|[A-Z][a-z]{1,14})")
_NUMBERED = re.compile(
    r"[0-9]{1,5}(?:ms|s|m|h|d|k|kb|mb|gb|kib|mib|gib|ki|mi|gi)?|v[0-9]{1,3}|[a-z]{1,3}[0-9]{1,2}", re.IGNORECASE
)
_TECHNICAL = re.compile(
    r"https?|xml|html|[0-9]{1,3}color|utf8|utf16|iso8859|latin1|sha1|sha256|sha384|sha512|md5|http2|h2c?|ipv[46]|x86|x64|amd64|arm64|i[36]86|win(?:32|64)|"
    r"(?:python|py|go|java|node|ruby|openssl|tls|log4j|postgres|redis|mysql|kafka|db|web|host|node|zone|worker|server|us|eu)[0-9]{1,3}",
    re.IGNORECASE,
)
_UNSPOKEN = re.compile(r"[^aeiouy]{5}|\A[^aeiouy]+\Z", re.IGNORECASE)
_MOST_TOKENS, _LONGEST_PHRASE = 4, 24
"""The limits of words and characters of a plain value: a longer one may be a passphrase."""


def secrets_in(env: Mapping[str, str], ambient: Collection[str] = (), command: Collection[str] = ()) -> Iterator[str]:
    """The values of `env` to hide, and the secrets within them.

    Args:
        env: what the user handed to the plugin.
        ambient: values the plugin would have seen anyway, such as those of the host's environment.
        command: the words of the plugin's command.
    """
    for name, value in env.items():
        if len(value.strip()) >= SHORTEST_SECRET and _is_secret(name, value, ambient, command):
            yield value
        yield from secrets_of_url(value)


def secrets_around(environ: Mapping[str, str]) -> Iterator[str]:
    """The secret values of the host's own environment, by name: a plugin sees them."""
    for name, value in environ.items():
        if len(value.strip()) >= SHORTEST_SECRET and _SECRET_NAME.search(name) and not _is_plainly_none(name, value):
            yield value
        yield from secrets_of_url(value)


def secrets_of_url(value: str) -> Iterator[str]:
    """The password of a URL, and the values of its query whose names denote secrets."""
    if "://" not in value:
        return
    try:
        parts = urlsplit(value)
        password, query = parts.password, parse_qsl(parts.query, max_num_fields=100)
    except ValueError:
        return
    found = {password or "", unquote(password or ""), *(item for name, item in query if _SECRET_NAME.search(name))}
    yield from (part for part in found if len(part) >= SHORTEST_SECRET and part.lower() not in _PLAIN)


def without_secrets(text: str) -> str:
    """A target, which may be a URL, without its password and the values of its query."""
    text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    return _QUERY.sub(rf"\1{HIDDEN}", text)


_USERINFO = re.compile(r"(//[^/?#\s:@]*:)[^/?#\s]*@")
_QUERY = re.compile(r"([?&][^=&\s]+=)[^&\s#]+")


def _is_secret(name: str, value: str, ambient: Collection[str], command: Collection[str]) -> bool:
    if _SECRET_NAME.search(name):
        return not _is_path_by_name(name, value)
    return not (value in ambient or any(value in word for word in command) or _is_plain(value))


def _is_plainly_none(name: str, value: str) -> bool:
    """The rule for the host's environment, where names alone prove little."""
    return value.lower() in _PLAIN or _SMALL_NUMBER.fullmatch(value) is not None or _is_path_by_name(name, value)


def _is_path_by_name(name: str, value: str) -> bool:
    return _PATH_NAME.search(name) is not None and _PATHS.fullmatch(value) is not None


def _is_plain(value: str) -> bool:
    """Whether it is made of nothing but words, names and small numbers."""
    if _SMALL_NUMBER.fullmatch(value) or len(set(value)) == 1:
        return True
    tokens = _TOKENS.findall(value)
    if not tokens or not all(map(_is_word, tokens)):
        return False
    if _URL.fullmatch(value):
        return not any(each in value for each in "@?#")
    if all(_PATHS.fullmatch(each) for each in value.split(":") if each):
        return True
    return "," in value or len(tokens) <= _MOST_TOKENS or len(value) <= _LONGEST_PHRASE


def _is_word(token: str) -> bool:
    if _NUMBERED.fullmatch(token) or _TECHNICAL.fullmatch(token):
        return True
    return _WORD.fullmatch(token) is not None and (len(token) <= 4 or _UNSPOKEN.search(token) is None)
