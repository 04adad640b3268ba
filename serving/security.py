"""Who may ask, and over which wire: API keys and TLS, both optional, both by file."""

import hmac
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from serving.errors import ConfigurationError


class KeyRing:
    """The API keys that open the endpoint; several, so that one can be replaced while the other still works."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def admits(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request shows a key, as `Authorization: Bearer KEY` or as `X-API-Key: KEY`."""
        shown = headers.get(b"x-api-key")
        if shown is None:
            scheme, _, shown = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer":
                return False
        shown = shown.strip()
        # Every key is compared, each in constant time: how long it takes tells nothing about any of them.
        return sum([hmac.compare_digest(shown, key) for key in self._keys]) > 0


def read_keys(path: Path) -> KeyRing:
    """The keys in a file, one a line; empty lines and lines that start with # are passed over.

    Raises `ConfigurationError`, which never quotes a key.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except OSError as error:
        raise ConfigurationError(f"the API key file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"the API key file {path} is not text in UTF-8") from None
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ConfigurationError(f"the API key file {path} holds no key; write one a line")
    if not all(key.isascii() and key.isprintable() and " " not in key for key in keys):
        raise ConfigurationError(f"the API key file {path} holds a key that no header can carry; use ASCII, no spaces")
    return KeyRing(keys)


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """TLS 1.2 and later with a certificate chain and its key, both PEM; `None` where neither is given.

    Raises `ConfigurationError`.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigurationError("TLS takes both --tls-cert and --tls-key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{certificate} and {key} are no PEM certificate and its key: {error.reason}"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{error.filename or certificate} cannot be read: {error.strerror}") from None
    return context
