#!/bin/sh
# Runs the suite with the action's inputs, which come as CONFORMANCE_* variables. Writes to $GITHUB_OUTPUT where the
# reports are and what the exit status was; the action's last step fails by it, after the reports have been kept.
set -eu

suite=${CONFORMANCE_SUITE:-$GITHUB_ACTION_PATH/../../../${CARGO_TARGET_DIR:-target}/release/conformance}
folder=$(mktemp -d "$RUNNER_TEMP/conformance-XXXXXX")

# One option a line, so that a glob or a path with spaces stays in one piece.
set --
while IFS= read -r option; do
    [ -z "$option" ] || set -- "$@" "$option"
done <<OPTIONS
$CONFORMANCE_OPTIONS
OPTIONS
[ -z "$CONFORMANCE_WRAPPER" ] || set -- "$@" --wrapper "$CONFORMANCE_WRAPPER"
[ -z "$CONFORMANCE_SHELL" ] || set -- "$@" --shell "$CONFORMANCE_SHELL"
[ -z "$CONFORMANCE_SERVER" ] || set -- "$@" --server "$CONFORMANCE_SERVER"
[ -z "$CONFORMANCE_BASELINE" ] || set -- "$@" --baseline "$CONFORMANCE_BASELINE"

# What is judged can print what it likes: between these two lines nothing is a command to the runner.
pause=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
echo "::stop-commands::$pause"
status=0
"$suite" run "$@" --level "$CONFORMANCE_LEVEL" --shard "$CONFORMANCE_SHARD" --json "$folder/report.json" \
    --junit "$folder/report.xml" --html "$folder/report.html" || status=$?
echo "::$pause::"

{
    echo "status=$status"
    echo "folder=$folder"
    echo "report=$folder/report.json"
    # A name of an artifact can't have a slash.
    echo "part=$(printf %s "$CONFORMANCE_SHARD" | tr / -)"
} >>"$GITHUB_OUTPUT"
