// Where a GPU sits, for what watches it from outside CUDA.
#pragma once

#include <string>

namespace spillway {

// PCI bus id of GPU `index` of this process, "0000:1A:00.0": the same for every process of the machine. Throws
// std::runtime_error where there is no such GPU.
std::string gpu_bus_id_of(int index);

}  // namespace spillway
