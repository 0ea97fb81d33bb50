// SPDX-License-Identifier: MIT
// Where a test may step in. All of it is nothing at all but in the library that the tests of
// tests/sim and tests/crash are linked with (BRIM_SIM): there brim_schedule_point() may let another
// "process" go on, or stop this one for good.
//
// BRIM_SCHEDULE_POINT()  stands before each access to the words that processes race for
// BRIM_RECORD_POINT()    the same, of the many words of a policy's record: only a change races
// BRIM_STORE_POINT()     stands before every other store to the segment: what a process that is
//                        killed there leaves is a state others must live with
// Between two stores "after the first" is "before the second", so no point stands behind a store.
#ifndef BRIM_SHM_SCHEDULE_POINT_H_
#define BRIM_SHM_SCHEDULE_POINT_H_

#if defined(BRIM_SIM)
enum class BrimPoint { kAccess, kRecord, kStore };
extern "C" void brim_schedule_point(BrimPoint point) noexcept;
#define BRIM_SCHEDULE_POINT() brim_schedule_point(BrimPoint::kAccess)
#define BRIM_RECORD_POINT() brim_schedule_point(BrimPoint::kRecord)
#define BRIM_STORE_POINT() brim_schedule_point(BrimPoint::kStore)
#else
#define BRIM_SCHEDULE_POINT() static_cast<void>(0)
#define BRIM_RECORD_POINT() static_cast<void>(0)
#define BRIM_STORE_POINT() static_cast<void>(0)
#endif

#endif  // BRIM_SHM_SCHEDULE_POINT_H_
