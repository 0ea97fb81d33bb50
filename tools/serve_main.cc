// SPDX-License-Identifier: MIT
// The program that `brim serve` becomes.
#include <exception>
#include <string>

#include "cli.h"
#include "output.h"
#include "serve.h"
#include "serve_http.h"

namespace {

void describe(brim::tools::Command& brim) {
  brim::tools::add_serve_command(brim, brim::tools::run_server);
}

}  // namespace

int main(int argc, char** argv) {
  brim::tools::guard_against_truncation();
  try {
    return brim::tools::run_command_line(argc, argv, describe);
  } catch (const std::exception& error) {
    brim::tools::complain(std::string("unexpected: ") + error.what());
    return brim::tools::kExitFailure;
  }
}
