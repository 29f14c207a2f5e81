# The Python environment of a checkout, in .venv: for the scripts beside this file, which source it.
# shellcheck shell=bash

root="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
venv="$root/.venv"
export LC_NUMERIC=C
# From wherever a script is called, it means the plant of this checkout.
export TAGWERK_HOME="${TAGWERK_HOME:-$root/var}"

say() { printf '%s\n' "$*" >&2; }

die() { # die CODE TEXT
    local code="$1"
    shift
    say "error: $*"
    exit "$code"
}

# The first Python that is new enough; python3 may be an old one beside it.
find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# A venv that was cut short has no pip, one whose Python was removed does not run at all.
venv_is_whole() { "$venv/bin/python" -c 'import pip' 2>/dev/null; }

make_venv() {
    venv_is_whole && return
    local python
    python="$(find_python)" || die 2 "no Python 3.11 or newer was found; apt install python3 python3-venv"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || die 2 "$python has no venv module; apt install python3-venv"
    say "making $venv with $("$python" --version)"
    if ! "$python" -m venv --clear "$venv" || ! "$venv/bin/python" -m pip install --quiet --upgrade pip; then
        rm -rf "$venv"
        die 1 "the environment $venv could not be made"
    fi
}

# install WHAT PIP-ARGUMENTS...: unless pyproject.toml is as it was when it last succeeded.
install() {
    local what="$1" stamp="$venv/.tagwerk-$1" hash
    shift
    hash="$(cksum <"$root/pyproject.toml")"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$hash" ]; then
        return
    fi
    rm -f "$stamp"
    say "installing $what into $venv (once; a minute or two)"
    (cd "$root" && "$venv/bin/python" -m pip install --quiet "$@") || die 1 "the installation failed for the reason above; the next run tries it again"
    printf '%s\n' "$hash" >"$stamp"
}

install_project() { install project --editable .; }

# Its groups need a pip of 2025 or later.
install_tools() {
    install project --editable .
    install tools --upgrade pip
    install dev --group dev
}
