# shellcheck shell=bash
# What every walk-through needs.  To be sourced.
#
#   say WORDS...            the next step of the story
#   run 'LINE'              print a line of shell, run it, print its output and keep it in $output
#   eventually RE 'LINE'    the same, but run it until the output matches RE (as grep -E knows it)
#   keep NAME 'LINE'        the same as run, and the output becomes the variable NAME
#   show COMMAND...         print a command, then run it
#   listen COMMAND...       run tcpdump in the background, and go on once it listens
#   heard                   wait for its end; print, and keep in $output, who sent to whom
#   expect WHAT TEXT        stop unless TEXT contains WHAT
#   reject WHAT TEXT        stop if TEXT contains WHAT
#   lab_up NAME [OPTION...] start a lab: of examples/two-nodes.yaml, unless an option is -f
#   userspace_only          end with 77, for skipped, on the kernel's dataplanes
#   in_lab WHERE COMMAND... run a command at a place of the lab
#   pylb ARGUMENT...        pylb itself; its lab is the one that was started last
#
# PYLB_DATAPLANE, or a script's first argument, chooses another dataplane than native.
# Names of labs begin with wk, so that what is left behind can be told from other labs.

set -euo pipefail
export LC_ALL=C.UTF-8  # what sort makes of addresses

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pylb=$here/.venv/bin/pylb
[[ -x $pylb ]] || pylb=$(command -v pylb) || { echo "no pylb: run make setup first" >&2; exit 1; }
[[ $(id -u) -eq 0 ]] || { echo "needs root: run it with sudo" >&2; exit 1; }
dataplane=${1:-${PYLB_DATAPLANE:-native}}

pylb() { "$pylb" "$@"; }

say() {
	printf '\n'
	printf '%s\n' "$*" | sed 's/^/# /; s/ *$//'
}

# The line runs in a subshell: what it assigns is gone after it.
run() {
	local status=0
	printf '$ %s\n' "$1"
	output=$(eval "$1") || status=$?
	[[ -z $output ]] || printf '%s\n' "$output"
	[[ $status -eq 0 ]] || echo "exit status $status" >&2
	return $status
}

eventually() {
	local until=$((SECONDS + 20))
	until output=$(eval "$2" 2>/dev/null) && [[ $output =~ $1 ]]; do
		if ((SECONDS >= until)); then
			printf 'expected in 20 s: %s\nof: %s\ngot: %s\n' "$1" "$2" "$output" >&2
			exit 1
		fi
		sleep 0.05
	done
	printf '$ %s\n%s\n' "$2" "$output"
}

keep() {
	printf '%s\n' "\$ $1=\$($2); echo \$$1"
	output=$(eval "$2") || { echo "exit status $?" >&2; exit 1; }
	printf -v "$1" %s "$output"
	printf '%s\n' "$output"
}

show() {
	local word line='$'
	for word; do
		[[ $word != "$pylb" ]] || word=pylb
		[[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word=${word@Q}
		line+=" $word"
	done
	printf '%s\n' "$line"
	"$@"
}

# Of tcpdump's words only those that its versions have in common.
listen() {
	ear=$(mktemp -d)
	: >"$ear/err"
	"$@" >"$ear/out" 2>"$ear/err" &
	listener=$!
	until grep -q 'listening on' "$ear/err"; do
		kill -0 "$listener" 2>/dev/null || { cat "$ear/err" >&2; exit 1; }
		sleep 0.05
	done
}

heard() {
	wait "$listener" || { cat "$ear/out" "$ear/err" >&2; exit 1; }
	output=$(grep -oE '[0-9.]+ > [0-9.]+(: Flags \[[^]]*\])?' "$ear/out")
	rm -r "$ear"
	printf '%s\n' "$output"
}

expect() {
	if [[ $2 != *"$1"* ]]; then
		printf 'expected: %s\ngot: %s\n' "$1" "$2" >&2
		exit 1
	fi
}

reject() {
	if [[ $2 == *"$1"* ]]; then
		printf 'not expected: %s\ngot: %s\n' "$1" "$2" >&2
		exit 1
	fi
}

in_lab() { pylb lab exec "$@"; }

userspace_only() {
	[[ $dataplane == kernel* ]] || return 0
	echo "this story is of native and python alone, not of $dataplane" >&2
	exit 77
}

lab_up() {
	local files=(-f "$here/examples/two-nodes.yaml") option
	for option in "${@:2}"; do
		[[ $option != -f ]] || files=()
	done
	lab=$1
	export PYLB_LAB=$lab
	trap 'pylb lab down --name "$lab" >/dev/null' EXIT
	pylb lab up -q --name "$lab" --dataplane "$dataplane" "${files[@]}" "${@:2}"
}
