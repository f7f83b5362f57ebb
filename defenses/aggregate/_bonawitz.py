"""The secure-aggregation protocol of Bonawitz et al. 2017, with an honest-but-curious server.

Everything that passes between a `Client` and the `Server` is bytes, and nothing else is shared.

==========  ==================================================  =======================================
step        each client sends                                   and receives
==========  ==================================================  =======================================
advertise   two X25519 public keys                              everybody's, in order: the directory
share       for each other client, encrypted to it: a share of  what the others encrypted to it
            its mask key and one of its own seed
mask        its vector plus all masks                           who survived
reveal      of survivors the share of the seed, of the others   -
            the share of the mask key
==========  ==================================================  =======================================

Client u sends ``x_u + PRG(b_u) + sum_{v > u} PRG(s_uv) - sum_{v < u} PRG(s_uv)`` modulo 2^bits, with
``s_uv`` agreed between u and v (X25519, HKDF-SHA256) and PRG the ChaCha20 keystream. Pairwise masks
cancel between survivors. Those towards a client that vanished are taken away through its mask key, and
the survivors' own masks through their seeds b_u, each put together from `threshold` shares. Nobody
reveals both for the same client: the server learns the sum and nothing more unless `threshold` clients
help it.

All keys live for one round and in memory only. Big integers are Python's, whose time depends on their
value: fit for measuring costs, not for hostile machines.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Mapping

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from medleak.api import MedleakError
from medleak.defenses.aggregate import _shamir

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
PAIR_BYTES = 2 * _shamir.SHARE_BYTES
PARCEL_BYTES = NONCE_BYTES + PAIR_BYTES + TAG_BYTES
SESSION_BYTES = 16


class Client:
    """One client in one round: ``advertise``, ``share``, ``mask``, ``reveal``, in that order.

    Args:
        place: from 0, its place in the directory.
        threshold: shares that unmask, and the fewest survivors that it unmasks for.
    """

    def __init__(self, place: int, threshold: int):
        self._place = place
        self._threshold = threshold
        self._parcel_key, self._mask_key = (os.urandom(KEY_BYTES) for _ in range(2))
        self._seed = os.urandom(KEY_BYTES)
        self._directory = b""
        self._held: list[bytes] = []

    def advertise(self) -> bytes:
        """Its two public keys."""
        return b"".join(_public(key) for key in (self._parcel_key, self._mask_key))

    def share(self, directory: bytes) -> bytes:
        """For each other client, in order, its shares of mask key and seed, encrypted to it."""
        self._directory = directory
        everyone = range(len(_keys(directory)))
        pairs = [
            key + seed
            for key, seed in zip(
                *(
                    _shamir.split(secret, self._threshold, len(everyone))
                    for secret in (self._mask_key, self._seed)
                ),
                strict=True,
            )
        ]
        self._held = [b""] * len(everyone)
        self._held[self._place] = pairs[self._place]
        parcels = []
        for peer in everyone:
            if peer != self._place:
                nonce, about = os.urandom(NONCE_BYTES), self._about(self._place, peer)
                parcels.append(nonce + self._box(peer).encrypt(nonce, pairs[peer], about))
        return b"".join(parcels)

    def mask(self, inbox: bytes, values: np.ndarray) -> bytes:
        """``(P,)`` unsigned `values` under all masks, after the number of the session.

        Raises:
            MedleakError: a parcel that was not encrypted by its sender to this client.
        """
        self._open(inbox)
        masked = values.copy()
        masked += keystream(self._seed, len(values), values.dtype)
        for peer, (_, key) in enumerate(_keys(self._directory)):
            if peer != self._place:
                stream = keystream(agreed(self._mask_key, key), len(values), values.dtype)
                _add(masked, stream, plus=peer > self._place)
        return session(self._directory) + masked.tobytes()

    def reveal(self, survivors: bytes) -> bytes:
        """Of each survivor the share of its seed, of each other client that of its mask key.

        Raises:
            MedleakError: fewer survivors than the threshold, or a second request: two answers could
                give away both secrets of one client.
        """
        alive = set(_places(survivors))
        if not self._held:
            raise MedleakError(f"client at place {self._place} has revealed its shares already")
        if len(alive) < self._threshold:
            raise MedleakError(
                f"client at place {self._place} does not unmask {len(alive)} survivors: "
                f"{self._threshold} are needed"
            )
        cut = _shamir.SHARE_BYTES
        held, self._held = self._held, []
        return b"".join(
            pair[cut:] if place in alive else pair[:cut] for place, pair in enumerate(held)
        )

    def _open(self, inbox: bytes) -> None:
        peers = [peer for peer in range(len(self._held)) if peer != self._place]
        for peer, parcel in zip(peers, _cut(inbox, PARCEL_BYTES), strict=True):
            nonce, sealed = parcel[:NONCE_BYTES], parcel[NONCE_BYTES:]
            try:
                about = self._about(peer, self._place)
                self._held[peer] = self._box(peer).decrypt(nonce, sealed, about)
            except InvalidTag:
                raise MedleakError(
                    f"the parcel from place {peer} to place {self._place} was not encrypted for it"
                ) from None

    def _box(self, peer: int) -> ChaCha20Poly1305:
        theirs = _keys(self._directory)[peer][0]
        return ChaCha20Poly1305(agreed(self._parcel_key, theirs))

    def _about(self, sender: int, receiver: int) -> bytes:
        return session(self._directory) + struct.pack("<II", sender, receiver)


class Server:
    """Passes messages on, adds masked vectors up and removes the masks that are left.

    Args:
        clients: in the order of the directory.
        threshold: shares that unmask, and the fewest survivors.
        length, dtype: of the vectors.
    """

    def __init__(self, clients: Iterable[int], threshold: int, length: int, dtype: np.dtype):
        self._place = {client: place for place, client in enumerate(clients)}
        self._threshold = threshold
        self._length = length
        self._dtype = dtype
        self._directory = b""
        self._masked: dict[int, np.ndarray] = {}

    def directory(self, adverts: Mapping[int, bytes]) -> bytes:
        """Everybody's public keys."""
        self._directory = b"".join(adverts[client] for client in self._place)
        return self._directory

    def inboxes(self, parcels: Mapping[int, bytes]) -> dict[int, bytes]:
        """The parcels of each sender, sorted by receiver."""
        cut = {client: _cut(parcels[client], PARCEL_BYTES) for client in self._place}
        return {
            client: b"".join(
                parts[place - (place > self._place[sender])]
                for sender, parts in cut.items()
                if sender != client
            )
            for client, place in self._place.items()
        }

    def collect(self, client: int, message: bytes) -> str:
        """Keep a masked vector; else why not, and the client counts as vanished."""
        number, body = message[:SESSION_BYTES], message[SESSION_BYTES:]
        if number != session(self._directory):
            return "its message belongs to another round"
        wanted = self._length * self._dtype.itemsize
        if len(body) != wanted:
            return f"its masked message has {len(body)} bytes, not {wanted}"
        if client in self._masked:
            return "a second message in one round"
        self._masked[client] = np.frombuffer(body, self._dtype)
        return ""

    def survivors(self) -> bytes:
        """The clients whose masked vectors arrived, by place.

        Raises:
            MedleakError: fewer than the threshold.
        """
        self._enough(len(self._masked), "messages arrived")
        return struct.pack(
            f"<{len(self._masked)}I", *sorted(self._place[client] for client in self._masked)
        )

    def unmask(self, reveals: Mapping[int, bytes]) -> np.ndarray:
        """The sum of the vectors, ``(P,)``, modulo 2^bits.

        A wrong share of a seed is not noticed: the sum is then noise.

        Raises:
            MedleakError: fewer whole answers than the threshold, or shares that give a wrong key.
        """
        size = _shamir.SHARE_BYTES
        whole = [c for c, shares in reveals.items() if len(shares) == size * len(self._place)]
        self._enough(len(whole), "clients were left to unmask")
        cut = {client: _cut(reveals[client], size) for client in whole[: self._threshold]}
        at = _shamir.weights([self._place[client] + 1 for client in cut])
        total = np.zeros(self._length, self._dtype)
        for vector in self._masked.values():
            total += vector
        for client, place in self._place.items():
            shares = {self._place[holder] + 1: parts[place] for holder, parts in cut.items()}
            secret = _shamir.join(shares, at)
            if client in self._masked:
                total -= keystream(secret, self._length, self._dtype)
            else:
                self._remove_pairwise(total, place, secret)
        return total

    def _remove_pairwise(self, total: np.ndarray, vanished: int, key: bytes) -> None:
        """Take away what the survivors added for the client at place `vanished`."""
        keys = _keys(self._directory)
        if _public(key) != keys[vanished][1]:
            raise MedleakError(f"the shares of the client at place {vanished} give a wrong key")
        for client in self._masked:
            place = self._place[client]
            stream = keystream(agreed(key, keys[place][1]), self._length, self._dtype)
            _add(total, stream, plus=vanished < place)

    def _enough(self, found: int, what: str) -> None:
        if found < self._threshold:
            raise MedleakError(
                f"secure aggregation: {found} of {len(self._place)} {what}, "
                f"{self._threshold} are needed"
            )


def keystream(seed: bytes, length: int, dtype: np.dtype) -> np.ndarray:
    """``(length,)`` uniform values from 32 bytes; a seed serves once, so that the nonce may be zero."""
    stream = bytearray(length * dtype.itemsize)
    cipher = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None)
    cipher.encryptor().update_into(stream, stream)
    return np.frombuffer(stream, dtype)


def agreed(own: bytes, theirs: bytes) -> bytes:
    """The 32 bytes that two key pairs agree on: X25519, then HKDF-SHA256."""
    secret = X25519PrivateKey.from_private_bytes(own).exchange(
        X25519PublicKey.from_public_bytes(theirs)
    )
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"medleak secure aggregation").derive(secret)


def session(directory: bytes) -> bytes:
    """A round's number: a digest of its keys, which are fresh in every round."""
    return hashlib.sha256(directory).digest()[:SESSION_BYTES]


def _public(key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()


def _keys(directory: bytes) -> list[tuple[bytes, bytes]]:
    """Place -> public keys for parcels and for masks."""
    return [(both[:KEY_BYTES], both[KEY_BYTES:]) for both in _cut(directory, 2 * KEY_BYTES)]


def _places(survivors: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(survivors) // 4}I", survivors)


def _cut(message: bytes, size: int) -> list[bytes]:
    return [message[i : i + size] for i in range(0, len(message), size)]


def _add(total: np.ndarray, stream: np.ndarray, *, plus: bool) -> None:
    if plus:
        total += stream
    else:
        total -= stream
