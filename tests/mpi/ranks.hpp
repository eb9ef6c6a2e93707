// The ranks that run a test together. Collective calls must stay aligned: use CHECK, not REQUIRE, after which a
// rank would leave the others waiting.
#pragma once

#include "comm/site.hpp"

namespace spillway {

inline SiteComm& ranks() {
  static SiteComm instance;
  return instance;
}

}  // namespace spillway
