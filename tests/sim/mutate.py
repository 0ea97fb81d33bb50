#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a weakened copy of shm/table.h: mutate.py NAME INPUT OUTPUT.

Each mutant is a list of exact replacements. A text that is not found exactly once is an error, so
that a change of the table can not silently turn a mutant into the original. `mutate.py --list`
prints the names.
"""
import sys

CLAIM = "own = {best.at, call.tentative()};"
ONE_PHASE = ("if (verify(probe, id, call, own)) return",
             "if (!is_tentative(own.tentative) || verify(probe, id, call, own)) return")
FRESH = ("      Candidate best;", "      call.refresh();\n      Candidate best;")
LOOK = "look = check_others(probe, id, call, own);"
LOOKS = """walk(probe, groups_in_use(), [&](AtomicSlot* at, uint64_t) {
      if (at == own.slot) {"""
UNDO_LATER = "if (Atomics::cas(at, seen, {kFreeId, 0})) return true;"
SEEN = """        if (seen.id != id) continue;
"""
DROP = """Atomics::cas(own.slot, {id, own.tentative}, {kFreeId, 0});
        call.count(Event::kDropped);"""

MUTANTS = {
    # Nobody looks at the other slots after a claim.
    "no_verify": [(LOOK, "look = Look::kClear;")],
    # One phase: scan again, then write the verified word at once.
    "rescan": [
        (CLAIM,
         """Own other;
      if (search(probe, id, other) != nullptr || other.slot != nullptr) return Claim::kLost;
      own = {best.at, call.step(kEmptyWord)};"""),
        ONE_PHASE, FRESH,
    ],
    # One phase, and no second scan.
    "naive": [
        (CLAIM,
         "own = {best.at, call.step(kEmptyWord)};"),
        ONE_PHASE, FRESH,
    ],
    "later_not_undone": [(UNDO_LATER, "if (at != nullptr) return true;")],
    "earlier_ignored": [
        (SEEN, SEEN + "        if (!past_own && is_tentative(seen.word)) return true;\n")],
    "verified_ignored": [(SEEN, SEEN + "        if (!is_tentative(seen.word)) return true;\n")],
    "idle_ignored": [
        (SEEN, SEEN + """        if (!is_tentative(seen.word) && call.debt(seen) == 0) return true;
""")],
    # A dropped slot becomes virgin and ends the probes of keys behind it.
    "drop_to_virgin": [(DROP, DROP.replace("kFreeId", "kVirginId"))],
    "later_to_virgin": [(UNDO_LATER, UNDO_LATER.replace("kFreeId", "kVirginId"))],
    # The charge is made at the time of the search.
    "stale_clock": [
        ("call.refresh();  // a claim may have stalled", "// a claim may have stalled")],
    # The verifier looks only at the groups that were in use before its claim.
    "early_reach": [
        ("    Word tentative = 0;\n", "    Word tentative = 0;\n    uint64_t groups = 0;\n"),
        (CLAIM, CLAIM.replace("()}", "(), groups}")),
        ("if (own.slot == nullptr) own = {at, seen.word};",
         "if (own.slot == nullptr) own = {at, seen.word, groups_in_use()};"),
        ("        own = {at, seen.word};\n        return false;",
         "        own = {at, seen.word, own.groups};\n        return false;"),
        (LOOKS, LOOKS.replace("groups_in_use()", "own.groups")),
    ],
    # A claim beyond reach, which is raised afterwards.
    "late_raise": [
        ("""Atomics::raise_reach(reach_, groups - 1);
        call.count(Event::kReachRaised);
""", "++beyond;\n"),
        ("Claim claim(const Probe& probe, uint64_t id, Call& call, Own& own) const noexcept {",
         "Claim claim(const Probe& probe, uint64_t id, Call& call, Own& own) const noexcept {\n"
         "    uint64_t beyond = 0;"),
        ("const uint64_t groups = groups_in_use();\n      Candidate best;",
         "const uint64_t groups = std::min(groups_in_use() + beyond, limit_);\n"
         "      Candidate best;"),
        ("      count_claim(best, call);",
         "      if (beyond != 0) Atomics::raise_reach(reach_, groups - 2);\n"
         "      count_claim(best, call);"),
    ],
    # A tentative of another key is taken at once: two keys may undo each other for ever.
    "no_life": [("> kTentativeLifeMs ? 0", ">= 0 ? 0")],
    # A dead owner's tentative blocks its own key.
    "no_adoption": [
        ("        call.count(Event::kAdopted);",
         "        call.refresh();\n        continue;")],
    # The word that is replaced is not the one that was judged.
    "claim_reloads": [
        ("      if (!Atomics::cas(best.at, best.old, {id, own.tentative})) {",
         "      if (!Atomics::cas(best.at, Atomics::load(best.at), {id, own.tentative})) {")],
    # After a move to an earlier tentative the other slots are not looked at again.
    "move_not_rechecked": [
        ("is_tentative(seen.word) ? Look::kMoved", "is_tentative(seen.word) ? Look::kClear")],
    # A free slot ends a probe, as a virgin one does.
    "free_ends_probe": [
        ("""      if (seen_id != id) return seen_id != kVirginId;
      const Slot seen = Atomics::load(at);
      if (seen.id != id) return true;
      if (!is_tentative(seen.word)) {""",
         """      if (seen_id != id) return seen_id != kVirginId && seen_id != kFreeId;
      const Slot seen = Atomics::load(at);
      if (seen.id != id) return true;
      if (!is_tentative(seen.word)) {""")],
    # A verifier whose tentative was undone believes that it was admitted.
    "lost_cas_admits": [
        ("if (!Atomics::cas(own.slot, {id, own.tentative}, {id, next})) return false;",
         "if (!Atomics::cas(own.slot, {id, own.tentative}, {id, next})) return true;")],
    # The window's slots beyond the home group are not verified.
    "home_only": [
        (LOOKS, LOOKS.replace("groups_in_use()", "1"))],
}


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(MUTANTS))
        return
    name, source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        text = file.read()
    for old, new in MUTANTS[name]:
        count = text.count(old)
        if count != 1:
            sys.exit(f"mutate.py: {name}: found {count} times in {source}, expected once:\n{old}")
        text = text.replace(old, new)
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)


main()
