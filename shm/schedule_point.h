// SPDX-License-Identifier: MIT
// Where a test may step in. All of it is nothing at all but in the library that the tests of
// tests/sim and tests/crash are linked with (BRIM_SIM): there brim_schedule_point() may let another
// "process" go on, or stop this one for good.
//
// BRIM_SCHEDULE_POINT()       stands before each load of the words that processes race for
// BRIM_CHANGE_POINT()         ... before each store and compare-and-swap of them
// BRIM_RECORD_POINT()         ... before a load of one of the many words of a policy's record
// BRIM_RECORD_CHANGE_POINT()  ... before a store there
// BRIM_STORE_POINT()          stands before every other store to the segment: nobody races for it,
//                             but others must live with what a process killed there leaves
// Between two stores "after the first" is "before the second", so no point stands behind a store.
#ifndef BRIM_SHM_SCHEDULE_POINT_H_
#define BRIM_SHM_SCHEDULE_POINT_H_

#if defined(BRIM_SIM)
enum class BrimPoint { kLoad, kChange, kLoadRecord, kChangeRecord, kStore };
extern "C" void brim_schedule_point(BrimPoint point) noexcept;
#define BRIM_SCHEDULE_POINT() brim_schedule_point(BrimPoint::kLoad)
#define BRIM_CHANGE_POINT() brim_schedule_point(BrimPoint::kChange)
#define BRIM_RECORD_POINT() brim_schedule_point(BrimPoint::kLoadRecord)
#define BRIM_RECORD_CHANGE_POINT() brim_schedule_point(BrimPoint::kChangeRecord)
#define BRIM_STORE_POINT() brim_schedule_point(BrimPoint::kStore)
#else
#define BRIM_SCHEDULE_POINT() static_cast<void>(0)
#define BRIM_CHANGE_POINT() static_cast<void>(0)
#define BRIM_RECORD_POINT() static_cast<void>(0)
#define BRIM_RECORD_CHANGE_POINT() static_cast<void>(0)
#define BRIM_STORE_POINT() static_cast<void>(0)
#endif

#endif  // BRIM_SHM_SCHEDULE_POINT_H_
