#include "comm/courier.hpp"

#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "core/log.hpp"

namespace spillway::cli {

int run_courier(const Arguments& arguments) {
  CommandSpec spec;
  spec.name = "courier";
  spec.summary = "Connects a site's leader with the hub; started by spillway train and spillway hub.";
  spec.usage = "spillway courier --site.name NAME --federation.hub HOST:PORT [options]";
  spec.sections = {"site", "federation"};
  const auto config = parse(spec, arguments);
  if (!config) return 0;
  set_log_source(config->site.name + " courier");
  return spillway::run_courier(config->federation, config->site.name);
}

}  // namespace spillway::cli
