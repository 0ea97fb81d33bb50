// SPDX-License-Identifier: MIT
// pthread_cancel() in what blocks: it unwinds as no C++ exception does, and ends the process where
// a function is noexcept or catches all. So it waits until the call is over.
#ifndef BRIM_SRC_BASE_NO_CANCEL_H_
#define BRIM_SRC_BASE_NO_CANCEL_H_

#include <pthread.h>

namespace brim {

class NoCancel {
 public:
  NoCancel() noexcept { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  ~NoCancel() { pthread_setcancelstate(before_, nullptr); }
  NoCancel(const NoCancel&) = delete;
  NoCancel& operator=(const NoCancel&) = delete;

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

}  // namespace brim

#endif  // BRIM_SRC_BASE_NO_CANCEL_H_
