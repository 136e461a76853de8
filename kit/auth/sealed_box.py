"""Messages that only one process can read: sealed for its public key, which is made for one answer.

Source: libsodium, "Sealed boxes" (X25519, XSalsa20-Poly1305), by PyNaCl.
"""

from __future__ import annotations

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox


class OneTimeKey:
    """Key pair for one answer."""

    def __init__(self) -> None:
        """Make a pair."""
        self._private = PrivateKey.generate()

    @property
    def public(self) -> str:
        """Return the public key, in hexadecimal."""
        return bytes(self._private.public_key).hex()

    def open(self, sealed: bytes) -> bytes:
        """Return the message of a sealed answer.

        Raises:
            ValueError: it was not sealed for this key.
        """
        try:
            return SealedBox(self._private).decrypt(sealed)
        except CryptoError as error:
            raise ValueError("the answer was not sealed for this key") from error


def seal(public_key: str, message: bytes) -> bytes:
    """Return a message that only the owner of a public key (32 bytes in hexadecimal) can read."""
    return SealedBox(PublicKey(bytes.fromhex(public_key))).encrypt(message)
