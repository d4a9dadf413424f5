#!/usr/bin/env bash
# Runs walk-throughs and says which of them are green.
#
#   tools/walkthroughs.sh            every script of netns-scripts
#   tools/walkthroughs.sh NAME...    these
#
# A red one's whole output follows its name, and why one was skipped (--).  Exits with 1
# if any was red.
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
green=0 red=0
for name in "${names[@]}"; do
	began=$SECONDS
	status=0
	"netns-scripts/$name.sh" </dev/null >"$told" 2>&1 || status=$?
	case $status in
	0) what=green green=$((green + 1)) ;;
	77) what='--' ;;
	*) what=RED red=$((red + 1)) ;;
	esac
	printf '%-6s %-24s %3d s\n' "$what" "$name" $((SECONDS - began))
	[[ $what == green ]] || sed 's/^/    /' "$told"
done
echo "$green of ${#names[@]} green"
[[ $red -eq 0 ]]
