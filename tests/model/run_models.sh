#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Explores the models completely with spin, one configuration after another.
#
#   run_models.sh small [what...]    about two minutes of CPU time, under 3 GB
#   run_models.sh large [what...]    at most an hour, under 8 GB
#
# `what` selects models (slot, cells, policy, parts, snapshot, resize, consumption) or
# configurations of one
# (cells/p_log); nothing: all of the set. Configurations whose name begins with x_ weaken the
# protocol in one place and must fail: they show that the model can see that mistake. Those with t_
# declare an event an error and must fail: they show that it is reached. One line each: name, flags,
# states, what was found, seconds of CPU time, verdict. Exit 77: spin is missing.
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
  for name in "${names[@]}"; do [[ $name == "$model" || $name == "$model/$1" ]] && return 0; done
  return 1
}

model=''  # explore() explores $model.pml

# explore KIND NAME FLAG...
# KIND: safe  no assertion fails
#       full  the same without spin's partial-order reduction
#       live  no endless loop without an answer
# Every state is stored whole. (Hashed states, -DHC4, lost 0.5 % of them here.)
explore() {
  local kind=$1 name=$2
  shift 2
  selected "$name" || return 0
  local flags=("$@") compile=(-w) run=(-m1000000) wanted='assertion violated'
  # For a short search compiling and the making of tables take longer than the search.
  case $set_name/$name in
    */x_* | */t_*) compile+=(-O0); [[ $model == slot ]] || run=(-m100000 -w20) ;;
    small/*)
      if [[ $model == slot ]]; then compile+=(-O1); else compile+=(-O0); run=(-m100000 -w22); fi ;;
    large/*) compile+=(-O2); run+=(-w25) ;;
  esac
  case $set_name in
    small) compile+=(-DMEMLIM=2900) ;;
    large) compile+=(-DMEMLIM=7900) ;;
  esac
  case $kind in
    safe) compile+=(-DSAFETY) ;;
    full) compile+=(-DSAFETY -DNOREDUCE) ;;
    live)
      compile+=(-DNP -DNOFAIR)
      flags+=(-DLIVE)
      run+=(-l)
      wanted='non-progress cycle (' ;;
  esac

  local dir=$work/$model-$name
  mkdir "$dir"
  local found='did not run' verdict=UNEXPECTED states=0 seconds=0 TIMEFORMAT=%1U
  if (cd "$dir" && spin "${flags[@]}" -a "$here/$model.pml" > spin.log 2>&1 &&
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
  printf '%-4s %-8s %-13s %-52s %11s states  %-15s %7ss  %s\n' "$kind" "$model" "$name" "$*" \
    "${states:-0}" "$found" "$seconds" "$verdict"
  if [[ $verdict == 'as expected' ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    sed 's/^/     | /' "$dir"/*.log | grep -v 'Depth=' | tail -n 20
  fi
  rm -rf "$dir"
}

slot_weakened() {
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

slot_small() {
  explore safe p_base
  explore full p_full      -DREACH=1
  explore safe p_three     -DS=3 -DREACH=1 -DMAXT=1
  explore safe p_group     -DG=2
  explore safe p_evict     -DNK=3 -DEVICT=1 -DMAXT=1
  explore safe p_skew      -DSKEW=1
  explore live l_base      -DOVERTENT=0 -DAGES=1
  slot_weakened
}

slot_large() {
  for event in 1 3 4 5 6 7 8 9 10; do explore safe "t_event$event" -DPROBE=$event -DREACH=1; done
  explore safe t_event2    -DPROBE=2 -DREACH=1 -DEVICT=1 -DNK=3
  slot_weakened
  explore safe p_n3        -DN=3 -DMAXT=1 -DOPS=1 -DFILLED=0
  explore live l_reach     -DOVERTENT=0 -DAGES=1 -DREACH=1 -DMAXT=1
  explore live l_n3        -DN=3 -DOVERTENT=0 -DAGES=1 -DMAXT=0
  explore safe p_rotated   -DNK=3 -DROT=1 -DREACH=1 -DMAXT=1
  explore safe p_giveup    -DGIVEUP=1 -DREACH=1
  explore safe p_burst2    -DB=2 -DMAXT=3
  explore safe p_counter   -DNONCEMOD=4 -DOPS=2 -DMAXT=1
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
}

events() {  # LIST FLAG...: the events of a list, reached with these flags
  local event
  for event in $1; do explore safe "t_event$event" -DPROBE="$event" "${@:2}"; done
}

cells_weakened() {
  explore safe x_noraise   -DMUT=1 -DLK=2
  explore safe x_oldclock  -DMUT=2 -DLK=2
  explore safe x_norecheck -DMUT=3 -DLK=2
  explore safe x_anyfree   -DMUT=4
  explore safe x_backzero  -DMUT=5 -DBACK=1
  explore safe x_noundo    -DMUT=6 -DCOST=2 -DL=2
  explore safe x_nodoubt   -DMUT=7 -DLOGS=1 -DLEASES=2 -DD=3 -DL=2 -DP=1 -DMAXT=2
  explore safe x_nofree    -DMUT=8 -DLOGS=0 -DLEASES=2 -DD=4 -DL=2 -DLOWER=1
  explore safe x_norenew   -DMUT=9 -DLOGS=1 -DLEASES=2 -DNS=2 -DP=2 -DMAXT=3
  explore safe x_reap      -DMUT=10 -DLOGS=1 -DLEASES=2 -DKILL=1 -DP=1 -DMAXT=2
  explore safe x_once      -DMUT=11 -DLOGS=0 -DLEASES=3 -DD=4 -DL=2 -DMAXT=1
  explore safe x_release   -DMUT=12 -DLOGS=2 -DLEASES=1 -DP=1 -DMAXT=2
  explore safe x_nomargin  -DSKEW=1 -DMARGIN=0 -DLK=2
}

cells_small() {
  explore safe p_log
  explore safe p_keys      -DLK=2 -DNS=2
  explore safe p_skew      -DSKEW=1 -DLK=2 -DMAXT=2 -DP=1
  explore safe p_cost      -DCOST=2 -DL=2 -DMAXT=2
  explore safe p_back      -DBACK=1 -DMAXT=2
  explore safe p_lease     -DLOGS=0 -DLEASES=2 -DD=4 -DL=2 -DMAXT=2
  explore safe p_leaseskew -DLOGS=0 -DLEASES=2 -DSKEW=1 -DP=3
  explore safe p_lower     -DLOGS=0 -DLEASES=2 -DD=4 -DL=2 -DLOWER=1 -DMAXT=2
  explore safe p_mixed     -DLOGS=2 -DLEASES=1 -DP=1 -DMAXT=2
  explore safe p_reap      -DLOGS=1 -DLEASES=2 -DKILL=1 -DP=1 -DMAXT=2
  cells_weakened
}

cells_large() {
  events '1 3 4 8' -DLK=2
  explore safe t_event2    -DPROBE=2 -DLK=2
  explore safe t_event5    -DPROBE=5 -DCOST=2 -DL=2
  explore safe t_event6    -DPROBE=6 -DBACK=1
  explore safe t_event7    -DPROBE=7 -DBACK=1
  explore safe t_event9    -DPROBE=9 -DLOGS=0 -DLEASES=2 -DD=4 -DL=2
  explore safe t_event10   -DPROBE=10 -DLOGS=1 -DLEASES=1 -DP=1
  events '11 12 13 14' -DLOGS=0 -DLEASES=2
  explore safe t_event15   -DPROBE=15 -DLOGS=0 -DLEASES=2 -DKILL=1
  explore safe t_event16   -DPROBE=16 -DLOGS=0 -DLEASES=2 -DD=4 -DL=2 -DLOWER=1
  explore safe t_event17   -DPROBE=17 -DBACK=1
  cells_weakened
  explore safe x_half      -DMUT=13 -DLOGS=2 -DLEASES=1 -DL=2 -DP=1 -DMAXT=2
  explore full p_full      -DLK=2
  explore safe p_log3      -DLOGS=3 -DMAXT=2
  explore safe p_log3keys  -DLOGS=3 -DLK=2 -DP=1 -DMAXT=2
  explore safe p_slack     -DSLACK=1 -DLK=2 -DNS=2
  explore safe p_skew2     -DSKEW=1 -DLK=2
  explore safe p_skewslots -DSKEW=1 -DLK=2 -DNS=2 -DP=1 -DMAXT=2
  explore safe p_cost2     -DCOST=2 -DL=2
  explore safe p_cost3     -DCOST=2 -DL=2 -DD=3 -DMAXT=2
  explore safe p_back1     -DBACK=1
  explore safe p_back2     -DBACK=1 -DL=2 -DMAXT=2
  explore safe p_backany   -DBACK=1 -DL=2 -DMAXT=2 -DEXACT=0
  explore safe p_lease2    -DLOGS=0 -DLEASES=2 -DD=4 -DL=2
  explore safe p_lease3    -DLOGS=0 -DLEASES=3 -DD=4 -DL=2 -DMAXT=1
  explore safe p_lease3one -DLOGS=0 -DLEASES=3 -DMAXT=2
  explore safe p_lower2    -DLOGS=0 -DLEASES=2 -DD=4 -DL=2 -DLOWER=1
  explore safe p_mixed2    -DLOGS=2 -DLEASES=1 -DL=2 -DP=1 -DMAXT=2
  explore safe p_mixed3    -DLOGS=1 -DLEASES=2 -DD=3 -DL=2 -DP=1 -DMAXT=2
  explore safe p_mixedslots -DLOGS=1 -DLEASES=2 -DNS=2 -DP=1 -DMAXT=2
  explore safe p_reapskew  -DLOGS=0 -DLEASES=2 -DKILL=1 -DSKEW=1 -DP=3
  explore safe p_reap3     -DLOGS=0 -DLEASES=3 -DKILL=1 -DP=1 -DMAXT=1
}

policy_weakened() {
  explore safe x_first     -DMUT=1
  explore safe x_nocheck   -DMUT=2
  explore safe x_early     -DMUT=3
  explore safe x_nolock    -DMUT=4
  explore safe x_nocarry   -DMUT=5
  explore safe x_before    -DMUT=6
  explore safe x_lockbit   -DMUT=8
  explore safe x_notop     -DMUT=9 -DRESET=1
  explore safe x_oldquota  -DMUT=12 -DCALLERS=2 -DWRITERS=1
  explore safe x_stopped   -DPROMPT=0
}

policy_small() {
  explore safe p_base      -DCALLS=1
  explore safe p_callers   -DCALLERS=2 -DWRITERS=1 -DMAXT=2
  explore safe p_reset     -DRESET=1 -DMAXT=2
  policy_weakened
}

policy_large() {
  events '1 2 5 6 9 10'
  events '3 4' -DCALLERS=2 -DWRITERS=1
  events '7 8' -DRESET=1
  policy_weakened
  explore safe x_onecopy   -DMUT=7
  explore safe x_unlock    -DMUT=11
  explore safe x_latelock  -DMUT=10
  explore safe p_calls
  explore full p_full      -DCALLS=1
  explore safe p_callers2  -DCALLERS=2 -DWRITERS=1
  explore safe p_resets    -DRESET=1
  explore safe p_changes   -DCHANGES=2 -DCALLS=1
  explore safe p_both      -DCALLERS=2 -DCALLS=1 -DRESET=1 -DMAXT=1
  explore safe p_resets2   -DCALLERS=2 -DWRITERS=1 -DRESET=1 -DCALLS=1
  explore safe p_burst1    -DBURST=1 -DC=3
}

parts_solo=(-DN=3 -DCALLS=1 -DSOLO=4 -DMAXT=1)

parts_weakened() {
  explore safe x_refund    -DMUT=1
  explore safe x_noundo    -DMUT=2
  explore safe x_blind     -DMUT=3
  explore safe x_oldtime   -DMUT=4
  explore safe x_restore   -DMUT=5
  explore safe x_anywindow -DMUT=6 -DWINDOWS=1 -DMAXT=3
  explore safe x_half      -DMUT=7
  explore safe x_plain     -DMUT=8
  explore safe x_receipt   -DMUT=9 "${parts_solo[@]}"
  explore safe x_clockfirst -DMUT=10 "${parts_solo[@]}"
}

parts_small() {
  explore safe p_base
  explore safe p_window    -DWINDOWS=1 -DMAXT=2
  explore safe p_solo      -DN=3 -DCALLS=1 -DSOLO=2 -DMAXT=1
  parts_weakened
}

parts_large() {
  events '1 2 3 4 5 7'
  events '6 8' "${parts_solo[@]}"
  parts_weakened
  explore safe x_comesback -DUNIQUE=0 "${parts_solo[@]}"
  explore full p_full      -DMAXT=1
  explore safe p_turned    -DTURNED=1
  explore safe p_window3   -DWINDOWS=1 -DMAXT=3
  explore safe p_windows   -DWINDOWS=2 -DMAXT=3
  explore safe p_solo4     "${parts_solo[@]}"
  explore safe p_cost2     -DCOST=2 -DB1=2 -DMAXT=1
  explore safe p_three     -DN=3 -DCALLS=2 -DMAXT=1
  explore safe p_parts3    -DPARTS=3 -DB1=2 -DMAXT=1
}

snapshot_weakened() {
  explore safe x_noinode   -DMUT=1
  explore safe x_never     -DMUT=2
  explore safe x_child     -DMUT=3 -DUNLINKS=0
  explore safe x_childfree -DMUT=4
  explore safe x_pidfile   -DMUT=5 -DUNLINKS=0
  explore safe x_timelease -DMUT=6 -DUNLINKS=0
  explore safe x_genfirst  -DMUT=7
  explore safe x_rowsfirst -DMUT=8
  explore safe x_notx      -DMUT=9
}

snapshot_small() {
  explore safe p_base
  explore safe p_sound     -DUNLINKS=0 -DN=3
  explore safe p_three     -DN=3
  snapshot_weakened
}

snapshot_large() {
  events '2 3 4 5 6 7' -DN=2
  events '1 8 9' -DN=2 -DUNLINKS=1
  snapshot_weakened
  explore full p_full      -DN=2
  explore safe p_unlinks   -DN=3 -DUNLINKS=2
  explore safe p_kills     -DN=3 -DKILLS=2 -DFORKS=2 -DUNLINKS=2
  explore safe p_four      -DN=4 -DKILLS=2
}

resize_small() {
  explore safe p_base
  explore safe p_limit3    -DLIMIT=3 -DCALLS=2
  explore safe x_nosecond  -DMUT=1
  explore safe x_earlycopy -DMUT=2
  explore safe x_nocarry   -DMUT=3
  explore safe x_earlyend  -DMUT=4
}

resize_large() {
  resize_small
  explore full p_full
  explore safe p_calls3    -DLIMIT=3 -DCALLS=3
  explore safe p_three     -DN=4 -DLIMIT=2 -DCALLS=2
}

consumption_weakened() {
  explore safe x_markfirst -DMUT=1 -DCALLS=1
  explore safe x_lookfirst -DMUT=2 -DCALLS=1
  explore safe x_anyname   -DMUT=3 -DCALLS=1
  explore safe x_once      -DMUT=4 -DCALLS=1
  explore safe x_anyslot   -DMUT=5 -DCALLS=1
  explore safe x_store     -DMUT=6 -DCALLS=1
  explore safe x_notfirst  -DMUT=7
  explore safe x_oldname   -DMUT=9 -DSECRETS=1 -DMOVES=0 -DCALLS=1
  explore safe x_diff      -DMUT=10
  explore safe x_ackearly  -DMUT=11
}

consumption_small() {
  explore safe p_base      -DCALLS=1
  explore safe p_secret    -DW=1 -DSECRETS=1
  consumption_weakened
}

consumption_large() {
  consumption_weakened
  explore safe p_calls
  explore safe p_secrets   -DSECRETS=1 -DMOVES=0
}

for model in slot cells policy parts snapshot resize consumption; do "${model}_$set_name"; done
echo "$passed passed, $failed failed ($((SECONDS - began)) s)"
[[ $failed -eq 0 && $passed -gt 0 ]]
