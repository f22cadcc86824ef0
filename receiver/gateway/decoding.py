"""Decodes an answer that has a content encoding although the gateway requested none. Memory is limited."""

import zlib

DECODED_BYTES_MAX = 32 * 1024 * 1024
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Undecodable(Exception):
    """An answer cannot be decoded; the message says why."""


def is_encoded(encoding: str) -> bool:
    return encoding.strip().lower() not in {"", "identity"}


def decode(content: bytes, encoding: str) -> bytes:
    """Blocking. Raises Undecodable for an encoding other than gzip and deflate, for one that is broken or cut, and for
    more than `DECODED_BYTES_MAX`."""
    bits = _WINDOW_BITS.get(encoding.strip().lower())
    if bits is None:
        raise Undecodable("the answer has an encoding that the gateway did not ask for")
    decoded = bytearray()
    while content:  # gzip may have several members
        reader = zlib.decompressobj(bits)
        try:
            decoded += reader.decompress(content, DECODED_BYTES_MAX + 1 - len(decoded))
        except zlib.error:
            raise Undecodable("the encoded answer is broken") from None
        if len(decoded) > DECODED_BYTES_MAX:
            raise Undecodable("the encoded answer becomes too large")
        if not reader.eof:
            raise Undecodable("the encoded answer is cut")
        content = reader.unused_data
    return bytes(decoded)
