"""Answer encrypted questions: the server computes on ciphertexts and sees no record."""

from __future__ import annotations

from contextlib import AbstractContextManager

from medleak.api import Guarantee, ProblemSpec, Trainer
from medleak.defenses.aggregate._ckks import SECURITY, require
from medleak.defenses.serve._square_networks import PrivateInference, Session, SquareNetwork

RINGS = (8192, 16384, 32768)


class EncryptedInference(PrivateInference):
    """Serves a square network (`HECNN`, `HEMLP`) on records that stay encrypted, with CKKS.

    The client encrypts a record, the server evaluates the network on the ciphertext with its weights
    in plain and the client's evaluation keys, the client decrypts the logits (`_packed` has the
    method). Two adversaries see two things. The server sees ciphertexts, and learns nothing of a
    record (IND-CPA at 128 bits, if it is honest but curious). The client, who is the adversary of this
    release, sees what it decrypts, and no weights. **What it decrypts leaks of the training patients
    what plain answers leak**: membership inference on scores is unchanged, and so is not worth
    repeating on ciphertexts. The release's views answer from the plain network, the *plaintext surrogate*, and
    `verify_surrogate` asks real ciphertexts for the proof that the two agree.

    The server must never be shown a decryption: CKKS is not secure against who sees ciphertexts beside
    their decrypted values (Li & Micciancio, EUROCRYPT 2021). The logits' noise depends on the weights,
    too, and is not flooded: a client who asks often enough might learn something of them from it.

    128 bits of security limit the bits of all primes (218 for a ring of 8192), which the levels share.
    Typical errors of a logit: 1e-3 for `HECNN` in a ring of 8192, 1e-7 in one of 16384 at twice the
    time; 1e-6 for `HEMLP` in 8192.

    Args:
        ring: degree of the polynomials, 8192, 16384 or 32768; half as many numbers in a ciphertext.

    Paper: Cheon et al., Homomorphic Encryption for Arithmetic of Approximate Numbers, ASIACRYPT 2017.
    """

    slot = "serve"
    version = 1
    paper = (
        "Cheon et al., Homomorphic Encryption for Arithmetic of Approximate Numbers, ASIACRYPT 2017"
    )
    hides = {"weights": "the server computes on encrypted records and keeps the parameters"}

    def __init__(self, *, ring: int = 8192):
        self.ring = ring

    def invalid_parameters(self) -> list[str]:
        if self.ring in RINGS:
            return []
        return [f"ring {self.ring!r} must be one of {', '.join(map(str, RINGS))}"]

    def guarantees(self, problem: ProblemSpec, trainer: Trainer) -> list[Guarantee]:
        return [
            Guarantee(
                kind="ind-cpa",
                unit="record",
                protects_from="the server, which learns nothing of the records it is asked about",
                assumptions=(
                    *SECURITY,
                    "the client keeps the secret key, and no decryption reaches the server",
                    "of the training patients, decrypted answers tell what plain ones tell",
                ),
                adversaries=("server",),
            )
        ]

    def session(self, network: SquareNetwork) -> AbstractContextManager[Session]:
        """A client with a fresh key and a server that evaluates `network`.

        Raises:
            ConfigError: TenSEAL is missing, or the network too large for the ring.
        """
        require("EncryptedInference")
        from medleak.defenses.serve import _packed as packed

        return packed.session(network, self.ring)
