#!/bin/bash
# SPDX-License-Identifier: MIT
# Looks for inputs that break a fuzz target, with clang and libFuzzer.
#
# usage: run_fuzz.sh SECONDS [TARGET...]    all targets if none is named
#
# Builds in build-fuzz (or $BRIM_FUZZ_BUILD), runs each target for SECONDS with the committed corpus
# as seed. New inputs go to build-fuzz/found/TARGET, findings to build-fuzz/findings. Exits with 1
# if there is a finding and says how to repeat it; with 77 if clang or libFuzzer is missing, or if
# no target can run here. The last line tells how many were skipped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly root=${here}/../..
readonly build=${BRIM_FUZZ_BUILD:-${root}/build-fuzz}
readonly rss_mb=2048 seconds_per_input=60
readonly targets=(header attach tools policy_text policy_file access_log command_line address
  output snapshot snapshot_rows redis_reply)

usage() {
  echo "usage: run_fuzz.sh SECONDS [TARGET...]; targets: ${targets[*]}" >&2
  exit 2
}

skip() {
  echo "skipped: $1"
  exit 77
}

check_compiler() {
  command -v clang++ >/dev/null || skip 'clang++ is not installed'
  local probe
  probe=$(mktemp -d)
  echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' \
    >"${probe}/probe.cc"
  local code=0
  clang++ -fsanitize=fuzzer,address "${probe}/probe.cc" -o "${probe}/probe" 2>/dev/null || code=$?
  rm -rf "${probe}"
  ((code == 0)) || skip 'clang++ has no libFuzzer'
}

build_targets() {
  local cache=''
  command -v ccache >/dev/null && cache='ccache '
  if [[ ! -e ${build}/build.ninja ]]; then
    CC="${cache}clang" CXX="${cache}clang++" meson setup "${build}" "${root}" \
      -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=2 -Dmutants=none \
      -Dbenchmarks=disabled -Dexamples=disabled -Dcpp_args=-fsanitize=fuzzer-no-link
  fi
  ninja -C "${build}" -j "${BRIM_FUZZ_JOBS:-2}" "${@/#/tests/fuzz/fuzz_}"
}

# run_target NAME SECONDS; returns 1 if there is a finding, 77 if the target can not run here.
run_target() {
  local name=$1 seconds=$2
  local found=${build}/found/${name} log=${build}/logs/${name}.log options=()
  mkdir -p "${found}" "${build}/findings" "${build}/logs"
  [[ ! -e ${here}/dict/${name}.dict ]] || options+=("-dict=${here}/dict/${name}.dict")
  echo "${name}: ${seconds} s"
  # libFuzzer's own code for a finding is 77, which here means skipped.
  local code=0
  "${build}/tests/fuzz/fuzz_${name}" "${options[@]}" -max_total_time="${seconds}" \
    -rss_limit_mb="${rss_mb}" -timeout="${seconds_per_input}" -error_exitcode=76 \
    -print_final_stats=1 \
    -artifact_prefix="${build}/findings/${name}-" "${found}" "${here}/corpus/${name}" \
    >"${log}" 2>&1 </dev/null || code=$?
  if ((code == 77)); then
    echo "  skipped: $(tail -n 1 "${log}")"
    return 77
  fi
  echo "  $(grep -c . <(ls "${found}")) inputs found," \
    "$(sed -n 's/^stat::number_of_executed_units: *//p' "${log}") run," \
    "$(grep -oE 'cov: [0-9]+ ft: [0-9]+' "${log}" | tail -n 1)"
  ((code == 0)) && return 0
  echo "  FINDING (exit ${code}); the end of ${log}:"
  tail -n 40 "${log}" | sed 's/^/  | /'
  local artifact
  artifact=$(sed -n 's/.*Test unit written to //p' "${log}" | tail -n 1)
  echo "  repeat: ${build}/tests/fuzz/fuzz_${name} ${artifact}"
  echo "  keep:   cp ${artifact} ${here}/corpus/${name}/"
  return 1
}

main() {
  [[ ${1:-} =~ ^[0-9]+$ ]] || usage
  local seconds=$1 name code failed=0 skipped=0
  shift
  local chosen=("$@")
  ((${#chosen[@]} > 0)) || chosen=("${targets[@]}")
  for name in "${chosen[@]}"; do
    [[ " ${targets[*]} " == *" ${name} "* ]] || usage
  done
  check_compiler
  export ASAN_OPTIONS=detect_stack_use_after_return=1:allocator_may_return_null=1
  export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
  build_targets "${chosen[@]}"
  for name in "${chosen[@]}"; do
    code=0
    run_target "${name}" "${seconds}" || code=$?
    case ${code} in
      0) ;;
      77) skipped=$((skipped + 1)) ;;
      *) failed=1 ;;
    esac
  done
  echo "${#chosen[@]} targets, ${skipped} skipped"
  ((failed == 0 && skipped == ${#chosen[@]})) && return 77
  return "${failed}"
}

main "$@"
