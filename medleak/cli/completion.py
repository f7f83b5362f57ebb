"""``medleak completion SHELL``: the script that a shell sources, and the answers that it asks for."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from medleak.cli.arguments import ARGUMENTS, COMMANDS, NEW
from medleak.config.plugins import GROUPS, LISTED

BASH = """_medleak() {
    local line="${COMP_LINE:0:COMP_POINT}" word
    local -a words
    read -r -a words <<< "$line"
    [[ "$line" == *" " ]] && words+=("")
    word="${words[-1]}"
    COMPREPLY=($(compgen -W "$(medleak completion --complete "${words[@]:1}" 2>/dev/null)" -- "$word"))
    # readline replaces what follows the last "=" only
    if [[ "$word" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
    [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
}
complete -F _medleak -o default medleak
"""
ZSH = """#compdef medleak
_medleak() {
    local -a found
    found=(${(f)"$(medleak completion --complete "${words[@]:1:$((CURRENT-1))}" 2>/dev/null)"})
    compadd -S '' -- $found
}
compdef _medleak medleak
"""
FISH = """function __medleak
    medleak completion --complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null
end
complete -c medleak -f -a '(__medleak)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
SCALARS = ("metrics", "n_members", "n_shadows", "n_targets", "seed")
KEYS = (
    tuple(group for group in GROUPS if group not in ("metric", "goal", "grid", "runtime")) + SCALARS
)


def main(arguments: Namespace) -> int:
    if arguments.shell not in SCRIPTS:
        from medleak.api import ConfigError
        from medleak.core.suggestions import unknown

        raise ConfigError(unknown("shell", arguments.shell, SCRIPTS))
    print(SCRIPTS[arguments.shell], end="")
    return 0


def complete(words: Sequence[str]) -> int:
    """Print what may stand in place of the last of `words`; a fault here prints nothing."""
    try:
        found = candidates(list(words) or [""])
    except Exception:
        return 0
    print("\n".join(found))
    return 0


def candidates(words: list[str]) -> list[str]:
    """What may stand in place of the last word; the others are what was typed before it."""
    words = _without_plugins(words)
    *before, word = words
    if not before:
        return _starting(word, [*COMMANDS, "--plugins", "--version", "--help"])
    command = before[0]
    if command not in COMMANDS:
        return []
    if word.startswith("-"):
        flags = [flag for names, _ in ARGUMENTS[command] for flag in names if flag.startswith("--")]
        return _starting(word, [flag for flag in flags if flag != "--complete"] + ["--plugins"])
    if command in ("run", "grid", "check"):
        return _overrides(word, saved=command == "grid")
    fixed = {
        "list": tuple(f"{group}s" for group in LISTED),
        "cache": ("size", "verify", "prune"),
        "completion": tuple(SCRIPTS),
        "new": NEW,
    }
    return _starting(word, fixed.get(command, ()))


def _overrides(word: str, *, saved: bool) -> list[str]:
    from medleak.config.plugins import options

    group, equals, typed = word.partition("=")
    if equals:
        if group not in (*GROUPS, "metrics"):
            return []
        # After a comma, only the last option is being typed.
        done = typed[: typed.rfind(",") + 1]
        names = options("metric" if group == "metrics" else group)
        return _starting(word, [f"{group}={done}{name}" for name in names])
    names = list(options("grid")) if saved else []
    return _starting(word, [*names, *(f"{key}=" for key in KEYS)])


def _without_plugins(words: list[str]) -> list[str]:
    """Take ``--plugins DIR`` out, and register the folder, so that its names are offered too."""
    from medleak.config.plugins import add_folders

    kept, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if word == "--plugins" and len(rest) > 1:
            add_folders([rest.pop(0)])
        else:
            kept.append(word)
    return kept


def _starting(word: str, choices: Sequence[str]) -> list[str]:
    return sorted(choice for choice in choices if choice.startswith(word))
