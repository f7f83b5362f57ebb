"""``medleak cache``: the store's size, its health, and making room."""

from __future__ import annotations

from argparse import Namespace

from medleak.api import ConfigError
from medleak.cli.shared import in_words
from medleak.core.suggestions import unknown


def main(arguments: Namespace) -> int:
    from medleak.config.compose import default_store
    from medleak.core.store import Store

    actions = {"size": size, "verify": verify, "prune": prune}
    if arguments.action not in actions:
        raise ConfigError(unknown("action", arguments.action, actions))
    pruning = arguments.all or arguments.kind or arguments.days is not None
    if pruning and arguments.action != "prune":
        raise ConfigError(
            f"{arguments.action} deletes nothing: --days, --kind and --all are for prune"
        )
    return actions[arguments.action](Store(arguments.store or default_store()), arguments)


def size(store, arguments: Namespace) -> int:
    """Print artefacts and bytes by kind."""
    found = {kind: pair for kind, pair in store.size().items() if any(pair)}
    for kind, (n, size) in found.items():
        print(f"{kind:10} {n:8} {in_words(size):>10}")
    total = sum(size for _, size in found.values())
    print(f"{'total':10} {sum(n for n, _ in found.values()):8} {in_words(total):>10}  {store.root}")
    return 0


def _refuse_absent(store) -> None:
    if not store.root.is_dir():
        raise ConfigError(f"there is no store in {store.root}: nothing was kept there yet")


def verify(store, arguments: Namespace) -> int:
    """Read everything and print what is damaged; it is made again when it is needed."""
    _refuse_absent(store)
    problems = store.verify()
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{store.root}: all sound")
        return 0
    print(
        f"{store.root}: {len(problems)} damaged: issue the grid's command again, which makes anew"
    )
    print("what it needs of them; or medleak cache prune --all, which deletes everything")
    return 1


def prune(store, arguments: Namespace) -> int:
    """Delete what the options name."""
    if arguments.days is None and not arguments.kind and not arguments.all:
        raise ConfigError("what to prune? --days N (older), --kind KIND, or --all")
    if arguments.days is not None and not arguments.days >= 0:  # NaN is neither
        raise ConfigError(f"--days {arguments.days:g}: zero or more is needed")
    _refuse_absent(store)
    count, freed = store.prune(kind=arguments.kind, days=arguments.days or 0.0)
    print(f"{count} deleted, {in_words(freed)} freed in {store.root}")
    return 0
