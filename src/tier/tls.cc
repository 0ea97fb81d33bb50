// SPDX-License-Identifier: MIT
#include "src/tier/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include "src/base/text.h"

namespace brim::tier {

namespace {

int socket_of(BIO* bio) { return static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio))); }

int bio_result(BIO* bio, ssize_t moved, bool reading) {
  BIO_clear_retry_flags(bio);
  if (moved < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
    reading ? BIO_set_retry_read(bio) : BIO_set_retry_write(bio);
  }
  return static_cast<int>(moved);
}

int bio_write(BIO* bio, const char* bytes, int size) {
  return bio_result(bio, send(socket_of(bio), bytes, static_cast<size_t>(size), MSG_NOSIGNAL),
                    false);
}

int bio_read(BIO* bio, char* bytes, int size) {
  return bio_result(bio, recv(socket_of(bio), bytes, static_cast<size_t>(size), 0), true);
}

long bio_control(BIO*, int what, long, void*) { return what == BIO_CTRL_FLUSH ? 1 : 0; }

const BIO_METHOD* socket_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* const made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "brim");
    if (made == nullptr) return made;
    BIO_meth_set_write(made, bio_write);
    BIO_meth_set_read(made, bio_read);
    BIO_meth_set_ctrl(made, bio_control);
    return made;
  }();
  return method;
}

std::string last_error() {
  const unsigned long code = ERR_get_error();
  const char* const reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  ERR_clear_error();
  return reason == nullptr ? "unknown reason" : reason;
}

absl::Status file_error(std::string_view what, const std::string& path) {
  return absl::InvalidArgumentError(
      cat("tier_tls: ", what, " ", shown_path(path), ": ", last_error(), "; a readable PEM file"));
}

// Never asks on a terminal.
int no_passphrase(char*, int, int, void*) { return 0; }

}  // namespace

absl::StatusOr<TlsContext> make_tls_context(const TlsOptions& options) {
  ERR_clear_error();
  TlsContext context(SSL_CTX_new(TLS_client_method()));
  if (context == nullptr || SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION) != 1) {
    return absl::ResourceExhaustedError(cat("tier_tls: ", last_error()));
  }
  SSL_CTX_set_mode(context.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_default_passwd_cb(context.get(), no_passphrase);
  if (options.insecure) {
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
  } else {
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    const char* const ca = options.ca_file.c_str();
    if (options.ca_file.empty()) {
      SSL_CTX_set_default_verify_paths(context.get());
    } else if (SSL_CTX_load_verify_locations(context.get(), ca, nullptr) != 1) {
      return file_error("the authority's certificate", options.ca_file);
    }
  }
  if (!options.cert_file.empty()) {
    if (SSL_CTX_use_certificate_chain_file(context.get(), options.cert_file.c_str()) != 1) {
      return file_error("the certificate", options.cert_file);
    }
    const std::string& key = options.key_file.empty() ? options.cert_file : options.key_file;
    if (SSL_CTX_use_PrivateKey_file(context.get(), key.c_str(), SSL_FILETYPE_PEM) != 1) {
      return file_error("the key of the certificate", key);
    }
  } else if (!options.key_file.empty()) {
    return absl::InvalidArgumentError("tier_tls: a key without its certificate; give both");
  }
  ERR_clear_error();
  return context;
}

absl::StatusOr<Tls> make_tls(SSL_CTX* context, int fd, const std::string& host) {
  ERR_clear_error();
  Tls tls(SSL_new(context));
  BIO* const bio = socket_method() == nullptr ? nullptr : BIO_new(socket_method());
  if (tls == nullptr || bio == nullptr) {
    BIO_free(bio);
    return absl::ResourceExhaustedError(cat("tier_tls: ", last_error()));
  }
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd)));
  BIO_set_init(bio, 1);
  SSL_set_bio(tls.get(), bio, bio);
  SSL_set_connect_state(tls.get());
  in6_addr address;
  const bool numeric = inet_pton(AF_INET, host.c_str(), &address) == 1 ||
                       inet_pton(AF_INET6, host.c_str(), &address) == 1;
  const bool named = numeric
                         ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls.get()), host.c_str())
                         : SSL_set1_host(tls.get(), host.c_str()) &&
                               SSL_set_tlsext_host_name(tls.get(), host.c_str());
  if (!named) return absl::InvalidArgumentError(cat("tier_tls: ", last_error()));
  return tls;
}

std::string tls_trouble(const SSL* tls) {
  const long verdict = SSL_get_verify_result(tls);
  const bool looked = SSL_get_verify_mode(tls) != SSL_VERIFY_NONE;
  if (looked && verdict != X509_V_OK) {
    ERR_clear_error();
    return cat("the server's certificate: ", X509_verify_cert_error_string(verdict));
  }
  return last_error();
}

}  // namespace brim::tier
