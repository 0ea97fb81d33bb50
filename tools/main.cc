// SPDX-License-Identifier: MIT
// The `brim` command: all there is, and the options of those in commands.cc, info.cc, dump.cc and
// check.cc.
#include <memory>
#include <string>

#include "audit.h"
#include "change.h"
#include "check.h"
#include "cli.h"
#include "commands.h"
#include "completion.h"
#include "doctor.h"
#include "dump.h"
#include "export.h"
#include "keys.h"
#include "metrics.h"
#include "output.h"
#include "override.h"
#include "pause.h"
#include "policy.h"
#include "replay.h"
#include "serve.h"
#include "snapshot.h"
#include "stats.h"
#include "tier.h"
#include "top.h"
#include "verify.h"
#include "watch.h"

namespace brim::tools {

namespace {

void add_create(Command& brim) {
  const auto args = std::make_shared<CreateArgs>();
  Command command = brim.add("create", "Make a segment");
  command.segment(*args);
  command.option("--capacity", args->capacity,
                 "Keys to hold, such as 50000, 64k or 1M (default 64k)");
  command.option("--name-bytes", args->name_bytes,
                 "Bytes of each key's text kept for dump; 0 for none (default 48)");
  command.option("--max-policies", args->max_policies, "Room for policies (default 64)");
  command.option("--policy", args->policies,
                 "NAME=RATE, such as 'per_ip=100/m burst 20'; may be repeated");
  command.option("--hash", args->hash, "siphash, or xxh3 if no adversary chooses the keys");
  command.option("--on-full", args->on_full,
                 "evict, allow or deny: what a new key meets in a full table");
  command.option("--mode", args->mode, "0600, or 0660 with --group");
  command.option("--group", args->group, "Group that shares the segment; implies mode 0660");
  command.option("--probe-limit", args->probe_limit,
                 "Groups of four slots searched for a key, 1 to 255 (default 48)");
  command.option("--restore", args->restore,
                 "Begin with the sizes, policies and keys of this snapshot");
  command.flag(
      "--cluster", args->cluster,
      "Room for policies of scope cluster, 32 bytes a slot; given anyway with such a policy");
  command.flag("--huge-pages", args->huge_pages, "Ask for transparent huge pages");
  command.flag("--recreate", args->recreate,
               "Replace a segment of this name; its users keep the old one");
  command
      .flag("--if-missing", args->if_missing,
            "Succeed if it is there with these options; add missing policies")
      .excludes("--recreate");
  command.footer(
      "Examples:\n"
      "  brim create api --policy per_ip='100/m burst 20'\n"
      "  brim create api --capacity 1M --name-bytes 0 --policy a=10/s --policy b=5/m\n"
      "  brim create shared --mode 0660 --group www-data --if-missing");
  command.action([args] { return run_create(*args); });
}

void add_list(Command& brim) {
  const auto args = std::make_shared<ListArgs>();
  Command command = brim.add("list", "List the segments in /dev/shm");
  command.option("--format", args->format, kFormatHelp);
  command.footer(
      "State: ok; orphaned (no living process has it attached); stale (left of an earlier boot, "
      "or\n"
      "damaged: status says why); unreadable (for this user: status says why).\n"
      "Examples:\n"
      "  brim list\n"
      "  brim list --format json | jq -r '.segments[] | select(.state == \"stale\").name'");
  command.action([args] { return run_list(*args); });
}

void add_info(Command& brim) {
  const auto args = std::make_shared<InfoArgs>();
  Command command = brim.add("info", "Show a segment's sizes, policies, counters and processes");
  command.segment(*args);
  command.option("--format", args->format, kFormatHelp);
  command.trust(*args);
  command.footer("Examples:\n  brim info api\n  brim info /run/app/limits --format json");
  command.action([args] { return run_info(*args); });
}

void add_dump(Command& brim) {
  const auto args = std::make_shared<DumpArgs>();
  Command command = brim.add("dump", "Print the keys of a segment");
  command.segment(*args);
  command.option("--policy", args->policy, "Only the keys of this policy");
  command.option("--prefix", args->prefix, "Only keys that begin with these bytes");
  command.option("--match", args->match,
                 "Only keys that match this pattern: * ? [a-z] [!a-z] and \\");
  command.option("--state", args->state,
                 "live, idle, all, refused or near (default live: keys that have used permits)");
  command.option("--remaining-under", args->remaining_under,
                 "Only keys with fewer permits left than this");
  command.option("--sort", args->sort,
                 "remaining (least first), retry (longest wait first) or key; the best 1000, or "
                 "--limit");
  command.option("--limit", args->limit, "Stop after this many keys");
  command.option("--format", args->format, kFormatHelp);
  command.trust(*args);
  command.footer(
      "Bytes of a key that are not plain ASCII are shown as %XX. A key whose text is not known\n"
      "is shown by its fingerprint, #0123456789abc.\n"
      "Examples:\n"
      "  brim dump api\n"
      "  brim dump api --state refused --sort retry --limit 20\n"
      "  brim dump api --policy per_ip --prefix 192.0.2. --remaining-under 5\n"
      "  brim dump api --state all --match '*@example.com' --sort key\n"
      "  brim dump api --format json | jq -r '.keys[].key_base64'");
  command.action([args] { return run_dump(*args); });
}

void add_try(Command& brim) {
  const auto args = std::make_shared<TryArgs>();
  Command command =
      brim.add("try", "Take permits for a key: exit status 0 if allowed, 75 if refused");
  command.segment(*args);
  command.option("KEY", args->key, "The key; after -- if it begins with a dash");
  command.option("--key-file", args->key_file,
                 "Read the key from this file, all its bytes; - for standard input");
  command.option("--policy", args->policy, "Policy to ask; may be left out if there is only one");
  command.option("--cost", args->cost, "Permits to take, 0 only looks (default 1)");
  command.flag("--peek", args->peek, "Only tell what would happen; attach read-only");
  command.option("--format", args->format, kFormatHelp);
  command.trust(*args);
  command.footer(
      "Examples:\n"
      "  brim try api 192.0.2.7 && deploy\n"
      "  brim try api alice --policy per_user --cost 5\n"
      "  head -c 16 key.bin | brim try api --key-file - --peek");
  command.action([args] { return run_try(*args); });
}

void add_check(Command& brim) {
  Command command = brim.add(
      "check", "Read a file of policies: worst cases, memory and traps of each; needs no segment");
  describe_check(command);
}

void add_unlink(Command& brim) {
  const auto args = std::make_shared<UnlinkArgs>();
  Command command = brim.add(
      "unlink", "Remove segments by name; attached processes keep theirs until they detach");
  command.option("NAME", args->names, "Names or absolute paths of segments").required();
  command.footer("Examples:\n  brim unlink api\n  brim unlink old-1 old-2");
  command.action([args] { return run_unlink(*args); });
}

void describe(Command& brim) {
  add_create(brim);
  add_list(brim);
  add_info(brim);
  add_stats_command(brim);
  add_top_command(brim);
  add_dump(brim);
  add_watch_command(brim);
  add_metrics_command(brim);
  add_serve_command(brim, start_server);
  add_key_commands(brim);
  add_try(brim);
  add_unlink(brim);
  add_replay_command(brim);
  add_verify_command(brim);
  add_check(brim);
  add_change_commands(brim);
  add_policy_commands(brim);
  add_override_commands(brim);
  add_pause_commands(brim);
  add_resize_command(brim);
  add_log_command(brim);
  add_export_command(brim);
  add_import_command(brim);
  add_snapshot_commands(brim);
  add_tier_command(brim);
  add_doctor_command(brim);
  add_completion_command(brim);
  brim.footer(
      "Exit status: 0 done or allowed, 1 failure, 2 wrong usage, 3 no such segment,\n"
      "4 incompatible or damaged segment, 75 refused by the policy.\n"
      "Examples:\n"
      "  brim create api --policy per_ip='100/m burst 20'\n"
      "  brim try api 192.0.2.7\n"
      "  brim dump --help");
}

}  // namespace

}  // namespace brim::tools

int main(int argc, char** argv) {
  brim::tools::guard_against_truncation();
  try {
    return brim::tools::run_command_line(argc, argv, brim::tools::describe);
  } catch (const std::exception& error) {
    brim::tools::complain(std::string("unexpected: ") + error.what());
    return brim::tools::kExitFailure;
  }
}
