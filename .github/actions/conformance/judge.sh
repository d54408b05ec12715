#!/bin/sh
# Runs the suite with the action's inputs, which are in CONFORMANCE_* variables. Writes to $GITHUB_OUTPUT where the
# reports are and what the exit status was; the action's last step fails with it, after the reports were uploaded.
set -eu

suite=${CONFORMANCE_SUITE:-$GITHUB_ACTION_PATH/../../../target/release/conformance}
shard=${CONFORMANCE_SHARD:-1/1}
folder=$(mktemp -d "$RUNNER_TEMP/conformance-XXXXXX")

# One option per line, so that a glob or a path with spaces stays in one piece. Blanks around it come from the YAML.
set --
while read -r option; do
    [ -z "$option" ] || set -- "$@" "$option"
done <<OPTIONS
$(printf %s "$CONFORMANCE_OPTIONS" | tr -d '\r')
OPTIONS
[ -z "$CONFORMANCE_WRAPPER" ] || set -- "$@" --wrapper "$CONFORMANCE_WRAPPER"
[ -z "$CONFORMANCE_SHELL" ] || set -- "$@" --shell "$CONFORMANCE_SHELL"
[ -z "$CONFORMANCE_SERVER" ] || set -- "$@" --server "$CONFORMANCE_SERVER"
[ -z "$CONFORMANCE_BASELINE" ] || set -- "$@" --baseline "$CONFORMANCE_BASELINE"

# The judged program may print anything: between these two lines the runner takes nothing for a command.
pause=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
echo "::stop-commands::$pause"
status=0
"$suite" run "$@" --level "${CONFORMANCE_LEVEL:-hardened}" --shard "$shard" --json "$folder/report.json" \
    --junit "$folder/report.xml" --html "$folder/report.html" || status=$?
echo "::$pause::"

# Reports are opened before the run and filled after it: an empty one means that the run did not finish.
find "$folder" -type f -size 0 -exec rm {} +
# Only a report proves success: options such as --help exit with 0 and judge nothing.
[ "$status" -ne 0 ] || [ -s "$folder/report.json" ] || status=3

{
    echo "folder=$folder"
    echo "report=$folder/report.json"
    # An artifact's name can't contain a slash, nor an output a second line.
    echo "part=$(printf %s "$shard" | tr -c 'A-Za-z0-9._-' -)"
    echo "status=$status"
} >>"$GITHUB_OUTPUT"
