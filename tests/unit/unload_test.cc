// SPDX-License-Identifier: MIT
// Goal: a server that loads brim as part of a plug-in (an nginx module, a Python extension) may
// unload it again. A counter's restartable sequence leaves the address of its descriptor with the
// kernel, which reads it at the thread's next preemption: it must not be unmapped by then.
// Method: a child process loads a plug-in, counts once, unloads it and lets itself be preempted,
// many times; it must exit by itself. The plug-in is linked with brim_core, as theirs would be.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace {

[[noreturn]] void load_and_unload(const char* path) {
  for (int i = 0; i < 300; ++i) {
    void* const plug_in = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (plug_in == nullptr) _exit(2);
    void* const found = dlsym(plug_in, "unit_use_brim");
    if (found == nullptr) _exit(3);
    if (reinterpret_cast<uint64_t (*)()>(found)() == 0) _exit(4);
    dlclose(plug_in);
    sched_yield();
    usleep(50);
  }
  _exit(0);
}

TEST(Unload, APlugInWithBrimMayBeUnloaded) {
  const char* const path = std::getenv("BRIM_UNLOAD_MODULE");
  ASSERT_NE(path, nullptr) << "run by meson test";
  const pid_t pid = fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) load_and_unload(path);
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_FALSE(WIFSIGNALED(status)) << "killed by signal " << WTERMSIG(status);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
}

}  // namespace
