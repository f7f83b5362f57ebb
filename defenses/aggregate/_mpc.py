"""Three processes that compute on Shamir shares with MPyC, and whoever sends them the shares.

A secret s in a prime field is shared as ``s + c x`` for party x = 1, 2, 3, c uniform: any two shares
give s, one is independent of it. A process that is started by `Parties` runs this module, meets the
others on loopback ports, and answers jobs that it reads from its standard input: each job is an npz
file behind its length. It ends when that input ends, so that no party outlives its parent.

Links on loopback are not encrypted. Between hospitals they must be: a network that is read reveals
both shares of everything.
"""

from __future__ import annotations

import asyncio
import functools
import io
import os
import queue
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np

from medleak.api import ConfigError, MedleakError

PARTIES = 3
HOST = "127.0.0.1"
SUM_PRIME = 2**61 - 1
SUM_FRACTION = 26
"""Bits behind the point of a summand."""
SUM_LIMIT = 2.0**34 - 1
"""Largest absolute value of a sum."""
PRIME = 2**127 - 1
BITS, FRACTION = 64, 24
"""Of the fixed-point numbers of a network: all bits, and those behind the point."""
LIMB = 64
Frame = Mapping[str, np.ndarray]


def require(who: str) -> None:
    """Raise ConfigError where MPyC is not installed."""
    if find_spec("mpyc") is None:
        raise ConfigError(f"{who} needs MPyC: pip install 'medleak[mpc]'")


# --------------------------------------------------------------------------- shares


def split_sum(values: np.ndarray) -> list[np.ndarray]:
    """Shares of reals ``(P,)`` as fixed-point numbers modulo `SUM_PRIME`: uint64, one per party."""
    whole = np.rint(values * 2.0**SUM_FRACTION).astype(np.int64)
    secret = np.where(whole < 0, whole + SUM_PRIME, whole).astype(np.uint64)
    # 61 random bits are uniform but for p itself, which stands for zero, one time in 2^61.
    noise = np.frombuffer(secrets.token_bytes(8 * len(values)), dtype="<u8") >> np.uint64(3)
    prime = np.uint64(SUM_PRIME)
    return [(secret + np.uint64(x) * noise) % prime for x in range(1, PARTIES + 1)]


def split(values: np.ndarray) -> list[np.ndarray]:
    """Shares of reals as fixed-point numbers modulo `PRIME`: uint64 ``(*shape, 2)``, one per party."""
    flat = np.rint(values.reshape(-1) * 2.0**FRACTION).astype(np.int64).astype(object)
    noise = np.array([secrets.randbelow(PRIME) for _ in flat], dtype=object)
    shares = [(flat + x * noise) % PRIME for x in range(1, PARTIES + 1)]
    return [to_limbs(share).reshape(*values.shape, 2) for share in shares]


def join(shares: Sequence[np.ndarray]) -> np.ndarray:
    """Reals behind all three shares ``(*shape, 2)``.

    Raises:
        MedleakError: the third share does not lie on the line through the others.
    """
    one, two, three = (from_limbs(share) for share in shares)
    if np.any((2 * two - one - three) % PRIME):
        raise MedleakError("the parties' shares of the result contradict each other")
    secret = (2 * one - two) % PRIME
    signed = np.where(secret > PRIME // 2, secret - PRIME, secret)
    return signed.astype(np.float64) / 2.0**FRACTION


def to_limbs(values: np.ndarray) -> np.ndarray:
    """Integers below 2^128 as ``(..., 2)`` uint64, the low half first."""
    low = (values & (2**LIMB - 1)).astype(np.uint64)
    return np.stack([low, (values >> LIMB).astype(np.uint64)], axis=-1)


def from_limbs(limbs: np.ndarray) -> np.ndarray:
    """The integers again, as objects."""
    low, high = limbs[..., 0].astype(object), limbs[..., 1].astype(object)
    return low + (high << LIMB)


# --------------------------------------------------------------------------- the parent


class Parties:
    """Three running parties; a context manager that leaves none behind.

    Args:
        deadline: seconds that a start or a job may take.
    """

    def __init__(self, deadline: float):
        self.deadline = deadline
        self.processes: list[subprocess.Popen] = []

    def __enter__(self) -> Parties:
        ports = free_ports(PARTIES)
        module = [sys.executable, "-m", "medleak.defenses.aggregate._mpc"]
        addresses = [word for port in ports for word in ("-P", f"{HOST}:{port}")]
        options = [*addresses, "--no-log", "--no-uvloop"]
        try:
            for index in range(PARTIES):
                self.processes.append(
                    subprocess.Popen(
                        [*module, *options, "-I", str(index)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                    )
                )
            self.ask([{"job": np.array("meet")}] * PARTIES)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ask(self, frames: Sequence[Frame]) -> list[dict[str, np.ndarray]]:
        """Send each party its frame and wait for all answers.

        Raises:
            MedleakError: a party died, failed or was late; all are ended then.
        """
        with ThreadPoolExecutor(PARTIES) as pool:
            pending = [
                pool.submit(_exchange, process, frame)
                for process, frame in zip(self.processes, frames, strict=True)
            ]
            done, late = wait(pending, timeout=self.deadline, return_when=FIRST_EXCEPTION)
            errors = {i: f.exception() for i, f in enumerate(pending) if f in done}
            why = _fault({i: e for i, e in errors.items() if e is not None})
            if late and not why:
                silent = ", ".join(str(i) for i, future in enumerate(pending) if future in late)
                why = f"no answer from party {silent} within {self.deadline:g} s"
            if why:
                self.close()
                raise MedleakError(f"MPC: {why}")
        return [future.result() for future in pending]

    def close(self) -> None:
        """End all parties."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):  # of what was left to be sent to a dead party
                    pipe.close()
        self.processes = []


def _fault(errors: Mapping[int, BaseException]) -> str:
    """One line on what broke: a party that died before one that only noticed; empty if none did."""
    dead = [i for i, error in errors.items() if not isinstance(error, MedleakError)]
    if dead:
        return f"party {dead[0]} died before it answered"
    return next((f"party {i} failed: {error}" for i, error in errors.items()), "")


def free_ports(n: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    taken = [socket.create_server((HOST, 0)) for _ in range(n)]
    ports = [server.getsockname()[1] for server in taken]
    for server in taken:
        server.close()
    return ports


def _exchange(process: subprocess.Popen, frame: Frame) -> dict[str, np.ndarray]:
    write(process.stdin, frame)
    answer = read(process.stdout)
    if "error" in answer:
        raise MedleakError(str(answer["error"]))
    return answer


def write(stream: BinaryIO, frame: Frame) -> None:
    """One frame: eight bytes of length, then an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **frame)
    stream.write(struct.pack(">Q", buffer.tell()) + buffer.getvalue())
    stream.flush()


def read(stream: BinaryIO) -> dict[str, np.ndarray]:
    """The next frame.

    Raises:
        EOFError: the stream ended.
    """
    head = stream.read(8)
    body = stream.read(struct.unpack(">Q", head)[0]) if len(head) == 8 else b""
    if not body:
        raise EOFError
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        return dict(arrays)


# --------------------------------------------------------------------------- a party


class Party:
    """What one process does; `jobs` names its methods."""

    def __init__(self, mpc: Any):
        self.mpc = mpc
        self.layers: list[tuple[Any, Any]] = []
        self.jobs: Mapping[str, Callable[..., Any]] = {
            "meet": self.meet,
            "sum": self.sum,
            "load": self.load,
            "evaluate": self.evaluate,
        }

    async def answer(self, frame: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The result of a job, with its "seconds" and the "bytes" sent to other parties."""
        job = self.jobs[str(frame.pop("job"))]
        start, before = time.perf_counter(), self._sent()
        result = await job(**frame)
        seconds, sent = time.perf_counter() - start, self._sent() - before
        return {**result, "seconds": np.array(seconds), "bytes": np.array(sent)}

    def _sent(self) -> int:
        others = [party for party in self.mpc.parties if party.pid != self.mpc.pid]
        return sum(getattr(party.protocol, "nbytes_sent", 0) for party in others)

    async def meet(self) -> dict[str, np.ndarray]:
        await self.mpc.start()
        return {}

    async def sum(self, shares: np.ndarray) -> dict[str, np.ndarray]:
        """The sum over clients, opened to all parties; `shares` ``(K, P)`` uint64."""
        total = functools.reduce(lambda a, b: (a + b) % np.uint64(SUM_PRIME), shares)
        secret = self.mpc.SecFld(modulus=SUM_PRIME)
        opened = await self.mpc.output(secret.array(secret.field.array(total.astype(object))))
        whole = opened.value.astype(np.int64)
        whole = np.where(whole > SUM_PRIME // 2, whole - SUM_PRIME, whole)
        return {"total": whole.astype(np.float64) / 2.0**SUM_FRACTION}

    async def load(self, **shares: np.ndarray) -> dict[str, np.ndarray]:
        """Keep the shares of a network: weights "w0", "w1" ... ``(inputs, outputs)``, biases "b0" ..."""
        n = len(shares) // 2
        self.layers = [
            (self._array(shares[f"w{k}"]), self._array(shares[f"b{k}"])) for k in range(n)
        ]
        return {}

    async def evaluate(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """This party's share of the logits of one record, opened to nobody."""
        z = self._array(x)
        for k, (weight, bias) in enumerate(self.layers):
            if k:
                z = z * z
            z = z @ weight + bias
        share = await self.mpc.gather(z)
        return {"share": to_limbs(share.value)}

    def _array(self, limbs: np.ndarray) -> Any:
        number = self.mpc.SecFxp(BITS, FRACTION, PRIME)
        return number.array(number.field.array(from_limbs(limbs)), integral=False)


async def serve(mpc: Any, inbox: queue.Queue, outlet: BinaryIO) -> None:
    """Answer the frames of `inbox`, one after the other."""
    party, loop = Party(mpc), asyncio.get_running_loop()
    while True:
        frame = await loop.run_in_executor(None, inbox.get)
        try:
            reply = await party.answer(frame)
        except Exception as error:
            reply = {"error": np.array(f"{type(error).__name__}: {error}".splitlines()[0])}
        write(outlet, reply)


def _listen(stream: BinaryIO, inbox: queue.Queue) -> None:
    while True:
        try:
            inbox.put(read(stream))
        except EOFError:
            os._exit(0)  # the parent is gone or done: other threads have nothing left to do


def main() -> None:
    """Run one party; its options are MPyC's own."""
    inbox: queue.Queue = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, inbox), daemon=True).start()
    from mpyc.runtime import mpc

    loop = mpc._loop
    # MPyC itself would listen on every interface.
    loop.create_server = functools.partial(loop.create_server, host=HOST)
    outlet, sys.stdout = sys.stdout.buffer, sys.stderr
    loop.run_until_complete(serve(mpc, inbox, outlet))


if __name__ == "__main__":
    main()
