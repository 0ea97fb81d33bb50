// SPDX-License-Identifier: MIT
// BRIM_SCHEDULE_POINT() stands before each access to the words that processes race for. It is
// nothing at all but in the library that tests/sim/library_*.cc run (BRIM_SIM): there another
// "process" may go on at any of them, or this one be stopped for good.
#ifndef BRIM_SHM_SCHEDULE_POINT_H_
#define BRIM_SHM_SCHEDULE_POINT_H_

#if defined(BRIM_SIM)
extern "C" void brim_schedule_point() noexcept;
#define BRIM_SCHEDULE_POINT() brim_schedule_point()
#else
#define BRIM_SCHEDULE_POINT() static_cast<void>(0)
#endif

#endif  // BRIM_SHM_SCHEDULE_POINT_H_
