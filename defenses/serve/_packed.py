"""Square networks on one CKKS ciphertext (Cheon et al. 2017): packing, and the two parties.

A vector of n entries (padded to a power of two) fills all S slots of a ciphertext, again and again.
A layer from n to m entries multiplies its rotations with the extended diagonals of the matrix
(Juvekar et al., GAZELLE, USENIX Security 2018)::

    D_d[i] = W[i mod m, (i + d) mod n],    z = sum_{d < min(m, n)} D_d * rot(x, d),
    y      = sum over the rotations of z by 0, m, 2 m, ..., n - m,

and y again repeats, with period m. Baby and giant steps, ``d = g a + b``, bring this to about
``2 sqrt(min(m, n))`` rotations, by 1 and by g only, so that few keys are needed. TenSEAL's own `mm`
takes n rotations, and its sum with a plain list does not repeat: a second `mm` after it is wrong.

TenSEAL's interface to SEAL reads and writes files only. What goes through a temporary file here is
what the server is sent or sends: ciphertexts and evaluation keys, never a secret key.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tenseal.sealapi as seal

from medleak.api import ConfigError
from medleak.defenses.serve._square_networks import Answer, Linear, SquareNetwork

LEAST_SCALE, MOST_SCALE = 26, 45
SPARE, SPECIAL, ROOM = 4, 10, 8
"""Bits: of the last prime above the scale, of the prime for switching keys above it (what a rotation
adds is divided by it), and of a logit's largest absolute value, 2^7."""


class Chain(NamedTuple):
    """Bits of the primes: the last that is left, those that the levels use up, the special one."""

    last: int
    scale: int
    levels: int
    special: int

    @property
    def bits(self) -> list[int]:
        return [self.last, *[self.scale] * self.levels, self.special]


def chain(n_layers: int, ring: int) -> Chain:
    """The primes for a network of `n_layers`, as large as 128 bits of security allow.

    A level for each layer and each square.

    Raises:
        ConfigError: too many layers for the ring.
    """
    levels = 2 * n_layers - 1
    most = seal.CoeffModulus.MaxBitCount(ring, seal.SEC_LEVEL_TYPE.TC128)
    scale = min(MOST_SCALE, (most - SPARE - SPECIAL) // (levels + 2))
    if scale < LEAST_SCALE:
        raise ConfigError(
            f"a ring of {ring} has {most} bits at 128 bits of security: {scale} for each of the "
            f"{levels} levels of {n_layers} layers, where {LEAST_SCALE} are needed"
        )
    return Chain(scale + SPARE, scale, levels, scale + SPECIAL)


class Step(NamedTuple):
    """Of one layer: the period before and after, the number of diagonals, and the giant step."""

    before: int
    after: int
    diagonals: int
    giant: int

    @property
    def sums(self) -> list[int]:
        """Rotations that add up the blocks: after, 2 after, ..., before / 2."""
        blocks = max(1, self.before // self.after)
        return [self.after << i for i in range(blocks.bit_length() - 1)]

    @property
    def rotations(self) -> set[int]:
        steps = {1, self.giant} if self.diagonals > 1 else set()
        return steps | set(self.sums)


def steps(sizes: Sequence[int]) -> list[Step]:
    """How the layers of a network of these `sizes` are evaluated."""
    periods = [1 << (n - 1).bit_length() for n in sizes]
    found = []
    for before, after in itertools.pairwise(periods):
        diagonals = min(before, after)
        giant = 1 << (diagonals.bit_length() // 2)
        found.append(Step(before, after, diagonals, min(giant, diagonals)))
    return found


def diagonals(weight: np.ndarray, step: Step, slots: int) -> Iterator[np.ndarray]:
    """The extended diagonals of `weight`, ``(slots,)`` each, turned back by the giant steps before."""
    padded = np.zeros((step.after, step.before))
    padded[: weight.shape[0], : weight.shape[1]] = weight
    i = np.arange(slots)
    for d in range(step.diagonals):
        back = d // step.giant * step.giant
        yield np.roll(padded[i % step.after, (i + d) % step.before], back)


class Ring:
    """Public parameters, and vectors as polynomials.

    Raises:
        ConfigError: a network with more inputs or units than slots, or more layers than levels.
    """

    def __init__(self, sizes: Sequence[int], ring: int):
        self.slots, self.steps = ring // 2, steps(sizes)
        if max(sizes) > self.slots:
            raise ConfigError(f"a ring of {ring} holds {self.slots} numbers, not {max(sizes)}")
        self.ring, self.chain = ring, chain(len(self.steps), ring)
        parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        parameters.set_poly_modulus_degree(ring)
        parameters.set_coeff_modulus(seal.CoeffModulus.Create(ring, self.chain.bits))
        self.context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
        if not self.context.parameters_set():
            raise ConfigError(f"SEAL: {self.context.parameters_error_message()}")
        self.primes = [prime.value() for prime in parameters.coeff_modulus()]
        self.encoder = seal.CKKSEncoder(self.context)
        self.levels, data = [], self.context.first_context_data()
        while data is not None:
            self.levels.append(data.parms_id())
            data = data.next_context_data()

    @property
    def scale(self) -> float:
        return 2.0**self.chain.scale

    @property
    def last_scale(self) -> float:
        """Of the logits, so that they fit into the last prime."""
        return 2.0 ** (self.chain.last - ROOM)

    def dropped(self, level: int) -> int:
        """The prime by which a ciphertext at `level` is divided next."""
        return self.primes[self.chain.levels - level]

    def encoded(self, values: np.ndarray, level: int, scale: float) -> Any:
        plain = seal.Plaintext()
        self.encoder.encode(values.tolist(), self.levels[level], scale, plain)
        return plain


class Client:
    """Holds the secret key, encrypts entries and decrypts logits. Nothing of it can be pickled."""

    def __init__(self, sizes: Sequence[int], ring: int):
        self.public, self.n_outputs = Ring(sizes, ring), sizes[-1]
        keys = seal.KeyGenerator(self.public.context)
        self.relin, self.galois = seal.RelinKeys(), seal.GaloisKeys()
        keys.create_relin_keys(self.relin)
        turns = set().union(*(step.rotations for step in self.public.steps))
        keys.create_galois_keys([pow(3, turn, 2 * ring) for turn in sorted(turns)], self.galois)
        self._encryptor = seal.Encryptor(self.public.context, keys.secret_key())
        self._decryptor = seal.Decryptor(self.public.context, keys.secret_key())

    def __reduce__(self):
        raise TypeError("a secret key is not written down")

    def encrypt(self, entry: np.ndarray, path: Path) -> None:
        """Write the ciphertext of `entry` ``(inputs,)``."""
        public = self.public
        period = public.steps[0].before
        repeated = np.tile(np.pad(entry, (0, period - len(entry))), public.slots // period)
        cipher = seal.Ciphertext()
        self._encryptor.encrypt_symmetric(public.encoded(repeated, 0, public.scale), cipher)
        cipher.save(str(path))

    def decrypt(self, path: Path) -> np.ndarray:
        """Logits ``(outputs,)`` of the ciphertext in `path`."""
        cipher, plain = seal.Ciphertext(), seal.Plaintext()
        cipher.load(self.public.context, str(path))
        self._decryptor.decrypt(cipher, plain)
        return np.array(self.public.encoder.decode_double(plain))[: self.n_outputs]

    def save_keys(self, folder: Path) -> int:
        """Write the evaluation keys as "galois" and "relin"; their bytes."""
        self.galois.save(str(folder / "galois"))
        self.relin.save(str(folder / "relin"))
        return sum((folder / name).stat().st_size for name in ("galois", "relin"))


class Server:
    """Holds the model in plain and the client's evaluation keys, and never a secret key."""

    def __init__(self, network: SquareNetwork, ring: int, folder: Path):
        self.public = Ring(network.sizes, ring)
        context = self.public.context
        self._evaluator = seal.Evaluator(context)
        self._relin, self._galois = seal.RelinKeys(), seal.GaloisKeys()
        self._relin.load(context, str(folder / "relin"))
        self._galois.load(context, str(folder / "galois"))
        self._layers, scale, level = [], self.public.scale, 0
        for step, layer in zip(self.public.steps, network.layers, strict=True):
            final = len(self._layers) == len(network.layers) - 1
            aim = self.public.last_scale if final else self.public.scale
            self._layers.append(self._encoded(layer, step, level, scale, aim))
            if not final:
                scale, level = aim * aim / self.public.dropped(level + 1), level + 2

    def _encoded(self, layer: Linear, step: Step, level: int, scale: float, aim: float) -> Any:
        """Diagonals scaled such that inputs of `scale` leave the level with the scale `aim`."""
        public = self.public
        own = aim * public.dropped(level) / scale
        rows = diagonals(layer.weight, step, public.slots)
        bias = np.pad(layer.bias, (0, step.after - len(layer.bias)))
        return (
            step,
            [public.encoded(row, level, own) for row in rows],
            public.encoded(np.tile(bias, public.slots // step.after), level + 1, aim),
            aim,
        )

    def evaluate(self, source: Path, sink: Path) -> None:
        """Read the ciphertext of a record, write that of its logits."""
        x = seal.Ciphertext()
        x.load(self.public.context, str(source))
        for k, layer in enumerate(self._layers):
            if k:
                self._evaluator.square_inplace(x)
                self._evaluator.relinearize_inplace(x, self._relin)
                self._evaluator.rescale_to_next_inplace(x)
            x = self._linear(x, *layer)
        x.save(str(sink))

    def _linear(self, x: Any, step: Step, rows: list[Any], bias: Any, aim: float) -> Any:
        babies = [x]
        while len(babies) < step.giant:
            babies.append(self._turned(babies[-1], 1))
        total = None
        for start in reversed(range(0, step.diagonals, step.giant)):
            if total is not None:
                total = self._turned(total, step.giant)
            for baby, row in zip(babies, rows[start:], strict=False):
                total = self._plus_product(total, baby, row)
        self._evaluator.rescale_to_next_inplace(total)
        for turn in step.sums:
            self._evaluator.add_inplace(total, self._turned(total, turn))
        total.scale = aim  # which it is but for the last digits of a double
        self._evaluator.add_plain_inplace(total, bias)
        return total

    def _turned(self, x: Any, by: int) -> Any:
        turned = seal.Ciphertext()
        self._evaluator.rotate_vector(x, by, self._galois, turned)
        return turned

    def _plus_product(self, total: Any, x: Any, row: Any) -> Any:
        product = seal.Ciphertext()
        self._evaluator.multiply_plain(x, row, product)
        if total is None:
            return product
        self._evaluator.add_inplace(total, product)
        return total


class CipherSession:
    """A client and a server in one process that share nothing but the files in `folder`."""

    def __init__(self, network: SquareNetwork, ring: int, folder: Path):
        self._folder = folder
        self.client = Client(network.sizes, ring)
        self.setup_bytes = self.client.save_keys(folder)
        self.server = Server(network, ring, folder)

    def ask(self, entry: np.ndarray) -> Answer:
        """Encrypt one entry ``(inputs,)``, evaluate, decrypt."""
        query, reply = self._folder / "query", self._folder / "reply"
        self.client.encrypt(entry, query)
        self.server.evaluate(query, reply)
        logits = self.client.decrypt(reply)
        return Answer(logits, query.stat().st_size, reply.stat().st_size)


@contextmanager
def session(network: SquareNetwork, ring: int) -> Iterator[CipherSession]:
    """See `CipherSession`; its files are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="medleak-") as folder:
        yield CipherSession(network, ring, Path(folder))
