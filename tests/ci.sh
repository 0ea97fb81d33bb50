#!/bin/bash
# SPDX-License-Identifier: MIT
# What `./run test` and CI run, stage by stage. Each stage and each test in it counts; the last
# line of output is the sum, `N passed, N failed`. Exits non-zero if anything failed.
#
# usage: ci.sh [STAGE...]    all stages if none is named; the names are the functions stage_NAME
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly logs=build-ci/logs jobs=2
# Not among them, for they take long: `tests/ci.sh wheel asan_all tidy`.
readonly stages=(main clang asan tsan release install format shell clean)
readonly skipped_code=77
passed=0 failed=0 skipped=0
tree_before=''

# configure DIR OPTIONS...: every optional part must be there, or CI would pass by leaving it out.
configure() {
  local dir=$1
  shift
  # Line numbers are all that a failure's trace needs: whole debug information takes a third of the
  # compiler's time.
  local options=("${dir}" -Dwerror=true -Dtests=enabled -Dexamples=enabled -Ddebug=false
    -Dcpp_args=-g1 "$@")
  if [[ -e ${dir}/meson-private/coredata.dat ]]; then
    meson setup --reconfigure "${options[@]}" || meson setup --wipe "${options[@]}"
  else
    meson setup "${options[@]}"
  fi
}

build() { ninja -C "$1" -j "${jobs}"; }

# What a user gets: the libraries, the commands, the man pages.
build_installed() {
  local files='src/libbrim[a-z-]*\.so[0-9.]*|tools/brim(-serve)?|docs/man/brim[a-z_-]*\.[13]'
  ninja -C "$1" -t targets all | sed -n -E "s#^(${files}): .*#\\1#p" |
    xargs ninja -C "$1" -j "${jobs}"
}

# run_suites DIR OPTIONS...: builds what the chosen tests need, and runs them.
run_suites() {
  local dir=$1
  shift
  rm -f "${dir}/meson-logs/testlog.json"
  counted_dir=${dir}
  meson test -C "${dir}" --print-errorlogs --timeout-multiplier 2 "$@" || return
  [[ -s ${dir}/meson-logs/testlog.json ]] || {
    echo 'no test was run'
    return 1
  }
}

# Adds up the results in a directory's test log.
count_tests() {
  local log=$1/meson-logs/testlog.json ok bad skip
  [[ -e ${log} ]] || return 0
  ok=$(grep -cE '"result": "(OK|EXPECTEDFAIL)"' "${log}" || true)
  bad=$(grep -cE '"result": "(FAIL|ERROR|TIMEOUT|INTERRUPT|UNEXPECTEDPASS)"' "${log}" || true)
  skip=$(grep -cE '"result": "SKIP"' "${log}" || true)
  passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
  detail=": ${ok} tests passed, ${bad} failed, ${skip} skipped"
}

# skip WHY: the stage's last words.
skip() {
  echo "$1"
  return "${skipped_code}"
}

sources() {
  find "$@" \( -name '*.cc' -o -name '*.c' -o -name '*.h' \) -not -path '*/build*' | LC_ALL=C sort
}

# Not for one stage alone, but for all that follow.
prepare() {
  mkdir -p "${logs}"
  export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
  export ASAN_OPTIONS=detect_stack_use_after_return=1
  export TSAN_OPTIONS=halt_on_error=1
  if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    tree_before=$(git status --porcelain)
  fi
}

stage_main() {  # gcc, all tests but the slow ones
  configure build -Dpython=enabled && build build && run_suites build --no-suite slow
}

# Here each file is compiled by itself, so that none leans on its neighbours' includes.
configure_clang() {
  CC=clang CXX=clang++ configure build-ci-clang -Dmutants=none -Dpython=disabled \
    -Dfile_by_file=true
}

stage_clang() {  # optimised by another compiler; stage asan has its warnings about all the rest
  configure_clang && run_suites build-ci-clang --suite optimized
}

# Address and undefined behaviour. clang builds it in half of gcc's time.
configure_asan() {
  CC=clang CXX=clang++ configure build-ci-asan -Db_sanitize=address,undefined -Doptimization=1 \
    -Db_lundef=false -Dbenchmarks=disabled -Dmutants=none -Dpython=disabled
}

stage_asan() {  # what parses foreign bytes, algorithms, the C interface; asan_all has the others
  configure_asan && run_suites build-ci-asan --no-suite slow --suite unit --suite fuzz
}

stage_asan_all() {
  configure_asan &&
    run_suites build-ci-asan --no-suite slow --no-suite sim --no-suite model --no-suite style
}

stage_tsan() {  # without address randomisation, which gcc 12's runtime can not stand on new kernels
  CC=clang CXX=clang++ configure build-ci-tsan -Db_sanitize=thread -Doptimization=1 \
    -Db_lundef=false -Dbenchmarks=disabled -Dmutants=none -Dpython=disabled || return
  meson introspect --tests build-ci-tsan | grep -q ':threads"' ||
    skip 'there is no suite threads' || return
  rm -f build-ci-tsan/meson-logs/testlog.json
  counted_dir=build-ci-tsan
  setarch "$(uname -m)" -R meson test -C build-ci-tsan --print-errorlogs --timeout-multiplier 4 \
    --suite threads
}

stage_release() {  # optimised, with link-time optimisation and without assertions
  configure build-ci-release -Dbuildtype=release -Db_lto=true -Dmutants=none -Dpython=disabled \
    "-Dprefix=${PWD}/build-ci-release/prefix" -Dlibdir=lib &&
    run_suites build-ci-release --suite prefork
}

# C programs by pkg-config alone, and the same ones by CMake where that is installed.
install_c() {
  local prefix=$1 segment=$2 flags name built=${1}/c-cmake
  for name in brim:gate brim-sync:keep; do
    flags=$(PKG_CONFIG_PATH=${prefix}/lib/pkgconfig pkg-config --cflags --libs "${name%:*}") ||
      return
    echo "flags for C: ${flags}"
    ! grep -q absl <<<"${flags}" || return
    # shellcheck disable=SC2086
    gcc -std=c99 -Wall -Wextra -Werror "examples/c/${name#*:}.c" -o "${prefix}/${name#*:}" \
      ${flags} || return
  done
  use_c "${prefix}" "${prefix}" "${segment}" || return
  command -v cmake >/dev/null || return 0
  rm -rf "${built}"
  cmake -S examples/c -B "${built}" "-DCMAKE_PREFIX_PATH=${prefix}" && cmake --build "${built}" &&
    use_c "${prefix}" "${built}" "${segment}"
}

# use_c PREFIX DIRECTORY SEGMENT: what the C examples in the directory do.
use_c() {
  local prefix=$1 programs=$2 segment=$3 code=0 out
  export LD_LIBRARY_PATH=${prefix}/lib
  out=$(printf '%s\n' 192.0.2.1 ::ffff:192.0.2.1 192.0.2.1 2001:db8::1 |
    "${programs}/gate" "${segment}" '2/h') || code=$?
  echo "${out}"
  ((code == 75)) && (($(grep -c passes <<<"${out}") == 3)) &&
    "${prefix}/bin/brim" unlink "${segment}" || return
  rm -f "${prefix}/keep.db"*
  for _ in 1 2 3; do
    out=$("${programs}/keep" "${segment}" "${prefix}/keep.db") && echo "${out}" &&
      "${prefix}/bin/brim" unlink "${segment}" || return
  done
  unset LD_LIBRARY_PATH
  [[ ${out} == 'taken, 7 left' ]]
}

stage_install() {  # a user of the installed library needs nothing but pkg-config
  local prefix=${PWD}/build-ci-release/prefix segment=ci-install-$$
  [[ -e build-ci-release/build.ninja ]] || return 1
  rm -rf "${prefix}"
  build_installed build-ci-release && meson install -C build-ci-release --no-rebuild || return
  local flags
  flags=$(PKG_CONFIG_PATH=${prefix}/lib/pkgconfig pkg-config --cflags --libs brim-cxx) || return
  echo "flags: ${flags}"
  # shellcheck disable=SC2086
  g++ -std=c++20 -Wall -Wextra -Werror examples/minimal.cc -o "${prefix}/minimal" ${flags} ||
    return
  local allowed
  allowed=$(LD_LIBRARY_PATH=${prefix}/lib "${prefix}/minimal" "${segment}" | grep -c ' allowed')
  LD_LIBRARY_PATH=${prefix}/lib "${prefix}/bin/brim" unlink "${segment}" || return
  echo "allowed ${allowed} of 25"
  ((allowed >= 20 && allowed <= 22)) || return
  flags=$(PKG_CONFIG_PATH=${prefix}/lib/pkgconfig pkg-config --cflags --libs brim-sync-cxx) ||
    return
  echo "flags: ${flags}"
  # shellcheck disable=SC2086
  g++ -std=c++20 -Wall -Wextra -Werror examples/restored.cc -o "${prefix}/restored" ${flags} ||
    return
  for _ in 1 2; do
    LD_LIBRARY_PATH=${prefix}/lib "${prefix}/restored" "${segment}" "${prefix}/state.db" || return
    LD_LIBRARY_PATH=${prefix}/lib "${prefix}/bin/brim" unlink "${segment}" || return
  done | grep -q '5 allowed, 10 left' || return
  install_c "${prefix}" "${segment}"
}

stage_wheel() {  # pip makes one, and what it installs works from elsewhere
  counted_dir=build
  rm -f build/meson-logs/testlog.json
  meson test -C build --no-rebuild --print-errorlogs 'slow python wheel'
}

stage_format() {
  [[ -e .clang-format ]] || skip 'there is no .clang-format' || return
  sources include src shm tools tests examples benchmarks python |
    xargs clang-format --dry-run -Werror
}

stage_tidy() {  # with the flags of the clang build
  [[ -e .clang-tidy ]] || skip 'there is no .clang-tidy' || return
  [[ -e build-ci-clang/compile_commands.json ]] || configure_clang || return
  sources src shm tools examples | grep '\.cc$' |
    xargs -P "${jobs}" -n 1 clang-tidy -p build-ci-clang --quiet
}

stage_shell() {  # the scripts parse; shellcheck, where it is installed, has nothing to say
  local script scripts
  mapfile -t scripts < <(find . -name '*.sh' -not -path './build*' -not -path './.git/*')
  scripts+=(./run ./.ci/run)
  for script in "${scripts[@]}"; do bash -n "${script}" || return; done
  ! command -v shellcheck >/dev/null || shellcheck "${scripts[@]}"
}

stage_clean() {  # nothing above has left a file or a change in the source tree
  git rev-parse --is-inside-work-tree >/dev/null 2>&1 || skip 'this is no git tree' || return
  local tree_now
  tree_now=$(git status --porcelain)
  diff <(echo "${tree_before}") <(echo "${tree_now}")
}

run_stage() {
  local name=$1 log=${logs}/$1.log code=0 started=${SECONDS}
  counted_dir='' detail=''
  echo "[$(date +%H:%M:%S)] ${name} ..."
  # Called so, errexit is off inside a stage: each of its steps ends with && or || return.
  "stage_${name}" >"${log}" 2>&1 </dev/null || code=$?
  [[ -z ${counted_dir} ]] || count_tests "${counted_dir}"
  local took=$((SECONDS - started))
  if ((code == 0)); then
    passed=$((passed + 1))
    echo "[$(date +%H:%M:%S)] ${name} OK in ${took} s${detail}"
  elif ((code == skipped_code)); then
    skipped=$((skipped + 1))
    echo "[$(date +%H:%M:%S)] ${name} SKIPPED: $(tail -n 1 "${log}")"
  else
    failed=$((failed + 1))
    echo "[$(date +%H:%M:%S)] ${name} FAILED in ${took} s${detail}; the end of ${log}:"
    tail -n 60 "${log}" | sed 's/^/  | /'
  fi
}

main() {
  local stage chosen=("$@")
  ((${#chosen[@]} > 0)) || chosen=("${stages[@]}")
  for stage in "${chosen[@]}"; do
    declare -F "stage_${stage}" >/dev/null || {
      echo "ci.sh: no stage '${stage}'; there are: ${stages[*]}" >&2
      exit 2
    }
  done
  prepare
  for stage in "${chosen[@]}"; do run_stage "${stage}"; done
  local sum="${passed} passed, ${failed} failed"
  ((skipped == 0)) || sum+=", ${skipped} skipped"
  echo "${sum}"
  ((failed == 0))
}

main "$@"
