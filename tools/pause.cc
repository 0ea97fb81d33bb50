// SPDX-License-Identifier: MIT
// pause and resume: the kill switch.
#include "pause.h"

#include <memory>
#include <string>

#include "audit.h"
#include "cli.h"
#include "output.h"

namespace brim::tools {

namespace {

struct PauseArgs : Trust {
  std::string name;
};

int run_pause(const PauseArgs& args) {
  const absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (!segment.ok()) return report(segment.status());
  const std::string name = escape_text(args.name);
  const bool before = (*segment)->paused();
  if (before) {
    emit(join("segment ", name, " was paused already\n"));
  } else if (const absl::Status status = segment->note_if((*segment)->pause(), "pause");
             !status.ok()) {
    return report(status);
  } else {
    emit(join("segment ", name, " is paused\n"));
  }
  complain(join("NOTHING IS LIMITED: every request of every policy is admitted until `brim resume ",
                name, "`"));
  return finish();
}

int run_resume(const PauseArgs& args) {
  const absl::StatusOr<Changed> segment = Changed::attach(args.name, args);
  if (!segment.ok()) return report(segment.status());
  const std::string name = escape_text(args.name);
  if (!(*segment)->paused()) {
    emit(join("segment ", name, " was not paused\n"));
    return finish();
  }
  const absl::Status status = segment->note_if((*segment)->resume(), "resume");
  if (!status.ok()) return report(status);
  emit(join("segment ", name, " limits again\n"));
  return finish();
}

}  // namespace

void add_pause_commands(Command& brim) {
  const auto pause = std::make_shared<PauseArgs>();
  Command command = brim.add("pause", "The kill switch: admit everything, until resume");
  command.segment(*pause);
  command.trust(*pause);
  command.footer("Examples:\n  brim pause api\n  brim resume api");
  command.action([pause] { return run_pause(*pause); });

  const auto resume = std::make_shared<PauseArgs>();
  command = brim.add("resume", "Limit again after pause");
  command.segment(*resume);
  command.trust(*resume);
  command.footer("Examples:\n  brim resume api");
  command.action([resume] { return run_resume(*resume); });
}

}  // namespace brim::tools
