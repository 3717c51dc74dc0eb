from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from gestore_sync.conf import find_setting_errors
from gestore_sync.exceptions import BundleError, UntrustedBundle, WrongSetting
from gestore_sync.signatures import SALT, Signer, sign, verify


def test_what_was_signed_is_verified() -> None:
    verify(b"content", sign(b"content"))


def test_a_signature_is_an_hmac_of_sha256(settings: Any) -> None:
    settings.SECRET_KEY = "a secret"
    key = hashlib.sha256(SALT.encode() + b"a secret").digest()

    assert sign(b"content") == hmac.new(key, b"content", hashlib.sha256).hexdigest()


@pytest.mark.parametrize("content", [b"", b"Content", b"content ", b"conten"])
def test_other_content_is_refused(content: bytes) -> None:
    with pytest.raises(UntrustedBundle, match="The signature does not match"):
        verify(content, sign(b"content"))


@pytest.mark.parametrize("change", [str.upper, lambda text: text[:-1], lambda text: "", lambda text: f"ä{text}"])
def test_another_signature_is_refused(change: Any) -> None:
    signature = change("a" + sign(b"content")[1:])

    with pytest.raises(UntrustedBundle):
        verify(b"content", signature)


def test_content_that_comes_in_pieces_has_the_same_signature() -> None:
    signer = Signer()
    for piece in (b"con", b"", b"tent"):
        signer.update(piece)

    assert signer.hexdigest() == sign(b"content")
    signer.verify(sign(b"content"))
    assert not signer.matches(sign(b"conten"))


def test_no_content_can_be_signed() -> None:
    assert Signer().hexdigest() == sign(b"")
    verify(b"", sign(b""))


def test_another_key_is_refused(settings: Any) -> None:
    signature = sign(b"content")
    settings.SECRET_KEY = "another"

    with pytest.raises(UntrustedBundle):
        verify(b"content", signature)


def test_a_key_of_its_own_takes_the_place_of_the_secret_key(settings: Any) -> None:
    settings.GESTORE_SYNC = {"SIGNING_KEY": "shared"}
    signature = sign(b"content")

    settings.SECRET_KEY = "of another site"
    verify(b"content", signature)

    settings.GESTORE_SYNC = {"SIGNING_KEY": "another"}
    with pytest.raises(UntrustedBundle):
        verify(b"content", signature)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"SECRET_KEY": "old"}, {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": ["older", "old"]}),
        ({"SECRET_KEY": "old"}, {"SECRET_KEY": "new", "GESTORE_SYNC": {"SIGNING_KEY_FALLBACKS": ["old"]}}),
        ({"SECRET_KEY": "old"}, {"GESTORE_SYNC": {"SIGNING_KEY": "new", "SIGNING_KEY_FALLBACKS": ["old"]}}),
        (
            {"GESTORE_SYNC": {"SIGNING_KEY": "old"}},
            {"GESTORE_SYNC": {"SIGNING_KEY": "new", "SIGNING_KEY_FALLBACKS": ["older", "old"]}},
        ),
    ],
)
def test_a_key_that_was_replaced_is_still_accepted(
    settings: Any, before: dict[str, Any], after: dict[str, Any]
) -> None:
    for name, value in before.items():
        setattr(settings, name, value)
    signature = sign(b"content")
    for name, value in after.items():
        setattr(settings, name, value)

    verify(b"content", signature)
    assert sign(b"content") != signature


def test_the_secret_key_is_not_accepted_where_there_is_a_key_for_bundles(settings: Any) -> None:
    settings.SECRET_KEY = "old"
    signature = sign(b"content")
    settings.SECRET_KEY_FALLBACKS = ["old"]
    settings.GESTORE_SYNC = {"SIGNING_KEY": "shared"}

    with pytest.raises(UntrustedBundle):
        verify(b"content", signature)


def test_a_signature_of_another_kind_is_no_signature_of_a_bundle(settings: Any) -> None:
    settings.SECRET_KEY = "a secret"
    signature = hmac.new(b"a secret", b"content", hashlib.sha256).hexdigest()

    with pytest.raises(UntrustedBundle):
        verify(b"content", signature)


@pytest.mark.parametrize(
    "given",
    [
        {"SIGNING_KEY": ""},
        {"SIGNING_KEY": b"hidden"},
        {"SIGNING_KEY_FALLBACKS": "hidden"},
        {"SIGNING_KEY_FALLBACKS": ["hidden", ""]},
        {"SIGNING_KEY_FALLBACKS": ["hidden", None]},
    ],
)
def test_a_key_that_is_none_is_told_and_not_shown(settings: Any, given: dict[str, Any]) -> None:
    settings.GESTORE_SYNC = given

    with pytest.raises(WrongSetting, match=next(iter(given))) as caught:
        sign(b"content")

    assert "hidden" not in f"{caught.value} {find_setting_errors()}"


def test_no_key_at_all_is_told(settings: Any) -> None:
    settings.SECRET_KEY = ""

    with pytest.raises(WrongSetting, match="A signature needs a key"):
        sign(b"content")


def test_a_bundle_that_is_not_trusted_is_one_that_cannot_be_imported() -> None:
    assert issubclass(UntrustedBundle, BundleError)
