// How the optimizer's work is divided over the ranks of a site. A pure function of the layout and the number of ranks.
#pragma once

#include <vector>

#include "core/layout.hpp"

namespace spillway {

// Covers the flat vector without gaps, in order of begin. Embeddings are cut into equal parts, of multiples of 64 elements
// but for the last; the matrices that Muon updates stay whole, and neighbours of one batch go to one rank; the learned
// scalars go to rank 0. A rank may own nothing of a parameter, never more than one part of it and one of a batch.
std::vector<OwnedPart> divide_parameters(const ParameterLayout& layout, int ranks);

}  // namespace spillway
