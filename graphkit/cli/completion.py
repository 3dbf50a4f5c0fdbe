"""``graphkit completion``: a script for the shell."""

from __future__ import annotations

import click

# Bash splits words at : and =, which specs have inside: the words are split anew, at blanks only, and what
# bash takes for an earlier word is cut from the answers.
_BASH = r"""
%(complete_func)s() {
    local line="${COMP_LINE:0:COMP_POINT}" type value word cut=""
    local -a words
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    word="${words[${#words[@]}-1]}"
    [[ "$COMP_WORDBREAKS" == *:* && "$word" == *:* ]] && cut="${word%%:*}:"
    [[ "$COMP_WORDBREAKS" == *=* && "${word#"$cut"}" == *=* ]] && cut="${word%%=*}="
    COMPREPLY=()
    [[ ${words[${#words[@]}-2]} == --pass ]] && compopt -o nospace  # its options may follow
    while IFS=',' read -r type value; do
        if [[ $type == 'dir' ]]; then
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            [[ $value == *= ]] && compopt -o nospace
            COMPREPLY+=("${value#"$cut"}")
        fi
    done < <(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \
        %(complete_var)s=bash_complete "${words[0]}" 2>/dev/null)
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@click.command("completion", short_help="Print a completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a completion script for SHELL; it completes commands, options and the names of passes.

    \b
    bash   graphkit completion bash > ~/.local/share/bash-completion/completions/graphkit
    zsh    graphkit completion zsh > ~/.zfunc/_graphkit     (with ~/.zfunc in fpath)
    fish   graphkit completion fish > ~/.config/fish/completions/graphkit.fish
    """
    from click.shell_completion import get_completion_class

    from graphkit.cli import main

    cls = get_completion_class(shell)
    assert cls is not None, "click.Choice lets only the shells through that click knows"
    made = cls(main, {}, "graphkit", "_GRAPHKIT_COMPLETE")
    template = _BASH if shell == "bash" else made.source_template
    click.echo(template % made.source_vars())
