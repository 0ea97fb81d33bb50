#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a weakened copy of one file of the library: library_mutate.py NAME ROOT OUTPUT [TREE].

Each mutant is a file and a list of exact replacements. A text that is not found exactly once is an
error, so that a change of the library can not silently turn a mutant into the original. A header
goes to its path under TREE, which the compiler searches first, and OUTPUT is an empty header.
`--list` prints each name with what is to be compiled anew: the file itself, or those that include
it.
"""
import os
import sys

PARTS = "src/parts.cc"
REGISTRY = "shm/registry.cc"
COMPILE = "src/compile.cc"
CHARGE_WORD = """Decision charge_word(const Engine& engine, Part& part, int64_t& now) noexcept {
  Call<Acquire, Scope::kGeneral> call"""
PUBLISH = """  BRIM_CHANGE_POINT();
  record.version.store(version + 1, std::memory_order_release);
"""
COPY = "  PolicyCopy& copy = record.copy[(version + 1) & 1];\n"
CARRY = "  quota.v0 = token_clock(old, now);\n  quota.capacity_max = "

MUTANTS = {
    # A late refusal gives nothing back.
    "undo_missing": (PARTS, [("if (!shadow || parts_[j].ask == part.ask) undo(j);",
                              "if (shadow) undo(j);")]),
    # ... or gives back the part that refused and not the first.
    "undo_wrong_part": (PARTS, [
        ("parts_[j].ask == part.ask) undo(j);",
         "parts_[j].ask == part.ask) undo(j == 0 ? i : j);")]),
    # What the survey saw is charged without asking again.
    "charge_unasked": (PARTS, [(CHARGE_WORD, CHARGE_WORD.replace("Acquire", "Charge"))]),
    # The survey judges by another time than the charge.
    "survey_before": (PARTS, [("survey(now, answer)", "survey(now - 3600000000000, answer)")]),
    "survey_after": (PARTS, [("survey(now, answer)", "survey(now + 3600000000000, answer)")]),
    # Refusals do not count towards a ban.
    "ban_uncounted": (PARTS, [("binding ? count_refusal(asked_[i], now) : 0;",
                               "binding && now < 0 ? count_refusal(asked_[i], now) : 0;")]),
    # A refusal that comes late rewrites a ban.
    "ban_rewritten": ("src/algo/ban.h",
                      [("  if (barred_for(word, now_ns, quota) != 0) return word;\n", "")]),
    # The version is there before what it stands for.
    "version_first": (REGISTRY, [(PUBLISH, ""), (COPY, PUBLISH + COPY)]),
    # The copy that readers use is written.
    "live_copy": (REGISTRY, [(COPY, COPY.replace("(version + 1)", "version"))]),
    # Readers do not look at the version again.
    "version_unchecked": (
        "shm/registry.h",
        [("return records_[number].version.load(std::memory_order_relaxed) == version;",
          "return records_[number].version.load(std::memory_order_relaxed) >= version;")]),
    # All parts of a key share a slot.
    "one_slot": ("src/call.h", [("make_id(policy, fingerprint(hash), part)",
                                 "make_id(policy, fingerprint(hash), part == kBanPart ? 7 : 0)")]),
    # A log's or a lease's slot is not held for it.
    "not_held": ("shm/cells.h",
                 [("return seen.word >= expiry || context.raise(seen, idle_word(expiry, span_ns));",
                   "return seen.word >= expiry || context.raise(seen, seen.word);")]),
    # A factor sets the token clock back.
    "factor_from_zero": (COMPILE, [("      quota.v0 = token_clock(quota, now_ns);\n",
                                    "      quota.v0 = 0;\n")]),
    # A smaller burst heals true debt.
    "capacity_max_lowered": (
        COMPILE, [(CARRY + "std::max(quota.capacity_max, old.capacity_max);\n",
                   "  quota.v0 = token_clock(old, now);\n")]),
    # A change starts the token clock anew.
    "clock_not_carried": (COMPILE, [(CARRY, "  quota.capacity_max = ")]),
    # The fast path is not told to look at overrides.
    "overrides_unseen": (
        COMPILE,
        [("    words[i * shm::kPartWords + kWordKind] |= uint64_t{kExtended} << 16;\n", "")]),
}


# Who includes a header in a way that matters.
USERS = {
    "src/algo/ban.h": [PARTS],
    "shm/registry.h": [REGISTRY, PARTS, "src/decide.cc", "src/settle.cc"],
    "src/call.h": [PARTS, "src/decide.cc", "src/settle.cc", "src/booking.cc"],
    "shm/cells.h": ["src/parts_cells.cc", "src/lease.cc"],
}


def main():
    if sys.argv[1:] == ["--list"]:
        for name, (path, _) in MUTANTS.items():
            print(":".join([name, path] + USERS.get(path, [])))
        return
    name, root, output = sys.argv[1:4]
    path, replacements = MUTANTS[name]
    with open(os.path.join(root, path), encoding="utf-8") as file:
        text = file.read()
    for old, new in replacements:
        count = text.count(old)
        if count != 1:
            sys.exit(f"library_mutate.py: {name}: found {count} times in {path}, expected once:\n"
                     f"{old}")
        text = text.replace(old, new)
    target = output
    if len(sys.argv) == 5:
        target = os.path.join(sys.argv[4], path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(output, "w", encoding="utf-8"):
            pass
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)


main()
