#include "cli/commands.hpp"

#include "cli/options.hpp"

namespace spillway::cli {

const std::vector<Command>& commands() {
  static const std::vector<Command> table = {
      {"tokenize", "text to token shards", false, run_tokenize},
      {"train", "train at one site: the MPI program", false, run_train},
      {"hub", "the always-on control process of a federation", false, run_hub},
      {"local", "hub and sites on this machine, each site in its windows", false, run_local},
      {"vault", "keeps the newest committed model; started by the hub", true, run_vault},
      {"courier", "connects a site's leader with the hub; started by train and vault", true, run_courier},
      {"gateway", "one epoch of the inter-site communicator; started by the courier", true, run_gateway},
      {"bench", "training speed of this machine", false, run_bench},
      {"report", "what a run did, used and emitted: a page, JSON, CSV or Markdown", false, run_report},
      {"inspect", "what a checkpoint holds", false, run_inspect},
      {"verify", "whether checkpoints are whole: checksums and completeness", false, run_verify},
      {"diff", "how two checkpoints differ", false, run_diff},
      {"ls", "the checkpoints of a run, and which job made what", false, run_ls},
      {"sample", "text from a checkpoint's model", false, run_sample},
      {"export", "a checkpoint's model as safetensors", false, run_export},
      {"import", "a checkpoint from such a model", false, run_import},
      {"signal", "what a signal file says; conversion to the canonical layout", false, run_signal},
      {"plan", "windows of all sites from forecasts, and what comes of them", false, run_plan},
      {"simulate", "time, energy and emissions of a run over known signals", false, run_simulate},
      {"windows", "the windows of a signal", false, run_windows},
  };
  return table;
}

}  // namespace spillway::cli
