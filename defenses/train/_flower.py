"""The Flower engine: the same rounds, with every message sent through Flower."""

from __future__ import annotations

import copy
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from medleak.api import ConfigError, MedleakError
from medleak.defenses.train._federation import Answers, Federation, Message, one_by_one, rounds
from medleak.defenses.train._recipes import changed
from medleak.targets._training import Data

PAUSE = 0.02
"""Seconds between two looks for replies."""

LONGEST = 200
"""Letters of a foreign error that are told."""

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on any system: the loopback address and no other
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # of what Ray prints, skip every line
}
"""Read when Flower and Ray are imported or started, here and in the clients' processes."""


def run(federation: Federation) -> Mapping[str, Any]:
    """Train by rounds in a Flower simulation on this machine; facts for `Trained`.

    Clients are nodes with a ClientApp, in processes of their own, and the server is a ServerApp that
    runs the rounds of the lean engine: who takes part, what excludes a message, the sum, what the
    adversary sees and the step are the same code. Weights and updates travel as arrays of Flower's
    records. Code, architecture and each client's own records are placed with it beforehand, as a
    hospital has them. Every draw comes from (seed, round, client), so that the model equals the lean
    engine's up to rounding, except that clients compute on the CPU whatever the device.

    A deadline is held against the client's work alone, not against its wait for a free process.

    Raises:
        ConfigError: Flower or Ray is missing; Ray runs in this process already; or the server is
            dishonest: another architecture cannot travel as arrays, so that only the lean engine
            serves it.
        MedleakError: as the lean engine; or the simulation broke down.
    """
    observer = federation.trainer.observer
    if observer is not None and observer.policy is not None:
        who = type(observer.policy).__name__
        raise ConfigError(f"engine=flower: {who} tampers with what is sent: use engine=lean")
    with _surroundings() as folder:
        _need_flower()
        with _ray(folder, min(os.cpu_count() or 1, len(federation.chosen(0)))):
            return _simulated(federation)


@contextmanager
def _surroundings() -> Iterator[str]:
    """A folder for what both write, and an environment that keeps them quiet; gone afterwards."""
    # Ray's sockets lie in the folder, and the path of a socket may have some hundred letters only.
    short = os.environ.get("RAY_TMPDIR", "/tmp")
    folder = tempfile.mkdtemp(prefix="medleak-ray-", dir=short if os.path.isdir(short) else None)
    before = dict(os.environ)
    os.environ.update(QUIET, FLWR_HOME=folder)
    try:
        yield folder
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


def _need_flower() -> None:
    try:
        with warnings.catch_warnings():  # importing it adds filters of its own
            import flwr.clientapp
            import flwr.serverapp
            import flwr.simulation
            import flwr.supercore.telemetry
            import ray
    except ImportError:
        told = "engine=flower needs Flower and Ray: pip install 'medleak[flower]'"
        raise ConfigError(told) from None
    flwr.supercore.telemetry.FLWR_TELEMETRY_ENABLED = "0"  # it may have been imported long ago
    if ray.is_initialized():
        raise ConfigError("engine=flower starts Ray itself, and this process is connected to one")


@contextmanager
def _ray(folder: str, processes: int) -> Iterator[None]:
    """A silent Ray of this machine alone, without its processes afterwards.

    Raises:
        MedleakError: it does not start.
    """
    import ray

    flower, on_end = logging.getLogger("flwr"), signal.getsignal(signal.SIGTERM)
    level = flower.level
    flower.setLevel(logging.CRITICAL + 1)
    try:
        _start_ray(folder, processes)
        yield
    finally:
        ray.shutdown()
        flower.setLevel(level)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_end)  # Ray put its own there


def _start_ray(folder: str, processes: int) -> None:
    import ray

    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # of plugins too
    try:
        with warnings.catch_warnings(action="ignore"):
            ray.init(
                num_cpus=processes,
                num_gpus=0,
                include_dashboard=False,
                logging_level=logging.CRITICAL,
                log_to_driver=False,
                runtime_env={"env_vars": {"PYTHONPATH": paths}},
                _temp_dir=folder,
            )
    except Exception as error:
        raise MedleakError(f"engine=flower: Ray does not start: {_line(error)}") from error


# ------------------------------------------------------------------ server


def _simulated(federation: Federation) -> Mapping[str, Any]:
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    over, facts, failed = threading.Event(), {}, []
    server = ServerApp()

    @server.main()
    def main(grid: Any, context: Any) -> None:
        try:
            mail = Mail.to_all(grid, federation.plan.n_clients, over)
            facts.update(
                rounds(federation, lambda modules, round: mail.ask(federation, modules, round))
            )
        except Exception as error:  # on its way to the thread that waits for the simulation
            failed.append(error)

    try:
        # A process that died is started anew and asked once more; without it the pool would go on
        # giving work to the dead one.
        options = {"num_cpus": 1, "num_gpus": 0, "max_restarts": -1, "max_task_retries": 1}
        run_simulation(
            server,
            _client_app(_placed(federation)),
            num_supernodes=federation.plan.n_clients,
            backend_config={"client_resources": options},
        )
    except RuntimeError as error:
        raise MedleakError(f"engine=flower: the simulation broke down: {_line(error)}") from error
    finally:
        over.set()
    if failed:
        raise failed[0]
    return facts


@dataclass(frozen=True)
class Mail:
    """The server's side of the grid; `nodes` maps clients to addresses."""

    grid: Any
    nodes: Mapping[int, int]
    over: threading.Event

    @classmethod
    def to_all(cls, grid: Any, n_clients: int, over: threading.Event) -> Mail:
        """Ask every node which client it is.

        Raises:
            MedleakError: a node cannot answer, or the simulation ended.
        """
        while len(found := list(grid.get_node_ids())) < n_clients:
            if over.wait(PAUSE):
                raise MedleakError("engine=flower: the simulation ended before its first round")
        strangers, nodes = cls(grid, dict(enumerate(found)), over), {}
        for place, reply in strangers.exchange(
            {place: {} for place in strangers.nodes}, "query"
        ).items():
            if reply.has_error():
                why = _line(reply.error.reason)
                raise MedleakError(f"engine=flower: a client's process cannot start: {why}")
            nodes[reply.content["node"]["client"]] = found[place]
        return cls(grid, nodes, over)

    def exchange(self, contents: Mapping[int, Mapping[str, Any]], kind: str) -> dict[int, Any]:
        """Send each client its records; the replies once all are there.

        Raises:
            MedleakError: the simulation ended.
        """
        from flwr.app import Message as Letter
        from flwr.app import RecordDict

        letters = [
            Letter(RecordDict(dict(content)), self.nodes[client], kind)
            for client, content in contents.items()
        ]
        waiting = dict(zip(self.grid.push_messages(letters), contents, strict=True))
        replies = {}
        while waiting:
            for reply in self.grid.pull_messages(list(waiting)):
                replies[waiting.pop(reply.metadata.reply_to_message_id)] = reply
            if waiting and self.over.wait(PAUSE):
                raise MedleakError("engine=flower: the simulation ended within a round")
        return replies

    def ask(self, federation: Federation, modules: Mapping[int, nn.Module], round: int) -> Answers:
        """Send the weights to clients and read what they answer."""
        from flwr.app import ConfigRecord

        sent = {"weights": _record(federation.weights), "round": ConfigRecord({"round": round})}
        replies = self.exchange(dict.fromkeys(modules, sent), "train")
        return {
            client: _read(replies[client], client, federation.clients[client]) for client in modules
        }


def _read(reply: Any, client: int, own: np.ndarray) -> Message | str:
    """A client's message, of whose records at `own` it told its own numbers; or why there is none."""
    if reply.has_error():
        return f"crashed: {_line(reply.error.reason)}"
    content = reply.content
    if "fault" in content:
        return content["fault"]["told"]
    positions = own[_arrays(content["records"])["positions"]]
    return Message(client, content["round"]["round"], _arrays(content["update"]), positions)


# ------------------------------------------------------------------ clients


@dataclass(frozen=True)
class Placed:
    """What clients hold before the first round: references into Ray's memory."""

    common: Any
    records: Iterable[Any]


def _placed(federation: Federation) -> Placed:
    import ray

    if federation.trainer.gradient is not None:
        federation.trainer.gradient.facts  # noqa: B018  its noise is calibrated here, once for all
    common = copy.copy(federation)
    common.trainer = changed(federation.trainer, observer=None, aggregate=None)
    common.model = copy.deepcopy(federation.model).cpu()
    common.data, common.clients = None, {}
    records = []
    for own in federation.clients:
        index = torch.from_numpy(own).to(federation.data.x.device)
        part = Data(federation.data.x[index].cpu(), federation.data.y[index].cpu())
        records.append(ray.put(part))
    return Placed(ray.put(common), records)


def _client_app(placed: Placed) -> Any:
    from flwr.app import ConfigRecord, RecordDict
    from flwr.app import Message as Letter
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.query()
    def query(letter: Letter, context: Any) -> Letter:
        told = ConfigRecord({"client": int(context.node_config["partition-id"])})
        return Letter(RecordDict({"node": told}), reply_to=letter)

    @app.train()
    def train(letter: Letter, context: Any) -> Letter:
        content = _answer(placed, int(context.node_config["partition-id"]), letter.content)
        return Letter(RecordDict(content), reply_to=letter)

    return app


def _answer(placed: Placed, client: int, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Runs in a client's process: its answer, as records."""
    import ray
    from flwr.app import ConfigRecord

    own, data = ray.get([placed.common, placed.records[client]])
    own.data = data
    own.clients = {client: np.arange(len(own.data.y))}
    weights = _arrays(sent["weights"])
    with torch.no_grad():
        for name, p in own.model.named_parameters():
            p.copy_(torch.from_numpy(weights[name]))
    answer = one_by_one(own, {client: own.model}, sent["round"]["round"])[client]
    if isinstance(answer, str):
        return {"fault": ConfigRecord({"told": answer})}
    return {
        "update": _record(answer.update),
        "records": _record({"positions": answer.records}),
        "round": ConfigRecord({"round": answer.round}),
    }


# ------------------------------------------------------------------ records


def _record(arrays: Mapping[str, np.ndarray]) -> Any:
    from flwr.app import Array, ArrayRecord

    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def _arrays(record: Any) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in record.items()}


def _line(error: Any) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
