"""`rdsiam completion`: prints the script with which a shell completes commands, options and names."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete, add_completion_class

_VARIABLE = "_RDSIAM_COMPLETE"
# `rdsiam` may be a function or an alias of the shell, so each script runs it as a user does, not through env.
_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' type value completion response words="${COMP_WORDS[*]}"
    COMPREPLY=()
    response=$(unset COMP_WORDS
        export COMP_WORDS="$words" COMP_CWORD %(complete_var)s=bash_complete
        %(prog_name)s 2>/dev/null)
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""
_ZSH = """\
#compdef %(prog_name)s
%(complete_func)s() {
    local -a names described response
    local type key text
    response=("${(@f)$(export COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) %(complete_var)s=zsh_complete
        %(prog_name)s 2>/dev/null)}")
    for type key text in ${response}; do
        case $type in
            plain) if [[ $text == _ ]]; then names+=("$key"); else described+=("$key:$text"); fi ;;
            dir) _path_files -/ ;;
            file) _path_files -f ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#names )) && compadd -U -V unsorted -a names
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
    compdef %(complete_func)s %(prog_name)s
fi
"""
_FISH = """\
function %(complete_func)s
    set -l response (set -lx %(complete_var)s fish_complete; set -lx COMP_WORDS (commandline -cp); \
set -lx COMP_CWORD (commandline -t); %(prog_name)s 2>/dev/null)
    for completion in $response
        set -l part (string split -m 1 "," $completion)
        switch $part[1]
            case dir
                __fish_complete_directories $part[2]
            case file
                __fish_complete_path $part[2]
            case plain
                echo $part[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class _Bash(BashComplete):
    source_template = _BASH


class _Zsh(ZshComplete):
    source_template = _ZSH


class _Fish(FishComplete):
    source_template = _FISH


_SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}
for _name, _shell in _SHELLS.items():
    add_completion_class(_shell, _name)


@click.command(
    epilog="""\b
Examples:
  eval "$(rdsiam completion bash)"
      in ~/.bashrc
  eval "$(rdsiam completion zsh)"
      in ~/.zshrc
  rdsiam completion fish > ~/.config/fish/completions/rdsiam.fish"""
)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL. It completes commands, options, and names of databases and users."""
    click.echo(_SHELLS[shell](context.find_root().command, {}, "rdsiam", _VARIABLE).source(), nl=False)
