#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Explores slot.pml completely with spin, one configuration after another.
#
#   run_models.sh small [name...]    about a minute, under 3 GB
#   run_models.sh large [name...]    at most 20 minutes, under 8 GB
#
# Names select configurations of the set. Those whose name begins with x_ weaken the protocol in
# one place and must fail: they show that the model can see that mistake. Those with t_ declare an
# event an error and must fail: they show that it is reached. One line each: name, flags, states,
# what was found, seconds of CPU time, verdict. Exit 77: spin is missing.
set -u -o pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
set_name=${1:-small}
shift || true
names=("$@")

case $set_name in
  small | large) ;;
  *) echo "usage: ${0##*/} small|large [name...]" >&2; exit 2 ;;
esac
for tool in spin gcc; do
  if ! command -v "$tool" > /dev/null; then
    echo "SKIP: $tool is not installed; no model was explored (Debian: apt-get install spin gcc)"
    exit 77
  fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

passed=0
failed=0
began=$SECONDS

selected() {
  [[ ${#names[@]} -eq 0 ]] && return 0
  local name
  for name in "${names[@]}"; do [[ $name == "$1" ]] && return 0; done
  return 1
}

# explore KIND NAME FLAG...
# KIND: safe  no assertion fails
#       full  the same without spin's partial-order reduction
#       live  no endless loop without an answer
# Every state is stored whole. (Hashed states, -DHC4, lost 0.5 % of them here.)
explore() {
  local kind=$1 name=$2
  shift 2
  selected "$name" || return 0
  local model=("$@") compile=(-w) run=(-m1000000) wanted='assertion violated'
  case $name in
    x_* | t_*) compile+=(-O0) ;;  # a short search: compiling takes longer
    *) [[ $set_name == small ]] && compile+=(-O1) || compile+=(-O2) ;;
  esac
  case $set_name in
    small) compile+=(-DMEMLIM=2900) ;;
    large) compile+=(-DMEMLIM=7900) run+=(-w25) ;;
  esac
  case $kind in
    safe) compile+=(-DSAFETY) ;;
    full) compile+=(-DSAFETY -DNOREDUCE) ;;
    live)
      compile+=(-DNP -DNOFAIR)
      model+=(-DLIVE)
      run+=(-l)
      wanted='non-progress cycle (' ;;
  esac

  local dir=$work/$name
  mkdir "$dir"
  local found='did not run' verdict=UNEXPECTED states=0 seconds=0 TIMEFORMAT=%1U
  if (cd "$dir" && spin "${model[@]}" -a "$here/slot.pml" > spin.log 2>&1 &&
      gcc "${compile[@]}" -o pan pan.c > gcc.log 2>&1); then
    seconds=$({ time (cd "$dir" && ./pan "${run[@]}" > pan.log 2>&1); } 2>&1)
    states=$(awk '/states, stored/ { print $1; exit }' "$dir/pan.log")
    if grep -qF "$wanted" "$dir/pan.log"; then
      found='violation found'
    elif grep -q 'errors: 0$' "$dir/pan.log" &&
      ! grep -qE 'not completed|MEMLIM|out of memory|too small|truncated' "$dir/pan.log"; then
      found='0 errors'
    else
      found='not completed'
    fi
  fi
  case $name/$found in
    [xt]_*/'violation found') verdict='as expected' ;;
    [xt]_*) ;;
    */'0 errors') verdict='as expected' ;;
  esac
  printf '%-4s %-11s %-52s %11s states  %-15s %7ss  %s\n' "$kind" "$name" "$*" \
    "${states:-0}" "$found" "$seconds" "$verdict"
  if [[ $verdict == 'as expected' ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    sed 's/^/     | /' "$dir"/*.log | grep -v 'Depth=' | tail -n 20
  fi
  rm -rf "$dir"
}

weakened() {
  explore safe x_naive     -DMUT=1
  explore safe x_rescan    -DMUT=2
  explore safe x_nokill    -DMUT=3
  explore safe x_noearlier -DMUT=4
  explore safe x_noverif   -DMUT=5
  explore safe x_noidle    -DMUT=6
  explore safe x_stale     -DMUT=7
  explore safe x_virgin    -DMUT=8 -DS=3
  explore safe x_oldreach  -DMUT=9 -DREACH=1
  explore safe x_noraise   -DMUT=10 -DREACH=1
  explore safe x_nononce   -DNONCEMOD=0
  explore safe x_wrap      -DNONCEMOD=2
  explore safe x_nomargin  -DSKEW=1 -DMARGIN=0
  explore live x_nograce   -DOVERTENT=1 -DMAXT=1
}

if [[ $set_name == small ]]; then
  explore safe p_base
  explore full p_full      -DREACH=1
  explore safe p_rotated   -DNK=3 -DROT=1 -DREACH=1 -DMAXT=1
  explore safe p_three     -DS=3 -DREACH=1 -DMAXT=1
  explore safe p_group     -DG=2
  explore safe p_evict     -DNK=3 -DEVICT=1 -DMAXT=1
  explore safe p_skew      -DSKEW=1
  explore safe p_giveup    -DGIVEUP=1 -DREACH=1
  explore safe p_burst2    -DB=2 -DMAXT=3
  explore safe p_counter   -DNONCEMOD=4 -DOPS=2 -DMAXT=1
  explore safe p_n3        -DN=3 -DMAXT=1 -DOPS=1 -DFILLED=0
  explore live l_base      -DOVERTENT=0 -DAGES=1
  explore live l_reach     -DOVERTENT=0 -DAGES=1 -DREACH=1 -DMAXT=1
  weakened
else
  for event in 1 3 4 5 6 7 8 9 10; do explore safe "t_event$event" -DPROBE=$event -DREACH=1; done
  explore safe t_event2    -DPROBE=2 -DREACH=1 -DEVICT=1 -DNK=3
  weakened
  explore live l_n3        -DN=3 -DOVERTENT=0 -DAGES=1 -DMAXT=0
  explore safe p_skew2     -DSKEW=1 -DREACH=1 -DB=2
  explore safe p_n4        -DN=4 -DNK=1 -DS=3 -DREACH=1 -DMAXT=2
  explore safe p_n3reach   -DN=3 -DREACH=1 -DMAXT=1 -DOPS=1
  explore safe p_n3evict   -DN=3 -DREACH=1 -DEVICT=1 -DMAXT=1 -DOPS=1
  explore safe p_keys3     -DNK=3 -DREACH=1
  explore full p_full3     -DS=3 -DREACH=1
  explore safe p_burst3    -DB=3 -DMAXT=5
  explore safe p_evict3    -DNK=3 -DEVICT=1 -DG=2
  explore safe p_groups    -DG=2 -DS=4 -DREACH=2
  explore safe p_n3late    -DN=3 -DMAXT=2 -DOPS=1
  explore live l_keys3     -DNK=3 -DREACH=1 -DOVERTENT=0 -DAGES=1 -DMAXT=1
  explore safe p_n3ever    -DN=3 -DMAXT=1 -DFILLED=0
fi

echo "$passed passed, $failed failed ($((SECONDS - began)) s)"
[[ $failed -eq 0 && $passed -gt 0 ]]
