# What every walk-through needs.  To be sourced.
#
#   say WORDS...            the next step of the story
#   show COMMAND...         print a command, then run it
#   expect WHAT TEXT        stop unless TEXT contains WHAT
#   in_lab WHERE COMMAND... run a command at a place of the lab

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pylb=$here/.venv/bin/pylb
[[ -x $pylb ]] || pylb=$(command -v pylb) || { echo "no pylb: run make setup first" >&2; exit 1; }
[[ $(id -u) -eq 0 ]] || { echo "needs root: run it with sudo" >&2; exit 1; }

say() { printf '\n# %s\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }
expect() {
	if [[ $2 != *"$1"* ]]; then
		printf 'expected: %s\ngot: %s\n' "$1" "$2" >&2
		exit 1
	fi
}
in_lab() { "$pylb" lab exec --name "$lab" "$@"; }
lab_up() {
	lab=$1
	trap '"$pylb" lab down --name "$lab" >/dev/null' EXIT
	"$pylb" lab up -q --name "$lab" -f "$here/examples/two-nodes.yaml" "${@:2}"
}
