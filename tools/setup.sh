#!/bin/sh
# Installs what pylb needs and is not there.
#
#   tools/setup.sh packages    the system's packages
#   tools/setup.sh venv DIR    a virtual environment with pylb, its C core and its tests
#
# Packages are installed with apt, as root and only when one is missing; otherwise
# the missing ones are named.  None of them starts a service, and RUNLEVEL=1 makes
# sure of it.
set -eu

cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

# PROGRAM:PACKAGE, as Debian and Ubuntu call them.  What runs in namespaces:
programs="
	ip:iproute2 nft:nftables conntrack:conntrack ping:iputils-ping ps:procps
	tshark:tshark tcpdump:tcpdump iperf3:iperf3 curl:curl dnsmasq:dnsmasq-base
	dig:bind9-dnsutils
"

# find_python - print the first Python that is new enough
#
# Each one is run, for a name that is found may still be a wrapper around nothing.
find_python()
{
	for name in python3 python3.13 python3.12 python3.11; do
		if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
			echo "$name"
			return
		fi
	done
}

# missing_programs - print the packages of the programs that are not there
missing_programs()
{
	for pair in $programs; do
		command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
	done
}

# missing_to_fuzz - print the packages without which there is no libFuzzer
#
# Its runtime comes with clang or apart from it, whatever the distribution's release does.
missing_to_fuzz()
{
	command -v clang >/dev/null || echo clang
	echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
		clang -fsanitize=fuzzer,address,undefined -x c - -o /dev/null 2>/dev/null ||
		echo libclang-rt-dev
}

# missing_to_build - print the packages without which there is no environment
missing_to_build()
{
	command -v gcc >/dev/null || echo gcc
	[ -e /usr/include/stdio.h ] || echo libc6-dev
	python=$(find_python)
	if [ -z "$python" ]; then
		echo python3 python3-venv python3-dev
		return
	fi
	"$python" -c 'import ensurepip, venv' 2>/dev/null || echo "$python-venv"
	"$python" -c '
import os, sys, sysconfig
sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
' || echo "$python-dev"
}

check_python()
{
	if [ -z "$(find_python)" ] && command -v python3 >/dev/null; then
		echo "setup: expected Python 3.11 or later, got $(python3 --version 2>&1)" >&2
		echo "setup: install python3.11, python3.11-venv and python3.11-dev" >&2
		exit 1
	fi
}

# apt_install PACKAGE... - install, saying nothing unless it fails
apt_install()
{
	log=$(mktemp)
	# No answer is the safe answer to every question that a package asks, such as
	# wireshark-common's about capturing by ordinary users.
	if ! {
		export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
		apt-get update && apt-get install -y --no-install-recommends "$@"
	} </dev/null >"$log" 2>&1; then
		cat "$log" >&2
		rm -f "$log"
		echo "setup: apt-get could not install $*" >&2
		exit 1
	fi
	rm -f "$log"
}

packages()
{
	check_python
	needed=$(missing_to_build | xargs)
	wanted=$( (missing_programs; missing_to_fuzz) | xargs)
	[ -n "$needed$wanted" ] || return 0
	if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
		echo "setup: installing $needed $wanted"
		# shellcheck disable=SC2086 # lists of words
		apt_install $needed $wanted
		check_python
		needed=$(missing_to_build | xargs)
		wanted=$( (missing_programs; missing_to_fuzz) | xargs)
		[ -n "$needed$wanted" ] || return 0
		echo "setup: still missing after apt-get: $needed $wanted" >&2
		exit 1
	fi
	hint="sudo make setup installs them on Debian and Ubuntu"
	if [ -n "$needed" ]; then
		echo "setup: missing: $needed $wanted; $hint" >&2
		exit 1
	fi
	if [ "$(id -u)" -eq 0 ]; then
		echo "setup: missing: $wanted; install them (there is no apt-get here)" >&2
		exit 1
	fi
	# Namespaces need root, and so does all that uses these programs; the fuzzers are skipped.
	echo "setup: missing for the demo, the fuzzers and the tests in namespaces: $wanted; $hint" >&2
}

venv()
{
	python=$(find_python)
	# An environment outlives neither its Python nor a move of the folder.
	"$1/bin/python" -m pip --version >/dev/null 2>&1 || {
		echo "setup: making $1 with $("$python" --version)"
		"$python" -m venv --clear "$1"
	}
	echo "setup: installing pylb into $1"
	"$1/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[test]'
}

case "$*" in
packages) packages ;;
"venv "?*) venv "$2" ;;
*)
	echo "usage: tools/setup.sh packages | venv DIR" >&2
	exit 2
	;;
esac
