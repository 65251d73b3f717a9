#!/bin/sh
# Submits a run, follows it, fetches the file it made. Needs curl; CYBERUN_URL and CYBERUN_KEY say where and who.
#   sh quickstart.sh demo-fractal '{"width": 512, "height": 512}' fractal.png
set -eu
api="$CYBERUN_URL/api/v1"
call() { curl -sS --fail-with-body -H "Authorization: Bearer $CYBERUN_KEY" "$@"; }
fail() { printf '%s\n' "$1" >&2; exit 1; }

# 1. Submit: answers {"task_id": "..."} as soon as the run is on disk.
submitted=$(call -H 'Content-Type: application/json' -d "{\"parameters\": $2}" "$api/r/workflows/slug/$1/run") ||
  fail "$submitted"
task_id=$(printf '%s' "$submitted" | sed 's/.*"task_id":"\([^"]*\)".*/\1/')

# 2. Follow: one event after the other, until the run has ended.
call -N "$api/r/tasks/$task_id/events"

# 3. Fetch: the URL needs no further credentials, and works for an hour.
result=$(call "$api/r/tasks/$task_id/result")
url=$(printf '%s' "$result" | sed -n 's/.*"download_url":"\([^"]*\)".*/\1/p')
[ -n "$url" ] || fail "the run made no file: $result"
curl -sS --fail-with-body -o "$3" "$url"
