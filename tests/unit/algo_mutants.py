#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that the property tests find mistakes: weakens src/algo and its callers
one place at a time.

algo_mutants.py [--quick] [--list] [--only NAME] [--cxx COMPILER] [--jobs N] ROOT BUILD_DIR

Each mutant is an exact replacement (but for line breaks) in a copy of one file. A text that is not
found exactly once is an error, so that a change of the code can not silently turn a mutant into
the original. The property test is compiled against the copy and must fail. Tests that fail on the
original too are left out and named. Exit code 1: a mutant survived, does not compile, or its text
is gone.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys

GCRA, QUOTA, WINDOW = "src/algo/gcra.h", "src/algo/quota.h", "src/algo/window.h"
COUNTER, CALENDAR, BAN = "src/algo/counter.h", "src/algo/calendar.h", "src/algo/ban.h"
WARP, STEP, RATIO, CALL = ("src/algo/warp.h", "src/algo/step.h", "src/algo/ratio.h", "src/call.h")
COMPILE = "src/compile.cc"

# name: (header, test program, text, replacement)
MUTANTS = {
    # Buckets.
    "bucket_edge": (
        GCRA, "bucket",
        "units > quota.capacity - debt",
        "units >= quota.capacity - debt"),
    "bucket_base": (
        GCRA, "bucket",
        "return v + debt + units;",
        "return word + units;"),
    "bucket_retry_without_cost": (
        GCRA, "bucket",
        "debt_units(word, v) + units - quota.capacity",
        "debt_units(word, v) + (units & 0) - quota.capacity"),
    "bucket_never_at_burst": (
        GCRA, "bucket",
        "if (cost > quota.burst) {",
        "if (cost >= quota.burst) {"),
    "bucket_no_never": (
        GCRA, "published",
        "if (cost > quota.burst) {",
        "if (cost > kMaxCost) {"),
    "bucket_refund_wraps": (
        GCRA, "bucket",
        "units >= debt ? v",
        "units > debt + 1 ? v"),
    "bucket_refund_below_idle": (
        GCRA, "bucket",
        "debt == 0 ? word : units >= debt ? v",
        "debt == 0 ? word : units >= word ? v"),
    "bucket_charge_not_cut": (
        GCRA, "bucket",
        "(debt < most ? static_cast<uint64_t>(debt) : most)",
        "static_cast<uint64_t>(debt)"),
    "bucket_charge_forgets": (
        GCRA, "bucket",
        "const uint128 debt = debt_units(word, v) + units;",
        "const uint128 debt = units;"),
    "bucket_remaining_up": (
        QUOTA, "bucket",
        "static_cast<uint32_t>(units >> (quota.shift & 63))",
        "static_cast<uint32_t>((units + 1) >> (quota.shift & 63))"),
    "bucket_reset_one_late": (
        GCRA, "bucket",
        "next <= v ? 0 : ns_until(quota, now_ns, next)",
        "next <= v ? 0 : ns_until(quota, now_ns, next + 1)"),
    "bucket_debt_down": (
        STEP, "bucket",
        "((units - 1) >> (shift - 20)) + 1",
        "units >> (shift - 20)"),
    "bucket_ceiling_without_bookings": (
        STEP, "bucket",
        "return word <= at.v + quota.capacity_max;",
        "return word <= at.v + quota.capacity;"),
    # Forward charge and the queue.
    "queue_edge": (
        GCRA, "bucket",
        "debt > quota.capacity) return word;",
        "debt >= quota.capacity) return word;"),
    "queue_judged_after_charge": (
        GCRA, "bucket",
        "if (!has(quota, kByDebtBefore) && units >",
        "if (units >"),
    "queue_remaining": (
        GCRA, "bucket",
        "std::min<uint32_t>(whole, 0xfffffffe) + 1",
        "std::min<uint32_t>(whole, 0xfffffffe)"),
    "queue_delay_with_cost": (
        GCRA, "bucket",
        "has(quota, kByDebtBefore) ? cost_units(quota, cost) : 0;",
        "has(quota, kByDebtBefore) ? (cost_units(quota, cost) & 0) : 0;"),
    "queue_all_undelayed_lost": (
        GCRA, "published",
        "? v + (waits - free) :",
        "? v + waits :"),
    # The clock.
    "clock_up": (
        QUOTA, "bucket",
        "return quota.v0 + scale_down(elapsed, quota.units_per_ns);",
        "return quota.v0 + scale_up(elapsed, quota.units_per_ns);"),
    "wait_down": (
        QUOTA, "bucket",
        ": scale_up(reading - quota.v0, quota.ns_per_unit);",
        ": scale_down(reading - quota.v0, quota.ns_per_unit);"),
    "wait_down_bent": (
        QUOTA, "warp",
        "since_t0 = scale_up(ahead, quota.ns_per_unit);",
        "since_t0 = scale_down(ahead, quota.ns_per_unit);"),
    "wait_before_t0": (
        QUOTA, "window",
        "kMax : wait + lead",
        "kMax : wait"),
    "ratio_one_short": (
        RATIO, "bucket",
        "quotient += one_short;",
        "quotient += one_short & 0;"),
    # Fixed windows.
    "window_admits_less": (
        STEP, "window",
        "const bool admitted = cost <= room;",
        "const bool admitted = cost < room;"),
    "window_steps_back": (
        WINDOW, "window",
        "return state.window >= number &&",
        "return state.window == number &&"),
    "window_first_hit_edge": (
        WINDOW, "window",
        "state.window > std::min(v,",
        "state.window >= std::min(v,"),
    "window_first_hit_short": (
        WINDOW, "window",
        "scale_up(elapsed_ns(quota, now_ns) + period",
        "scale_down(elapsed_ns(quota, now_ns) + period"),
    "window_wait": (
        WINDOW, "window",
        "? state.window : state.window + 1;",
        "? state.window : state.window;"),
    "window_room_wraps": (
        WINDOW, "window",
        "state.count >= quota.capacity ? 0",
        "state.count == quota.capacity ? 0"),
    "window_refund_wraps": (
        WINDOW, "window",
        "state.count - std::min<uint64_t>(cost, state.count)",
        "state.count - cost"),
    "window_count_overflows": (
        WINDOW, "window",
        "std::min(state.count + cost, count_mask(quota))",
        "state.count + cost"),
    "window_idle_reset": (
        WINDOW, "window",
        "state.count == 0 ? 0 : end;",
        "end;"),
    "window_ceiling": (
        WINDOW, "window",
        "quota.capacity_max) : v;",
        "quota.capacity_max) : v - 1;"),
    "window_counts_refused": (
        STEP, "window",
        "(!admitted && !has(quota, kCountDenied))",
        "(!admitted && has(quota, kCountDenied))"),
    "window_never": (
        WINDOW, "window",
        "} else if (cost > quota.burst) {",
        "} else if (cost >= quota.burst) {"),
    # Calendar.
    "calendar_1900_rule": (
        CALENDAR, "calendar",
        " - year_of_era / 100 + day_of_year",
        " + day_of_year"),
    "calendar_2000_rule": (
        CALENDAR, "calendar",
        " - day_of_era / 146096",
        ""),
    "calendar_new_year": (
        CALENDAR, "calendar",
        "(march_month >= 10 ? 1 : 0)",
        "(march_month >= 11 ? 1 : 0)"),
    "calendar_months": (
        CALENDAR, "calendar",
        "month - 2) + 2) / 5",
        "month - 2) + 3) / 5"),
    "calendar_ends_early": (
        CALENDAR, "calendar",
        "kLast = 280 * 12",
        "kLast = 180 * 12"),
    "calendar_offset": (
        QUOTA, "calendar",
        "calendar::index_at(elapsed, months_of(quota))",
        "calendar::index_at(elapsed + 1, months_of(quota))"),
    # Sliding counter.
    "counter_no_roll": (
        COUNTER, "counter",
        "return {v, cur, 0, gone, false};",
        "return {v, 0, 0, gone, false};"),
    "counter_keeps_stale": (
        COUNTER, "counter",
        "if (away > window_mask(quota) / 2) return {v, 0, 0, gone, false};",
        "if (away > window_mask(quota) / 2) return {v, prev, cur, gone, false};"),
    "counter_weight": (
        COUNTER, "counter",
        "(state.prev) * (period - state.gone_ns);",
        "(state.prev) * (period - state.gone_ns - 1);"),
    "counter_retry_exact": (
        COUNTER, "counter",
        "(room) * period / fading);",
        "(room) * period / fading) + 1;"),
    "counter_retry_floor": (
        COUNTER, "counter",
        "(still + fading - 1) / fading) + 1;",
        "still / fading) + 1;"),
    "counter_retry_without_cur": (
        COUNTER, "counter",
        "faded_at(state.prev, room - state.cur, quota)",
        "faded_at(state.prev, room, quota)"),
    "counter_retry_next_window": (
        COUNTER, "counter",
        "return static_cast<uint128>(left) + faded_at(state.cur, room, quota);",
        "return left;"),
    "counter_reset": (
        COUNTER, "counter",
        "state.cur != 0 ? static_cast<uint128>(left) + period :",
        "state.cur != 0 ? left :"),
    "counter_refund_prev": (
        COUNTER, "counter",
        "next.prev -= std::min<uint64_t>(cost - now, state.prev);",
        ""),
    "counter_steps_back": (
        COUNTER, "counter",
        "return {v + away, prev, cur, 0,",
        "return {v, prev, cur, gone,"),
    "counter_overflows": (
        COUNTER, "counter",
        "std::min(state.cur + cost, count_mask(quota))",
        "state.cur + cost"),
    "counter_floor_ignored": (
        COUNTER, "counter",
        "? faded / period * period : faded;",
        "? faded : faded;"),
    "counter_debt": (
        STEP, "counter",
        "(state.prev + state.cur) << 20",
        "state.cur << 20"),
    "counter_modulo": (
        COUNTER, "counter",
        "- v) & window_mask(quota);",
        "- v) & (window_mask(quota) >> 1);"),
    # Bans.
    "ban_one_late": (
        BAN, "ban",
        "++state.refusals >= quota.limit",
        "++state.refusals > quota.limit"),
    "ban_grows_late": (
        BAN, "ban",
        "i < level && ns",
        "i + 1 < level && ns"),
    "ban_no_cap": (
        BAN, "ban",
        "std::min<uint128>(ns, quota.extra)",
        "std::max<uint128>(ns, 0)"),
    "ban_forgotten_at_once": (
        BAN, "ban",
        "end : end + ban_ns(quota, state.level - 1)",
        "end : end"),
    "ban_forgotten_too_late": (
        BAN, "ban",
        "ban_ns(quota, state.level - 1)",
        "ban_ns(quota, state.level)"),
    "ban_window_edge": (
        BAN, "ban",
        "state.end << kTickShift <= elapsed",
        "state.end << kTickShift < elapsed"),
    "ban_idle_edge": (
        BAN, "ban",
        "idle_at(unpack(word), quota) <= elapsed_ns",
        "idle_at(unpack(word), quota) < elapsed_ns"),
    "ban_short": (
        BAN, "ban",
        " + ((ns & ((uint64_t{1} << kTickShift) - 1)) != 0)",
        ""),
    "ban_while_barred": (
        BAN, "ban",
        "if (barred_for(word, now_ns, quota) != 0) return word;",
        ""),
    "ban_refusals_never_end": (
        BAN, "ban",
        "if (state.barred || state.end << kTickShift <= elapsed) {",
        "if (state.barred || state.refusals == 0) {"),
    # Warm-up and factor.
    "warp_fast": (
        WARP, "warp",
        "* ramp / (2 * kWholePpm)) +",
        "* ramp / (2 * kWholePpm)) + 1 +"),
    "warp_inverse_down": (
        WARP, "warp",
        "* kWholePpm + warp.factor_ppm - 1) / warp.factor_ppm;",
        "* kWholePpm) / warp.factor_ppm;"),
    "warp_search": (
        WARP, "warp",
        "(ramped(middle, warp) >= target ? high",
        "(ramped(middle, warp) > target ? high"),
    "warp_rate": (
        WARP, "warp",
        "* elapsed / ramp);",
        "* elapsed / ramp + 1);"),
    "warp_ignored": (
        QUOTA, "warp",
        "scale_down(warped(elapsed, quota.warp), quota.units_per_ns)",
        "scale_down(elapsed, quota.units_per_ns)"),
    "warp_limit_below_1": (
        CALL, "warp",
        "quota.warp.factor_ppm == 0 ? 0 : 1",
        "0"),
    # Bookings and classes.
    "reserve_edge": (
        CALL, "booking",
        "delay_ns(next, at, quota) > max_delay_ns;",
        "delay_ns(next, at, quota) >= max_delay_ns;"),
    "reserve_horizon": (
        CALL, "booking",
        ": next - at.v <= quota.capacity_max;",
        ": next - at.v < quota.capacity_max;"),
    "reserve_start_without_burst": (
        GCRA, "booking",
        "? quota.extra : quota.capacity;",
        "? quota.extra : 0;"),
    "cancel_late": (
        CALL, "booking",
        "word >= end ? refund",
        "word > end ? refund"),
    "up_to_below_min": (
        CALL, "booking",
        "std::max(min, std::min(max, available(word, at, quota)))",
        "std::min(max, available(word, at, quota))"),
    "class_ignored": (
        CALL, "bucket",
        "quota.capacity) * percent / 100);",
        "quota.capacity) * 100 / 100);"),
    "class_never": (
        CALL, "bucket",
        "uint64_t{quota.burst} * percent / 100);",
        "uint64_t{quota.burst} * 100 / 100);"),
    # Changes of a policy.
    "change_clock_restarts": (
        COMPILE, "change",
        "make_bucket(rate, now, shift, quota); quota.algorithm = algorithm; quota.flags |= "
        "flags; quota.v0 = token_clock(old, now);",
        "make_bucket(rate, now, shift, quota); quota.algorithm = algorithm; quota.flags |= flags;"),
    "change_new_unit": (
        COMPILE, "change",
        "const uint32_t shift = old.shift & 63;",
        "const uint32_t shift = token_shift(rate.limit, rate.period_ns);"),
    "change_ceiling_falls": (
        COMPILE, "change",
        "quota.v0 = token_clock(old, now); quota.capacity_max = std::max(quota.capacity_max, "
        "old.capacity_max); return absl::OkStatus();",
        "quota.v0 = token_clock(old, now); return absl::OkStatus();"),
    "change_first_hit_tick": (
        COMPILE, "change",
        "now - static_cast<int64_t>(elapsed_ns(old, now) % tick);",
        "now;"),
    "change_count_bits": (
        COMPILE, "change",
        "quota.shift = old.shift; if (has(quota, kMonths))",
        "if (has(quota, kMonths))"),
    "reset_at_the_edge": (
        COMPILE, "change",
        "wanted = (top >> window::count_bits(quota)) + 2;",
        "wanted = (top >> window::count_bits(quota));"),
    "reset_bucket_edge": (
        COMPILE, "change",
        "wanted = top + 1;",
        "wanted = top - 1;"),
    "reset_counter_edge": (
        COMPILE, "change",
        "wanted = (top >> (2 * counter::count_bits(quota))) + 3;",
        "wanted = (top >> (2 * counter::count_bits(quota))) + 1;"),
    "reset_without_skew": (
        COMPILE, "change",
        "const Instant at = instant(quota, now + 2 * kClockSkewNs);",
        "const Instant at = instant(quota, now);"),
    "reset_of_bans": (
        COMPILE, "change",
        "quota.t0 = now - static_cast<int64_t>(last + old.extra);",
        "quota.t0 = now - static_cast<int64_t>(last * 0 + old.extra);"),
}

QUICK = ["bucket_edge", "window_first_hit_edge", "counter_retry_floor", "warp_search"]


class Bench:
    """Compiles the test programs, with a mutated header or without."""

    def __init__(self, args):
        self.root = os.path.abspath(args.root)
        self.build = os.path.abspath(args.build)
        self.cxx = args.cxx
        self.known = {}  # program: tests that fail on the original too
        self.compile_object = os.path.join(self.build, "compile.o")
        os.makedirs(self.build, exist_ok=True)
        self.libs = subprocess.check_output(
            ["pkg-config", "--libs", "absl_status", "absl_statusor"], text=True).split()

    def flags(self, first=()):
        paths = [*first, os.path.join(self.root, "include"), self.root]
        return ["-std=c++20", "-mcx16", "-O1", "-w"] + ["-I" + path for path in paths]

    def make_compile_object(self):
        subprocess.run([self.cxx, *self.flags(), "-c", os.path.join(self.root, "src/compile.cc"),
                        "-o", self.compile_object], check=True)

    def program(self, name, directory, first=()):
        """The path of the built program, or None and the compiler's words."""
        path = os.path.join(directory, name + "_plain")
        mutated = os.path.join(directory, COMPILE)
        compiled = mutated if os.path.exists(mutated) else self.compile_object
        done = subprocess.run(
            [self.cxx, *self.flags(first), "-DBRIM_PLAIN_CHECKS",
             os.path.join(self.root, "tests/unit", name + "_test.cc"), compiled,
             "-o", path, *self.libs], capture_output=True, text=True, check=False)
        return (path, "") if done.returncode == 0 else (None, done.stderr)

    def run_original(self, name):
        path, said = self.program(name, self.build)
        if path is None:
            sys.exit(f"algo_mutants.py: {name}_test.cc does not compile:\n{said}")
        done = subprocess.run([path, "--all"], capture_output=True, text=True, timeout=600,
                              check=False)
        self.known[name] = re.findall(r"^FAILED (\S+)", done.stdout, re.M)
        if done.returncode not in (0, 1):
            sys.exit(f"algo_mutants.py: {name}: the original ends with {done.returncode}")

    def run_mutant(self, name):
        """What became of a mutant: 'killed ...', or something else."""
        header, program, old, new = MUTANTS[name]
        directory = os.path.join(self.build, name)
        shutil.rmtree(directory, ignore_errors=True)
        target = os.path.join(directory, header)
        os.makedirs(os.path.dirname(target))
        with open(os.path.join(self.root, header), encoding="utf-8") as file:
            text = file.read()
        pattern = r"\s+".join(re.escape(word) for word in old.split())
        text, count = re.subn(pattern, lambda _: new, text)
        if count != 1:
            return f"text found {count} times in {header}, expected once: {old}"
        text = re.sub(r"^static_assert.*;.*$", "", text, flags=re.M)
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)
        path, said = self.program(program, directory, [directory])
        if path is None:
            return "does not compile:\n" + said[:2000]
        try:
            done = subprocess.run([path, *self.known[program]], capture_output=True, text=True,
                                  timeout=120, check=False)
        except subprocess.TimeoutExpired:
            return "killed (does not end)"
        shutil.rmtree(directory)
        if done.returncode == 0:
            return "SURVIVED"
        failed = re.search(r"^FAILED (\S+)", done.stdout, re.M)
        return f"killed by {failed.group(1) if failed else 'a crash'}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", action="append")
    parser.add_argument("--cxx", default=os.environ.get("CXX", "g++"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("root", nargs="?", default=".")
    parser.add_argument("build", nargs="?", default="/tmp/algo_mutants")
    args = parser.parse_args()
    names = args.only if args.only else QUICK if args.quick else list(MUTANTS)
    if args.list:
        print("\n".join(names))
        return 0
    bench = Bench(args)
    bench.make_compile_object()
    survivors = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(bench.run_original, sorted({MUTANTS[name][1] for name in names})))
        for program, known in sorted(bench.known.items()):
            if known:
                print(f"{program}: fails without a mutant, left out: {', '.join(known)}")
        for name, fate in zip(names, pool.map(bench.run_mutant, names)):
            survivors += 0 if fate.startswith("killed") else 1
            print(f"{name:32} {fate}", flush=True)
    print(f"{len(names) - survivors} of {len(names)} mutants killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
