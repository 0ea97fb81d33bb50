// SPDX-License-Identifier: MIT
// TLS over a socket of ours: OpenSSL without its own reads and writes, which would raise SIGPIPE.
#ifndef BRIM_SRC_TIER_TLS_H_
#define BRIM_SRC_TIER_TLS_H_

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace brim::tier {

struct TlsOptions {
  std::string ca_file;  // empty: the system's
  std::string cert_file;
  std::string key_file;  // empty: in cert_file
  bool insecure = false;
};

struct FreeTlsContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
struct FreeTls {
  void operator()(SSL* tls) const { SSL_free(tls); }
};
using TlsContext = std::unique_ptr<SSL_CTX, FreeTlsContext>;
using Tls = std::unique_ptr<SSL, FreeTls>;

// TLS 1.2 at least. Errors: InvalidArgument (tier_tls) naming the file that can not be used.
absl::StatusOr<TlsContext> make_tls_context(const TlsOptions& options);

// A client over `fd`, not connected yet. `host`: whose certificate it must be, a name or an
// address.
absl::StatusOr<Tls> make_tls(SSL_CTX* context, int fd, const std::string& host);

// Why the last operation failed, in words: of the certificate if it was that.
std::string tls_trouble(const SSL* tls);

}  // namespace brim::tier

#endif  // BRIM_SRC_TIER_TLS_H_
