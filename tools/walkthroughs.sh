#!/usr/bin/env bash
# Runs walk-throughs and says which of them are green.
#
#   tools/walkthroughs.sh            every script of netns-scripts
#   tools/walkthroughs.sh NAME...    these
#
# A red one's whole output follows its name.  Exits with 1 if any was red.
set -euo pipefail
cd "$(dirname "$0")/.."

names=("$@")
if [[ ${#names[@]} -eq 0 ]]; then
	for script in netns-scripts/*.sh; do
		name=$(basename "$script" .sh)
		[[ $name == common ]] || names+=("$name")
	done
fi

told=$(mktemp)
trap 'rm -f "$told"' EXIT
red=0
for name in "${names[@]}"; do
	began=$SECONDS
	if "netns-scripts/$name.sh" </dev/null >"$told" 2>&1; then
		printf 'green  %-24s %3d s\n' "$name" $((SECONDS - began))
	else
		printf 'RED    %-24s %3d s\n' "$name" $((SECONDS - began))
		sed 's/^/    /' "$told"
		red=$((red + 1))
	fi
done
echo "$((${#names[@]} - red)) of ${#names[@]} green"
[[ $red -eq 0 ]]
