#include "comm/gateway.hpp"

#include "cli/commands.hpp"
#include "cli/options.hpp"

namespace spillway::cli {

int run_gateway(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "gateway";
  spec.summary = "Takes part in one epoch of the inter-site communicator; started by spillway courier.";
  spec.usage = "spillway gateway [options]";
  spec.sections = {"federation"};
  const auto config = parse(spec, arguments);
  if (!config) return 0;
  return spillway::run_gateway(config->federation);
}

}  // namespace spillway::cli
