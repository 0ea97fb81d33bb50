#!/bin/bash
# SPDX-License-Identifier: MIT
# The demo: a prefork HTTP server under load from wrk, workers killed in the middle of it, and
# every promise checked against what the clients saw. `./run demo` builds and starts it.
# Loopback only; every child is ended by its pid. Exits non-zero if a check fails.
#
# usage: demo.sh --brim TOOL --server PREFORK_SERVER [--burst N] [--kills N]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
brim='' server='' burst=10000 kills=2
while (($# > 0)); do
  case "$1" in
    --brim) brim=$2 ;;
    --server) server=$2 ;;
    --burst) burst=$2 ;;
    --kills) kills=$2 ;;
    *)
      sed -n 's/^# usage: /usage: /p' "${BASH_SOURCE[0]}" >&2
      exit 2
      ;;
  esac
  shift 2
done
[[ -x "${brim}" && -x "${server}" ]] || {
  echo "demo.sh: give --brim TOOL and --server PREFORK_SERVER, both built" >&2
  exit 2
}

readonly segment="demo-$$" workers=4 connections=4 steps=8 visits=7
readonly keys=(alice bob carol dave)
readonly refill_s=3600  # one permit an hour: none flows back while the demo runs
temp=$(mktemp -d)
children=()
started_at=${SECONDS}
step_name='' checks=0

cleanup() {
  local pid
  for pid in ${children[@]+"${children[@]}"}; do
    kill "${pid}" 2>/dev/null || continue
    wait "${pid}" 2>/dev/null || true
  done
  [[ ! -e "/dev/shm/${segment}" ]] || "${brim}" unlink "${segment}" || true
  rm -rf "${temp}"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() {
  step_name="[$1/${steps}]"
  echo "${step_name} $2"
}

fail() {
  echo "  FAILED: $*" >&2
  local log
  for log in "${temp}"/*.log; do
    [[ -s "${log}" ]] || continue
    echo "  --- ${log##*/}, last lines" >&2
    tail -n 15 "${log}" >&2
  done
  echo "demo: FAILED in step ${step_name}" >&2
  exit 1
}

# check "what" CONDITION...: an arithmetic or test command that must hold.
check() {
  local what=$1
  shift
  "$@" || fail "${what}"
  checks=$((checks + 1))
  echo "  OK  ${what}"
}
holds() { (($1)); }

ask() { python3 "${here}/segment.py" "${brim}" "${segment}" "$@"; }
status_of() { curl -s -m 20 -o /dev/null -w '%{http_code}' "$@"; }

# start_server NAME ARGUMENTS...: sets url and server_pid.
start_server() {
  local name=$1 tries
  shift
  : >"${temp}/${name}.out"
  "${server}" --segment "${segment}" "$@" >"${temp}/${name}.out" 2>"${temp}/${name}.log" &
  server_pid=$!
  children+=("${server_pid}")
  for ((tries = 0; tries < 400; ++tries)); do
    url=$(sed -n 's/^listening on /http:\/\//p' "${temp}/${name}.out")
    [[ -z "${url}" ]] || return 0
    kill -0 "${server_pid}" 2>/dev/null || fail "the server ended: $(cat "${temp}/${name}.log")"
    sleep 0.05
  done
  fail 'the server does not listen after 20 s'
}

# Pids of the workers, as the server's log tells.
live_workers() {
  awk '/^worker [0-9]+ started$/ {live[$2] = 1} / ended \(/ {delete live[$2]}
       END {for (pid in live) print pid}' "${temp}/server.log"
}

# The worker with the most open sockets: surely one with calls in flight.
busiest_worker() {
  local pid best='' most=-1 count
  for pid in $(live_workers); do
    count=$(find "/proc/${pid}/fd" -lname 'socket:*' 2>/dev/null | wc -l)
    if ((count > most)); then
      most=${count}
      best=${pid}
    fi
  done
  echo "${best}"
}

# Waits until the log shows that the worker was replaced; prints the log's line.
replacement_of() {
  local tries
  for ((tries = 0; tries < 400; ++tries)); do
    grep "^worker $1 replaced by " "${temp}/server.log" && return 0
    sleep 0.05
  done
  return 1
}

create_segment() {
  step 1 "One segment, one policy: 1 permit an hour, a burst of ${burst}"
  "${brim}" create "${segment}" --capacity 4096 --policy "per_key=1/h burst ${burst}" |
    sed 's/^/  /'
  check 'the segment exists' test -e "/dev/shm/${segment}"
}

start_workers() {
  step 2 "A server with ${workers} worker processes on one listening socket"
  start_server server --policy "per_key=1/h burst ${burst}" --workers "${workers}" \
    --key header:X-API-Key
  echo "  ${url}, parent ${server_pid}, workers $(live_workers | sort -n | xargs)"
  check "the parent has ${workers} workers" holds "$(live_workers | wc -l) == workers"

  step 3 'All of them answer on that one socket'
  local round
  for ((round = 0; round < 40; ++round)); do
    curl -s -m 20 --parallel --parallel-max 32 -H 'Connection: close' "${url}/pid?[1-64]" \
      >>"${temp}/pids" 2>>"${temp}/curl.err" || true
    (($(sort -u "${temp}/pids" | wc -l) < workers)) || break
  done
  check "${workers} different processes answered GET /pid: $(sort -un "${temp}/pids" | xargs)" \
    holds "$(sort -u "${temp}/pids" | wc -l) == workers"
}

drive() {
  step 4 "wrk: ${#keys[@]} API keys at once, ${connections} connections each"
  local key
  driven_at=${SECONDS}
  drivers=()
  for key in "${keys[@]}"; do
    wrk -t1 "-c${connections}" -d90s --timeout 20s -s "${here}/count.lua" \
      -H "X-API-Key: ${key}" "${url}/" >"${temp}/wrk-${key}.log" 2>&1 &
    drivers+=($!)
    children+=($!)
  done

  step 5 "Meanwhile: kill -9 of a busy worker, ${kills} time(s)"
  local i goal taken victim line
  for ((i = 1; i <= kills; ++i)); do
    goal=$((${#keys[@]} * burst * i / (8 * kills)))
    taken=$(ask wait-taken per_key "${goal}" "${keys[@]}") || fail 'the load makes no progress'
    victim=$(busiest_worker)
    kill -9 "${victim}"
    check "killed ${victim} when about ${taken} of $((${#keys[@]} * burst)) permits were taken" \
      holds "taken < ${#keys[@]} * burst"
    line=$(replacement_of "${victim}") || fail "worker ${victim} was not replaced"
    check "${line}" test -n "${line}"
  done

  ask wait-taken per_key $((${#keys[@]} * burst)) "${keys[@]}" >"${temp}/taken" ||
    fail 'the permits are not used up'
  sleep 1  # the last answers arrive, and denials follow
  local pid
  for pid in "${drivers[@]}"; do
    kill -INT "${pid}" 2>/dev/null || fail 'wrk ended early'
  done
  for pid in "${drivers[@]}"; do wait "${pid}" || fail 'wrk failed'; done
  children=("${server_pid}")
  elapsed=$((SECONDS - driven_at + 1))
}

# Reads wrk's result line for a key into admitted, denied, other and broken.
read_result() {
  local line
  line=$(grep '^result ' "${temp}/wrk-$1.log") || fail "wrk gave no result for $1"
  # shellcheck disable=SC2086
  local ${line#result }
  printf '%d %d %d %d\n' "${admitted}" "${denied}" "${other}" "${broken}"
}

account() {
  step 6 'What the clients saw, against what the policy allows'
  local refilled=$((elapsed / refill_s)) key admitted denied other broken lost
  local allowance=$((burst + refilled))
  echo "  allowance for each key: burst ${burst} + ${refilled} refilled in ${elapsed} s at most"
  all_admitted=0 all_lost=0 all_broken=0 all_requests=0
  for key in "${keys[@]}"; do
    read -r admitted denied other broken <<<"$(read_result "${key}")"
    lost=$((allowance - admitted))
    check "${key}: ${admitted} x 200, ${denied} x 429, ${broken} calls broken by kills" \
      holds "other == 0 && admitted + denied > 0"
    check "${key}: never more than ${allowance}; short by ${lost}, at most the broken calls" \
      holds "lost >= 0 && lost <= broken"
    ((all_admitted += admitted, all_lost += lost, all_broken += broken)) || true
    ((all_requests += admitted + denied)) || true
  done
  check "together: ${all_requests} requests, ${all_admitted} x 200, ${all_lost} charged and never \
answered" holds "all_admitted + all_lost == ${#keys[@]} * allowance"
  check "each kill broke calls in flight (${all_broken} in all)" \
    holds "all_broken >= kills && all_broken <= kills * ${#keys[@]} * connections"
}

show_dump() {
  step 7 "brim dump names the keys and what remains (zoe asked ${visits} times)"
  local i key
  for ((i = 0; i < visits; ++i)); do
    [[ $(status_of -H 'X-API-Key: zoe' "${url}/") == 200 ]] || fail 'zoe was not answered with 200'
  done
  "${brim}" dump "${segment}" | sed 's/^/  /'
  ask keys per_key >"${temp}/keys"
  for key in "${keys[@]}"; do
    check "${key} has 0 left" grep -qx "${key} 0" "${temp}/keys"
  done
  check "zoe has $((burst - visits)) left" grep -qx "zoe $((burst - visits))" "${temp}/keys"
  local code=0
  "${brim}" try "${segment}" alice --policy per_key >"${temp}/try" || code=$?
  check 'another program, brim try, is denied for alice too' holds "code == 75"
}

show_fields() {
  step 8 'What a denied client is told, and the counters'
  curl -s -m 20 -i -H 'X-API-Key: alice' "${url}/" | tr -d '\r' >"${temp}/answer"
  sed 's/^/  | /' "${temp}/answer"
  check 'status 429' grep -q '^HTTP/1.1 429 ' "${temp}/answer"
  check 'RateLimit-Policy: the quota and its window in seconds' grep -qx \
    "RateLimit-Policy: \"per_key\";q=${burst};w=$((burst * refill_s))" "${temp}/answer"
  local wait_s
  wait_s=$(sed -n 's/^Retry-After: //p' "${temp}/answer")
  check "Retry-After: ${wait_s}, until the next permit" \
    holds "wait_s > 0 && wait_s <= refill_s && wait_s >= refill_s - (SECONDS - driven_at) - 1"
  check 'RateLimit: nothing remains, and the same time' \
    grep -qx "RateLimit: \"per_key\";r=0;t=${wait_s}" "${temp}/answer"
  local allowed due=$((all_admitted + all_lost + visits))
  allowed=$(ask counter per_key allowed)
  check "brim info counts ${allowed} allowed; ${due} were, less one for a kill at most" \
    holds "allowed <= due && allowed >= due - kills"

  start_server fast --policy 'fast=1/2s burst 3' --workers 2 --key addr
  local code tries
  for ((tries = 0; tries < 50; ++tries)); do
    code=$(curl -s -m 20 -D "${temp}/fast" -o /dev/null -w '%{http_code}' "${url}/")
    [[ "${code}" == 200 ]] || break
  done
  wait_s=$(tr -d '\r' <"${temp}/fast" | sed -n 's/^Retry-After: //p')
  check "1 in 2 s, burst 3, by address: denied after ${tries}, Retry-After: ${wait_s:-none}" \
    holds "code == 429 && tries >= 3 && wait_s >= 1 && wait_s <= 2"
  sleep "${wait_s}"
  check "after ${wait_s} s the next call is admitted" test "$(status_of "${url}/")" = 200
}

stop_servers() {
  local pid code
  for pid in $(live_workers); do echo "${pid}"; done >"${temp}/last"
  for pid in "${children[@]}"; do
    kill -0 "${pid}" 2>/dev/null || continue
    code=0
    kill "${pid}" && wait "${pid}" || code=$?
    ((code == 0)) || fail "process ${pid} ended with exit code ${code}"
  done
  children=()
  while read -r pid; do
    ! kill -0 "${pid}" 2>/dev/null || fail "worker ${pid} outlived its parent"
  done <"${temp}/last"
  "${brim}" unlink "${segment}"
}

create_segment
start_workers
drive
account
show_dump
show_fields
stop_servers
echo "demo: ${checks} checks passed in $((SECONDS - started_at)) s"
