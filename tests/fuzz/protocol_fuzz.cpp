// libFuzzer target: whatever bytes arrive as a line, decode() throws Error(bad_data) or gives a message that encode() and
// decode() carry unchanged. tests/fuzz/run builds and runs it.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "comm/protocol.hpp"
#include "core/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace spillway;
  std::string line;
  try {
    line = encode(decode({reinterpret_cast<const char*>(data), size}));
  } catch (const Error& error) {
    if (error.code() != ExitCode::bad_data) std::abort();
    return 0;
  }
  if (encode(decode(line)) != line) std::abort();
  return 0;
}
