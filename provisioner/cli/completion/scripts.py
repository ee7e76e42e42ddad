"""What shells run to complete `provisioner`: each asks `provisioner __complete` for words."""

from __future__ import annotations

BASH = r"""
# In ~/.bashrc: eval "$(provisioner completion bash)"
_provisioner() {
    local IFS=$'\n' word
    COMPREPLY=()
    while read -r word; do
        if [ "$word" = :files ]; then
            compopt -o default
            return
        fi
        COMPREPLY+=("$(printf '%q' "$word")")
    done < <(provisioner __complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null)
    case "${COMPREPLY[*]}" in *:) compopt -o nospace ;; esac
}
complete -F _provisioner provisioner
"""

ZSH = r"""
#compdef provisioner
# In ~/.zshrc, below compinit: eval "$(provisioner completion zsh)"
_provisioner() {
    local line
    local -a values shown
    for line in "${(@f)$(provisioner __complete zsh "${(@Q)words[1,CURRENT]}" 2>/dev/null)}"; do
        [[ -z $line ]] && continue
        if [[ ${line%%$'\t'*} = :files ]]; then
            _files
            return
        fi
        values+=("${line%%$'\t'*}")
        if [[ -n ${line#*$'\t'} ]]; then shown+=("${line/$'\t'/ -- }"); else shown+=("${line%%$'\t'*}"); fi
    done
    (( $#values )) && compadd -l -d shown -a values
}
compdef _provisioner provisioner
"""

FISH = r"""
# In ~/.config/fish/config.fish: provisioner completion fish | source
function __provisioner_complete
    set -l found (provisioner __complete fish (commandline -opc) (commandline -ct) 2>/dev/null)
    if test (string split \t -- "$found[1]")[1] = :files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $found
    end
end
complete -c provisioner -f -a '(__provisioner_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
