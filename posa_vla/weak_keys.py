"""Ed25519 public keys that are none: with them a signature that anybody can make counts."""

from __future__ import annotations

_P = 2**255 - 19


def _inverse(value: int) -> int:
    return pow(value, _P - 2, _P)  # 0 for 0, which only a coordinate beside the curve leads to


_D = -121665 * _inverse(121666) % _P


def weakness(key: bytes) -> str | None:
    """Why nobody can hold the private half of a public key, in words; None for a sound one.

    RFC 8032 leaves it to the reader to refuse these, and OpenSSL takes them. Eight points of the curve have an order
    that divides 8, the neutral one among them. A signature by one of them is easily made without any secret, for any
    text. A coordinate of 2^255 - 19 or more is a second spelling of a smaller one, which no key generator writes.

    Args:
        key: 32 bytes, as RFC 8032 encodes a point.
    """
    y = int.from_bytes(key, "little") & ((1 << 255) - 1)  # the highest bit is the sign of x
    if y >= _P:
        return "a point in a spelling that no key generator writes"
    for _ in range(3):  # twice a point, three times: on the curve -x^2 + y^2 = 1 + d x^2 y^2 its y needs no x
        square = (y * y - 1) * _inverse(_D * y * y + 1) % _P
        y = (y * y + square) * _inverse(1 - _D * square * y * y) % _P
    return "a point of small order, with which a signature that anybody can make counts" if y == 1 else None
