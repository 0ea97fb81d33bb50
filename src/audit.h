// SPDX-License-Identifier: MIT
// The ring of changes, when a table takes another's place.
#ifndef BRIM_SRC_AUDIT_H_
#define BRIM_SRC_AUDIT_H_

#include "src/engine.h"

namespace brim {

// Writes the notes of `old` into the ring of `made`, which nobody else has attached.
void carry_notes(const internal::Engine& old, const internal::Engine& made);

}  // namespace brim

#endif  // BRIM_SRC_AUDIT_H_
