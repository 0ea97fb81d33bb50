// SPDX-License-Identifier: MIT
// gtest's TEST, ASSERT_ and EXPECT_ for the property tests, a trace and a stop after a failure;
// with BRIM_PLAIN_CHECKS a stand-in of a few lines with a main(), so that algo_mutants.py compiles
// fast.
#ifndef BRIM_TESTS_UNIT_CHECK_H_
#define BRIM_TESTS_UNIT_CHECK_H_

#ifndef BRIM_PLAIN_CHECKS
#include <gtest/gtest.h>
#define BRIM_TRACE(text) SCOPED_TRACE(text)
#define BRIM_STOP(...) \
  if (::testing::Test::HasFatalFailure()) return __VA_ARGS__
#else
#include <cstdio>
#include <string_view>

namespace brim::test {

struct Ignored {
  template <class T>
  const Ignored& operator<<(const T&) const {
    return *this;
  }
};
struct Failure {
  const char* file;
  int line;
  const char* what;
  [[noreturn]] void operator&(const Ignored&) const { throw *this; }
};

struct PlainTest {
  const char* name;
  void (*run)();
  PlainTest* next;
  inline static PlainTest* first = nullptr;
  PlainTest(const char* called, void (*body)()) : name(called), run(body), next(first) {
    first = this;
  }
  // False if the test failed; says where.
  bool passes() const {
    try {
      run();
      return true;
    } catch (const Failure& failure) {
      std::printf("FAILED %s %s:%d: %s\n", name, failure.file, failure.line, failure.what);
      return false;
    }
  }
};

}  // namespace brim::test

#define TEST(suite, name)                                                                       \
  static void suite##_##name();                                                                 \
  static const ::brim::test::PlainTest suite##_##name##_test(#suite "." #name, suite##_##name); \
  static void suite##_##name()
#define BRIM_CHECK(ok, what) \
  if (ok)                    \
    ;                        \
  else                       \
    ::brim::test::Failure{__FILE__, __LINE__, what} & ::brim::test::Ignored()
#define ASSERT_TRUE(a) BRIM_CHECK(static_cast<bool>(a), #a)
#define ASSERT_FALSE(a) BRIM_CHECK(!static_cast<bool>(a), "not " #a)
#define ASSERT_EQ(a, b) BRIM_CHECK((a) == (b), #a " == " #b)
#define ASSERT_NE(a, b) BRIM_CHECK((a) != (b), #a " != " #b)
#define ASSERT_LE(a, b) BRIM_CHECK((a) <= (b), #a " <= " #b)
#define ASSERT_LT(a, b) BRIM_CHECK((a) < (b), #a " < " #b)
#define ASSERT_GE(a, b) BRIM_CHECK((a) >= (b), #a " >= " #b)
#define ASSERT_GT(a, b) BRIM_CHECK((a) > (b), #a " > " #b)
#define EXPECT_TRUE(a) ASSERT_TRUE(a)
#define EXPECT_FALSE(a) ASSERT_FALSE(a)
#define EXPECT_EQ(a, b) ASSERT_EQ(a, b)
#define EXPECT_NE(a, b) ASSERT_NE(a, b)
#define EXPECT_LE(a, b) ASSERT_LE(a, b)
#define EXPECT_LT(a, b) ASSERT_LT(a, b)
#define EXPECT_GE(a, b) ASSERT_GE(a, b)
#define EXPECT_GT(a, b) ASSERT_GT(a, b)
#define BRIM_TRACE(text) (void)0
#define BRIM_STOP(...) (void)0

// PROGRAM [--all] [NAME to skip]...: stops at the first test that fails, but for --all.
int main(int count, char** words) {
  bool passed = true;
  bool all = false;
  for (auto* test = brim::test::PlainTest::first; test != nullptr; test = test->next) {
    bool skip = false;
    for (int i = 1; i < count; ++i) {
      skip |= std::string_view(words[i]) == test->name;
      all |= std::string_view(words[i]) == "--all";
    }
    if (!skip) passed &= test->passes();
    if (!passed && !all) break;
  }
  return passed ? 0 : 1;
}
#endif  // BRIM_PLAIN_CHECKS

#endif  // BRIM_TESTS_UNIT_CHECK_H_
