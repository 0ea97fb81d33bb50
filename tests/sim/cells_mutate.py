#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a weakened copy of shm/cells.h or shm/leases.h: cells_mutate.py NAME INPUT OUTPUT.

As mutate.py: exact replacements, each found exactly once. `--list cells` and `--list leases` print
the names for one of the headers.
"""
import sys

NOW = "view.now = static_cast<uint64_t>(context_.now());"
FROZEN = "view.now = static_cast<uint64_t>(frozen_);"
MEMBER = ("  Context& context_;\n};", "  Context& context_;\n  int64_t frozen_ = 0;\n};")
RAISE = "return seen.word >= expiry || context.raise(seen, idle_word(expiry, span_ns));"

MUTANTS = {
    "cells": {
        # idle_at is not raised before a cell is written.
        "nobump": [(RAISE, "return true;")],
        # The clock is read before the slot was seen to be the key's, once for all rounds.
        "nofresh": [
            (NOW, FROZEN), MEMBER,
            ("    rule_.limit = std::min(rule.limit, depth_);\n",
             "    rule_.limit = std::min(rule.limit, depth_);\n    frozen_ = context_.now();\n")],
        # A refusal may be due to another key's cells.
        "norecheck": [
            ("if ((!result.admitted || view.odd) && context_", "if (view.odd && context_")],
        # ... and so may be what looks like a left-over.
        "odd_norecheck": [
            ("if ((!result.admitted || view.odd) && context_",
             "if (!result.admitted && context_")],
        # The same for what a refund finds: it clears another key's permits.
        "refund_norecheck": [
            ("      if (context_.load() == slot) return CellOutcome::kDecided;",
             "      return CellOutcome::kDecided;")],
        "undo_missing": [("    while (taken != 0) {", "    while (taken > cost) {")],
        # A stopped call with an old clock takes the cell although an older permit is in its window.
        "undo_to_zero": [
            ("cas_cell(cells_ + cell, expiry, view.at[cell])",
             "cas_cell(cells_ + cell, expiry, 0)")],
        "refund_to_zero": [
            ("if (Atomics::cas_cell(cells_ + i, expiry, since)) return true;",
             "if (Atomics::cas_cell(cells_ + i, expiry, 0)) return true;")],
        # The time of a refund was read before the cells.
        "refund_old_clock": [
            ("const auto since = static_cast<uint64_t>(context_.now());",
             "const auto since = view.now;")],
        # A refund frees the cell after the right one.
        "refund_wrong_cell": [
            ("if (Atomics::cas_cell(cells_ + i, expiry, since)) return true;",
             "const uint32_t k = (i + 1) % depth_;\n"
             "      if (Atomics::cas_cell(cells_ + k, view.at[k], since)) return true;")],
        # Undoes whatever the cell holds now.
        "undo_not_exact": [
            ("cas_cell(cells_ + cell, expiry, view.at[cell])",
             "cas_cell(cells_ + cell, Atomics::load_cell(cells_ + cell), view.at[cell])")],
        "raise_after": [
            ("""      if (!internal::raise_idle(context_, slot, expiry, rule_.span_ns)) continue;
      if (!take(view, cost, expiry)) continue;
""", """      if (!take(view, cost, expiry)) continue;
      internal::raise_idle(context_, slot, expiry, rule_.span_ns);
""")],
        # Somebody else raised idle_at far enough: goes on with the old clock.
        "raise_no_retry": [
            (RAISE, RAISE.replace(
                "seen.word >= expiry ||",
                "seen.word >= expiry ||") [:-1] + """ ||
         (context.load().id == seen.id && context.load().word >= expiry &&
          !is_tentative(context.load().word));""")],
        # Any free cell, not the first limit - live: fails once the limit is below the depth.
        "take_anywhere": [
            ("const uint32_t candidates = rule_.limit - view.live;",
             "const uint32_t candidates = depth_ - view.live;")],
        # Cells behind the limit are not counted.
        "count_limit_only": [
            ("for (uint32_t i = 0; i < depth_; ++i) {\n      const uint64_t value",
             "for (uint32_t i = 0; i < rule_.limit; ++i) {\n      const uint64_t value")],
        # Not the first free cells but the first positions.
        "take_first_positions": [
            ("const uint32_t candidates = rule_.limit - view.live;",
             "uint32_t candidates = 0;\n"
             "    while (candidates < depth_ - view.live && view.free[candidates] < rule_.limit) "
             "++candidates;\n"
             "    if (candidates < cost) return false;")],
        "lost_counts": [
            ("if (Atomics::cas_cell(cells_ + cell, view.at[cell], expiry)) "
             "view.free[taken++] = cell;",
             "Atomics::cas_cell(cells_ + cell, view.at[cell], expiry);\n"
             "      view.free[taken++] = cell;")],
        # Takes a cell whatever it holds now.
        "take_not_exact": [
            ("if (Atomics::cas_cell(cells_ + cell, view.at[cell], expiry))",
             "if (Atomics::cas_cell(cells_ + cell, Atomics::load_cell(cells_ + cell), expiry))")],
        "slot_not_looked_at": [
            ("return slot.id == context.id() && !is_tentative(slot.word);", "return true;")],
    },
    "leases": {
        "nofresh": [
            (NOW, FROZEN), MEMBER,
            ("    rule_.limit = std::min(rule.limit, count_);\n",
             "    rule_.limit = std::min(rule.limit, count_);\n    frozen_ = context_.now();\n")],
        "norecheck": [("if ((!room || view.odd) && context_", "if (view.odd && context_")],
        # Not here: no second look at odd pairs. It survives 1.5 * 10^9 steps, since the fence hides
        # nearly all of it: a live stamp in the lower half is beyond what a stopped call writes.
        "acquire_nobump": [
            ("""      const uint64_t expiry = view.now + ttl_ns;
      if (!internal::raise_idle(context_, slot, expiry, ttl_ns)) continue;
""", "      const uint64_t expiry = view.now + ttl_ns;\n")],
        "renew_nobump": [
            ("""      const uint64_t expiry = now + ttl_ns;
      if (!internal::raise_idle(context_, slot, expiry, ttl_ns)) continue;
""", "      const uint64_t expiry = now + ttl_ns;\n")],
        # Ends whatever lease is there now.
        "release_not_exact": [
            ("return Atomics::cas_pair(cells + 2 * lease.index, {lease.expiry_ns, lease.holder},",
             "return Atomics::cas_pair(cells + 2 * lease.index, "
             "Atomics::load_pair(cells + 2 * lease.index),")],
        "renew_not_exact": [
            ("if (!Atomics::cas_pair(cells_ + 2 * lease.index, {lease.expiry_ns, lease.holder},",
             "if (!Atomics::cas_pair(cells_ + 2 * lease.index, "
             "Atomics::load_pair(cells_ + 2 * lease.index),")],
        # A late renewal revives a lease that was counted as expired.
        "renew_expired": [
            ("      if (lease.expiry_ns <= now) return CellOutcome::kMoved;\n", ""),
            ("if (!free_expired(view) || !take(", "if (!take(")],
        "expired_not_freed": [("if (!free_expired(view) || !take(", "if (!take(")],
        "take_anywhere": [
            ("for (uint32_t i = 0; i < rule_.limit - view.live; ++i) {",
             "for (uint32_t i = 0; i < view.free_count; ++i) {")],
        "reap_not_exact": [
            ("if (Atomics::cas_pair(cells_ + 2 * i, seen,",
             "if (Atomics::cas_pair(cells_ + 2 * i, Atomics::load_pair(cells_ + 2 * i),")],
        # Takes a log's stamp beside a dead holder for a lease.
        "reap_norecheck": [("      if (context_.load() != slot) continue;\n      // Read after the",
                            "      // Read after the")],
        "fence_is_clock": [("const uint64_t fence = std::max(view.now, seen.low + 1);",
                            "const uint64_t fence = view.now;")],
        "release_to_zero": [("{lease.fence, lease.fence});", "{0, 0});")],
        # A stopped call of a log that had the slot before takes the 0 for the one it remembers.
        "release_half_zero": [("{lease.fence, lease.fence});", "{lease.fence, 0});")],
    },
}


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--list":
        print("\n".join(MUTANTS[sys.argv[2]]))
        return
    name, source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        text = file.read()
    header = "leases" if "BRIM_SHM_LEASES_H_" in text else "cells"
    for old, new in MUTANTS[header][name]:
        count = text.count(old)
        if count != 1:
            sys.exit(f"cells_mutate.py: {name}: found {count} times in {source}, not once:\n{old}")
        text = text.replace(old, new)
    with open(target, "w", encoding="utf-8") as file:
        file.write(text)


main()
