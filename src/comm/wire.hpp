// How the floats of a sum between sites are written on the link: as they are, or in fewer bits.
//
//   fp32  4 bytes a value, exact
//   bf16  2 bytes a value, rounded to nearest even
//   int8  1 byte a value and 2 bytes a block of 256: value = q · scale, q = −127 … 127, scale = max |value| / 127
//         as bf16. A block with a value that is not finite becomes NaN; one of values below 2^-100 becomes zero.
//
// Encoding what was decoded gives the same bytes again (bf16: rounding is idempotent; int8: the largest |q| is always
// 127, since the scale is within 2^-9 of max/127, and 127 · scale is exact in fp32). So every member of a ring may pass
// a sum on from its decoded values, and all end up with the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace spillway {

enum class WireFormat { fp32, bf16, int8 };

// "fp32", "bf16" or "int8"; Error(usage) for another name.
WireFormat parse_wire_format(const std::string& name);

// How the optimizer's state is written in sums that write parameters' changes in `format`: bf16 instead of int8, as that
// would make zeros of the smaller variances of a block, and steps divide by those.
WireFormat optimizer_state_format(WireFormat format);

// Bytes that `count` values take.
std::int64_t wire_bytes(WireFormat format, std::int64_t count);

// Writes wire_bytes(format, values.size()) bytes.
void wire_encode(WireFormat format, std::span<const float> values, std::byte* to);

// Reads as many. Any bytes are valid.
void wire_decode(WireFormat format, const std::byte* from, std::span<float> values);

}  // namespace spillway
