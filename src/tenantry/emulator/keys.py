"""An RSA-2048 key derived from a seed, so that one seed is one instance on every machine.

Such a key is no secret: it signs for development only. e is 65537 because Clerk's JavaScript SDK knows no other
form (it cuts a fixed prefix and suffix off the PEM).
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_EXPONENT = 65537
_SMALL_PRIMES = tuple(n for n in range(3, 2000, 2) if all(n % d for d in range(3, math.isqrt(n) + 1, 2)))
_SMALL_PRODUCT = math.prod(_SMALL_PRIMES)
_WITNESSES = (2, *_SMALL_PRIMES[:23])


@lru_cache(maxsize=16)
def derive_private_key(seed: str) -> str:
    """PEM (PKCS 8) of the key that belongs to `seed`."""
    p, q = _derive_prime(f"{seed}:p"), _derive_prime(f"{seed}:q")
    d = pow(_EXPONENT, -1, math.lcm(p - 1, q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), rsa.rsa_crt_iqmp(p, q), rsa.RSAPublicNumbers(_EXPONENT, p * q)
    )
    pem = numbers.private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


def _derive_prime(seed: str) -> int:
    """1024 bits, the two highest set: a product of two such primes has exactly 2048."""
    start = int.from_bytes(hashlib.shake_256(seed.encode()).digest(128), "big")
    candidate = start | (0b11 << 1022) | 1
    while not _is_prime(candidate) or math.gcd(candidate - 1, _EXPONENT) != 1:
        candidate += 2
    return candidate


def _is_prime(number: int) -> bool:
    """Miller-Rabin; wrong with a chance below 4 ** -24."""
    if math.gcd(number, _SMALL_PRODUCT) != 1:
        return False
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(witness, odd, twos, number) for witness in _WITNESSES)


def _passes(witness: int, odd: int, twos: int, number: int) -> bool:
    power = pow(witness, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False
