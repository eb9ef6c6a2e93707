// A series as one line of text.
#pragma once

#include <span>
#include <string>

namespace spillway {

// Up to `width` columns of "▁▂▃▄▅▆▇█", lowest to highest finite value; each column is the mean of its share of the values,
// a blank where none of them is finite. A constant series is drawn at the bottom. Empty for no values.
std::string sparkline(std::span<const double> values, int width);

}  // namespace spillway
