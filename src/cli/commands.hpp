// The subcommands. Each lives in a file of its own: options in, calls, exit code out.
#pragma once

#include <string>
#include <vector>

namespace spillway::cli {

using Arguments = std::vector<std::string>;

int run_courier(const Arguments& arguments);
int run_export(const Arguments& arguments);
int run_gateway(const Arguments& arguments);
int run_diff(const Arguments& arguments);
int run_hub(const Arguments& arguments);
int run_import(const Arguments& arguments);
int run_inspect(const Arguments& arguments);
int run_local(const Arguments& arguments);
int run_ls(const Arguments& arguments);
int run_sample(const Arguments& arguments);
int run_tokenize(const Arguments& arguments);
int run_train(const Arguments& arguments);
int run_vault(const Arguments& arguments);
int run_verify(const Arguments& arguments);
int run_bench(const Arguments& arguments);
int run_report(const Arguments& arguments);
int run_signal(const Arguments& arguments);
int run_plan(const Arguments& arguments);
int run_simulate(const Arguments& arguments);
int run_windows(const Arguments& arguments);

}  // namespace spillway::cli
