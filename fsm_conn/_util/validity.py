"""Whether a certificate is valid now. Peers refuse one that is not, often without saying why."""

from __future__ import annotations

import datetime

__all__ = ["why_invalid"]


def why_invalid(pem: bytes) -> str:
    """Why the first certificate in `pem` is not valid now: "expired on ..."; "" if it is, or if it cannot be read."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(pem)
        since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except ValueError:  # whoever uses it says what is wrong with it
        return ""
    now = datetime.datetime.now(datetime.UTC)
    if now > until:
        return f"expired on {until:%Y-%m-%d at %H:%M} UTC"
    return f"is not valid before {since:%Y-%m-%d at %H:%M} UTC" if now < since else ""
