"""Completion of ``deiii``'s words in bash, zsh and fish, generated from the parsers of its commands.

A script holds all commands, options, bare names of configs, settings and their choices, so that the shell
starts no program while somebody types.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any

from deiii.data.command_line.entry import NOTHING_DONE
from deiii.data.config.load import config_class, shipped_configs
from deiii.data.config.plugins import installed
from deiii.data.config.words import OPEN_ENDED, add_command

SHELLS = ("bash", "zsh", "fish")


def add_completion(commands: argparse._SubParsersAction) -> None:
    """Add the command to ``deiii``'s parser."""
    sub = add_command(
        commands,
        "completion",
        partial(_print, commands),
        help="print a script that completes commands in your shell",
        description="Print a script for bash, zsh or fish that completes commands, options, configs, "
        "settings and values. The script contains these names as they are now, so print it again after an "
        "update of deiii.",
        examples=["completion bash", "completion zsh", "completion fish"],
        when_stopped=NOTHING_DONE,
    )
    sub.description = f"{sub.description}\n\nto use it:\n{HOW}"
    sub.add_argument("shell", choices=SHELLS, help="your shell")


HOW = """  bash: mkdir -p ~/.local/share/bash-completion/completions
        deiii completion bash > ~/.local/share/bash-completion/completions/deiii
        (without the package bash-completion: write another file, and `source` it in ~/.bashrc)
  zsh:  mkdir -p ~/.zfunc
        deiii completion zsh > ~/.zfunc/_deiii
        (in ~/.zshrc: fpath=(~/.zfunc $fpath); autoload -Uz compinit; compinit)
  fish: mkdir -p ~/.config/fish/completions
        deiii completion fish > ~/.config/fish/completions/deiii.fish"""


@dataclass(frozen=True)
class Words:
    """What can be completed.

    Attributes:
        commands: help by name.
        options: help texts, keyed by command and option.
        choices: values of the options and of the first word of each command, keyed by command.
        settings: commands that take configs and settings.
        configs: bare names.
        keys: values of every setting by name; empty for a number or text.
    """

    commands: Mapping[str, str]
    options: Mapping[str, Mapping[str, str]]
    choices: Mapping[str, Mapping[str, tuple[str, ...]]]
    settings: tuple[str, ...]
    configs: tuple[str, ...]
    keys: Mapping[str, tuple[str, ...]]


def words_of(commands: argparse._SubParsersAction) -> Words:
    """Return all words of the commands, their options and the settings."""
    options: dict[str, dict[str, str]] = {}
    choices: dict[str, dict[str, tuple[str, ...]]] = {}
    settings = []
    for name, parser in commands.choices.items():
        options[name] = {}
        choices[name] = {}
        for action in parser._actions:
            values = tuple(map(str, action.choices)) if action.choices else ()
            for option in action.option_strings:
                if option.startswith("--"):
                    options[name][option] = (action.help or "").replace("%(default)s", str(action.default))
                if values:
                    choices[name][option] = values
            if not action.option_strings:
                if values:
                    choices[name][""] = values
                if action.dest in OPEN_ENDED:
                    settings.append(name)
    helps = {choice.dest: choice.help or "" for choice in commands._choices_actions}
    helps["help"] = "explain a command"
    return Words(helps, options, choices, tuple(settings), tuple(shipped_configs()), setting_values())


def setting_values(section: Any = None, prefix: str = "") -> dict[str, tuple[str, ...]]:
    """Return the values of every setting that has few, by dotted name; empty for the others.

    >>> setting_values()["flow.method"]
    ('dis', 'raft', 'tvl1')
    """
    section = config_class()() if section is None else section
    found: dict[str, tuple[str, ...]] = {}
    for f in fields(section):
        value = getattr(section, f.name)
        name = f"{prefix}{f.name}"
        if is_dataclass(value):
            found |= setting_values(value, f"{name}.")
        elif isinstance(value, bool):
            found[name] = ("true", "false")
        else:
            group = f.metadata.get("group")
            found[name] = tuple(map(str, [*f.metadata["choices"], *(installed(group) if group else ())]))
    return found


def script(shell: str, words: Words) -> str:
    """Return the completion script for a shell."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](words)


def _print(commands: argparse._SubParsersAction, args: argparse.Namespace) -> int:
    print(script(args.shell, words_of(commands)), end="")
    return 0


def _cases(table: Mapping[str, Any], indent: str = "        ") -> str:
    """Return lines of a ``case`` that print the words of each name that has any."""
    lines = [
        f"{indent}{shlex.quote(name)}) echo {shlex.quote(' '.join(found))} ;;"
        for name, found in table.items()
        if found
    ]
    return "\n".join(lines)


def _tables(words: Words) -> str:
    """Return functions that both bash and zsh read."""
    chosen = {f"{c}:{o}": v for c, by_option in words.choices.items() for o, v in by_option.items()}
    return f"""_deiii_options() {{
    case "$1" in
{_cases(words.options)}
    esac
}}
_deiii_choices() {{
    case "$1" in
{_cases(chosen)}
    esac
}}
_deiii_values() {{
    case "$1" in
{_cases(words.keys)}
    esac
}}
_deiii_takes_settings() {{
    case "$1" in {"|".join(words.settings)}) return 0 ;; esac
    return 1
}}
"""


def _bash(words: Words) -> str:
    return (
        f"""# bash completion of deiii, made by `deiii completion bash`
{_tables(words)}_deiii_keys={shlex.quote(" ".join(f"{key}=" for key in words.keys))}
_deiii_configs={shlex.quote(" ".join(words.configs))}
_deiii_commands={shlex.quote(" ".join(words.commands))}
"""
        + r"""
_deiii() {
    local line="${COMP_LINE:0:COMP_POINT}"
    local cur="${line##*[[:space:]]}" rest="${line%[[:space:]]*}"
    local previous="${rest##*[[:space:]]}"
    local command="${COMP_WORDS[1]}"
    COMPREPLY=()
    # A space that is escaped or in quotes is part of a file's name, which bash completes itself.
    local plain="${line//\\[\"\']/}"
    local double="${plain//[^\"]/}" single="${plain//[^\']/}"
    if [[ "$rest" == *\\ ]] || (( ${#double} % 2 || ${#single} % 2 )); then
        return
    fi
    if [[ $COMP_CWORD -eq 1 || ( "$command" == help && $COMP_CWORD -eq 2 ) ]]; then
        COMPREPLY=($(compgen -W "$_deiii_commands" -- "$cur"))
        return
    fi
    local chosen
    chosen="$(_deiii_choices "$command:$previous")"
    if [[ "$previous" == "$command" ]]; then
        chosen="$(_deiii_choices "$command:")"
    fi
    if [[ -n "$chosen" ]]; then
        COMPREPLY=($(compgen -W "$chosen" -- "$cur"))
    elif [[ "$cur" == -* ]]; then
        COMPREPLY=($(compgen -W "$(_deiii_options "$command")" -- "$cur"))
    elif _deiii_takes_settings "$command"; then
        if [[ "$cur" == *=* ]]; then
            # Readline takes the part after "=" for the word.
            COMPREPLY=($(compgen -W "$(_deiii_values "${cur%%=*}")" -- "${cur#*=}"))
        else
            COMPREPLY=($(compgen -W "$_deiii_configs $_deiii_keys" -- "$cur"))
            # Without such a word, bash completes names of files itself, with quotes and slashes.
            if [[ ${#COMPREPLY[@]} -gt 0 ]]; then
                local file
                while IFS= read -r file; do
                    [[ -d "$file" ]] && file+=/
                    COMPREPLY+=("$(printf '%q' "$file")")
                done < <(compgen -f -- "$cur")
            fi
            if [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *= ]]; then
                compopt -o nospace 2>/dev/null
            fi
        fi
    fi
}
complete -o bashdefault -o default -F _deiii deiii
"""
    )


def _zsh(words: Words) -> str:
    described = "\n".join(
        "    " + shlex.quote(f"{name}:{text.replace(':', ' ')}") for name, text in words.commands.items()
    )
    return (
        f"""#compdef deiii
# zsh completion of deiii, made by `deiii completion zsh`
{_tables(words)}_deiii_keys=({" ".join(shlex.quote(f"{key}=") for key in words.keys)})
_deiii_configs=({" ".join(map(shlex.quote, words.configs))})
_deiii_commands=(
{described}
)
"""
        + r"""
_deiii() {
    local command="$words[2]" cur="$words[CURRENT]" previous="$words[CURRENT-1]" chosen
    if (( CURRENT == 2 )) || [[ "$command" == help ]]; then
        _describe command _deiii_commands
        return
    fi
    chosen="$(_deiii_choices "$command:$previous")"
    [[ "$previous" == "$command" ]] && chosen="$(_deiii_choices "$command:")"
    if [[ -n "$chosen" ]]; then
        compadd -- ${=chosen}
    elif [[ "$cur" == -* ]]; then
        compadd -- $(_deiii_options "$command")
    elif _deiii_takes_settings "$command"; then
        if [[ "$cur" == *=* ]]; then
            chosen="$(_deiii_values "${cur%%=*}")"
            compset -P '*='
            if [[ -n "$chosen" ]]; then
                compadd -- ${=chosen}
            else
                _files
            fi
        else
            compadd -S '' -- $_deiii_keys
            compadd -- $_deiii_configs
            _files
        fi
    else
        _files
    fi
}
if [[ "$funcstack[1]" == _deiii ]]; then
    _deiii "$@"
else
    compdef _deiii deiii
fi
"""
    )


def _fish(words: Words) -> str:
    lines = ["# fish completion of deiii, made by `deiii completion fish`"]
    for name, text in words.commands.items():
        lines.append(
            f"complete -c deiii -f -n __fish_use_subcommand -a {_fish_text(name)} -d {_fish_text(text)}"
        )
    names = _fish_text(" ".join(words.commands))
    lines.append(f"complete -c deiii -f -n '__fish_seen_subcommand_from help' -a {names}")
    for name, options in words.options.items():
        seen = _fish_text(f"__fish_seen_subcommand_from {name}")
        for option, text in options.items():
            values = words.choices[name].get(option)
            more = f" -x -a {_fish_text(' '.join(values))}" if values else ""
            lines.append(f"complete -c deiii -n {seen} -l {option[2:]} -d {_fish_text(text)}{more}")
        if first := words.choices[name].get(""):
            lines.append(f"complete -c deiii -f -n {seen} -a {_fish_text(' '.join(first))}")
    taking = _fish_text(f"__fish_seen_subcommand_from {' '.join(words.settings)}")
    typed = [*words.configs]
    for key, values in words.keys.items():
        typed += [f"{key}={value}" for value in values] or [f"{key}="]
    lines.append(f"complete -c deiii -n {taking} -a {_fish_text(' '.join(typed))}")
    return "\n".join(lines) + "\n"


def _fish_text(text: str) -> str:
    r"""Return a text as fish reads it in single quotes.

    >>> print(_fish_text("a cat's"))
    'a cat\'s'
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
