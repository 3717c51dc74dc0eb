"""Signatures of bundles: HMAC-SHA256, with a key that only those have who may change a bundle."""

from __future__ import annotations

from hmac import HMAC

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import constant_time_compare, salted_hmac

from gestore_sync.conf import get_option
from gestore_sync.exceptions import UntrustedBundle, WrongSetting

SALT = "gestore_sync.signatures"


class Signer:
    """Signs, or verifies, what comes piece by piece. Raises :class:`~gestore_sync.exceptions.WrongSetting`."""

    def __init__(self) -> None:
        self._codes: list[HMAC] = [salted_hmac(SALT, b"", key, algorithm="sha256") for key in get_keys()]

    def update(self, data: bytes) -> None:
        """Take the next piece."""
        for code in self._codes:
            code.update(data)

    def hexdigest(self) -> str:
        """The signature of all pieces so far, 64 hexadecimal digits."""
        return self._codes[0].hexdigest()

    def matches(self, signature: str) -> bool:
        """Whether all pieces so far were signed so, with the key or one that is still accepted."""
        return any(constant_time_compare(code.hexdigest(), signature) for code in self._codes)

    def verify(self, signature: str) -> None:
        """Raise :class:`~gestore_sync.exceptions.UntrustedBundle` where the signature is not that of the pieces."""
        if not self.matches(signature):
            raise UntrustedBundle(
                "The signature does not match: the file was changed after it was signed, or another key signed it. "
                'Get the file again, or see GESTORE_SYNC["SIGNING_KEY"] and GESTORE_SYNC["SIGNING_KEY_FALLBACKS"].'
            )


def sign(payload: bytes) -> str:
    """The signature of some bytes, 64 hexadecimal digits."""
    signer = Signer()
    signer.update(payload)
    return signer.hexdigest()


def verify(payload: bytes, signature: str) -> None:
    """Raise :class:`~gestore_sync.exceptions.UntrustedBundle` where the signature is not that of the bytes."""
    signer = Signer()
    signer.update(payload)
    signer.verify(signature)


def get_keys() -> list[str | bytes]:
    """The key that signs, then those that are still accepted.

    ``GESTORE_SYNC["SIGNING_KEY"]`` and ``["SIGNING_KEY_FALLBACKS"]``, or ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS``.
    """
    key: str | None = get_option("SIGNING_KEY")
    fallbacks: list[str] = list(get_option("SIGNING_KEY_FALLBACKS"))
    if key is not None:
        return [key, *fallbacks]
    try:
        return [settings.SECRET_KEY, *fallbacks, *settings.SECRET_KEY_FALLBACKS]
    except ImproperlyConfigured as error:
        raise WrongSetting(
            'A signature needs a key: set SECRET_KEY, or GESTORE_SYNC["SIGNING_KEY"], to a secret text.'
        ) from error
