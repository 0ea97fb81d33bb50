// SPDX-License-Identifier: MIT
// Which sanitizer a test is built with; gcc and clang tell it in different ways.
#ifndef BRIM_TESTS_SANITIZERS_H_
#define BRIM_TESTS_SANITIZERS_H_

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BRIM_TEST_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define BRIM_TEST_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(BRIM_TEST_ASAN)
#define BRIM_TEST_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__) && !defined(BRIM_TEST_TSAN)
#define BRIM_TEST_TSAN 1
#endif
#ifndef BRIM_TEST_ASAN
#define BRIM_TEST_ASAN 0
#endif
#ifndef BRIM_TEST_TSAN
#define BRIM_TEST_TSAN 0
#endif

#endif  // BRIM_TESTS_SANITIZERS_H_
