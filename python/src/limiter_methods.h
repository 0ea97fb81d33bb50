// SPDX-License-Identifier: MIT
// The table of Limiter's methods, a part of limiter.c: mostly text.
#ifndef BRIM_PYTHON_SRC_LIMITER_METHODS_H_
#define BRIM_PYTHON_SRC_LIMITER_METHODS_H_

#define CLASS(name, function, doc)                                    \
  {                                                                   \
    name, (PyCFunction)(void (*)(void))(function),                    \
        METH_METHOD | METH_FASTCALL | METH_KEYWORDS | METH_CLASS, doc \
  }

#define OPTIONS                                                                      \
  "($type, /, name, *, policies=None, capacity=0, name_bytes=None, max_policies=0, " \
  "cells_per_key=0, overrides=0, probe_limit=0, hash='default', on_full='default', " \
  "clock='auto', accept_stored=False, huge_pages=False, mode=0o600, group=None, "    \
  "owner_uid=None, cluster=False"

static PyMethodDef limiter_methods[] = {
    CLASS("open", limiter_open,
          "open" OPTIONS ")\n--\n\n"
          "Attaches to the segment, creating it first if there is none.\n\n"
          "name: [A-Za-z0-9._-]{1,200} in /dev/shm, or an absolute path, best on tmpfs.\n"
          "policies: names and texts, defined if missing; another text is an error. The numbers\n"
          "0 mean the default when creating and what is stored when attaching: capacity 65536\n"
          "keys, max_policies 64, overrides 1024, probe_limit 48. name_bytes: of key text kept\n"
          "for tools (None: 48; 0: none). hash: siphash or xxh3. on_full: evict, allow or deny.\n"
          "clock: auto or monotonic. accept_stored: attach with the stored values on a mismatch.\n"
          "mode 0o600, 0o640 or 0o660; group: owns a 0o660 segment; owner_uid: trust segments of\n"
          "this user too. cluster: room for policies `scope cluster`, made anyway if one of\n"
          "policies is such: see brim.tier. Gives up the GIL. Raises Error."),
    CLASS("create", limiter_create,
          "create" OPTIONS ", replace=False)\n--\n\n"
          "Creates the segment; AlreadyExists if the name is taken, unless replace. See open()."),
    CLASS("attach", limiter_attach,
          "attach" OPTIONS ")\n--\n\nAttaches; NotFound if there is no segment. See open()."),
    CLASS("attach_read_only", limiter_attach_read_only,
          "attach_read_only" OPTIONS ")\n--\n\n"
          "Attaches for reading only: peek() works, try_acquire() answers Reason.READ_ONLY."),
    CLASS("unlink", limiter_unlink,
          "unlink($type, /, name)\n--\n\n"
          "Removes the segment's name; attached processes go on among themselves."),
    FAST("policy", limiter_policy,
         "policy($self, /, name)\n--\n\n"
         "The Policy of that name; NotFound lists those there are. Look it up once."),
    FAST("define", limiter_define,
         "define($self, /, name, text)\n--\n\n"
         "Adds a policy, or returns the existing one if its text means the same, else\n"
         "AlreadyExists."),
    {"policy_names", limiter_policy_names, METH_NOARGS,
     "policy_names($self, /)\n--\n\nThe names of all policies."},
    FAST("try_acquire", limiter_try_acquire,
         "try_acquire($self, /, policy, key, cost=1)\n--\n\n"
         "policy(policy).try_acquire(key, cost), which is faster if the policy is looked up once."),
    FAST(
        "try_acquire_all", limiter_try_acquire_all,
        "try_acquire_all($self, /, asks)\n--\n\n"
        "All of the asks, (Policy, key) or (Policy, key, cost), at most 8 of one segment, or none\n"
        "of them, at one instant. Decision.part says which one the answer is about."),
    FAST("wait", limiter_wait,
         "wait($self, /, policy, key, cost=1, timeout=None)\n--\n\nSee Policy.wait()."),
    FAST("acquire", limiter_acquire,
         "acquire($self, /, policy, key, cost=1, timeout=None)\n--\n\n"
         "An awaitable: see Policy.acquire()."),
    FAST("change", limiter_change,
         "change($self, /, policy, text, on_change='keep')\n--\n\n"
         "Changes a policy for all attached processes at once. on_change: what the keys in use\n"
         "owe is kept, reset, or kept in proportional share of the burst or limit."),
    FAST("set_factor", limiter_set_factor,
         "set_factor($self, /, policy, factor)\n--\n\n"
         "Scales all rates of a policy; 1.0 is the policy as written, 0.0 stops it."),
    FAST("remove_policy", limiter_remove_policy,
         "remove_policy($self, /, policy)\n--\n\n"
         "Takes the policy out; handles that exist go on under its last text."),
    FAST("reset_policy", limiter_reset_policy,
         "reset_policy($self, /, policy)\n--\n\nAll keys of the policy are as if never seen."),
    FAST("set_override", limiter_set_override,
         "set_override($self, /, policy, key, use)\n--\n\n"
         "The key of the policy (\"*\": of all) follows policy `use`, or \"unlimited\" or "
         "\"deny\"."),
    FAST("set_network_override", limiter_set_network_override,
         "set_network_override($self, /, policy, network, use)\n--\n\n"
         "The same for the addresses of a network, \"10.0.0.0/8\"; the longest one wins."),
    FAST("clear_override", limiter_clear_override,
         "clear_override($self, /, policy, key)\n--\n\nEnds set_override(); NotFound."),
    FAST("clear_network_override", limiter_clear_network_override,
         "clear_network_override($self, /, policy, network)\n--\n\n"
         "Ends set_network_override(); NotFound."),
    FAST("ban", limiter_ban,
         "ban($self, /, policy, key, duration)\n--\n\n"
         "Refuses the key for so many seconds; math.inf: until unban()."),
    FAST("ban_network", limiter_ban_network,
         "ban_network($self, /, policy, network, duration)\n--\n\nThe same for a network."),
    FAST("unban", limiter_unban,
         "unban($self, /, policy, key)\n--\n\n"
         "Ends bans of the key, made by ban() or by the policy; NotFound."),
    FAST("unban_network", limiter_unban_network,
         "unban_network($self, /, policy, network)\n--\n\nEnds ban_network(); NotFound."),
    {"pause", limiter_pause, METH_NOARGS,
     "pause($self, /)\n--\n\n"
     "Until resume() every decision of all processes admits, with Reason.PAUSED."},
    {"resume", limiter_resume, METH_NOARGS, "resume($self, /)\n--\n\nEnds pause()."},
    FAST("record", limiter_record,
         "record($self, /, what)\n--\n\nA line for people in the segment's ring of changes."),
    FAST("sweep", limiter_sweep,
         "sweep($self, /, idle)\n--\n\n"
         "Frees the slots of keys idle for so many seconds; returns how many. Gives up the GIL."),
    {"close", limiter_close, METH_NOARGS,
     "close($self, /)\n--\n\n"
     "Ends this opening: its policies raise Unfit afterwards. Other openings go on; a wait() of\n"
     "another thread ends first. May be called again."},
    {"__enter__", limiter_enter, METH_NOARGS, NULL},
    {"__exit__", limiter_exit, METH_VARARGS, NULL},
    {"__reduce__", limiter_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

#endif  // BRIM_PYTHON_SRC_LIMITER_METHODS_H_
