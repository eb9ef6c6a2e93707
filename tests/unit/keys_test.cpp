// The table of configuration keys, and the file that --print-config makes of it.
#include "cli/keys.hpp"

#include <fstream>
#include <set>
#include <sstream>

#include "tests/catch.hpp"
#include "tests/run_spillway.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

TEST_CASE("the keys of a section stand together, and each key once") {
  std::set<std::string> names, sections;
  std::string section;
  for (const cli::Key& key : cli::keys()) {
    INFO(key.name);
    CHECK(names.insert(key.name).second);
    if (key.section() != section) CHECK(sections.insert(key.section()).second);
    section = key.section();
  }
  CHECK(sections.count("signal") == 1);
}

TEST_CASE("what --print-config prints has each section once and is read back as the same") {
  const auto printed =
      run_spillway({"train", "--print-config", "--signal.provider", "http", "--signal.region", "here",
                    "--excess.url", "http://127.0.0.1/", "--site.power-cap", "1.5kW"});
  REQUIRE(printed.status == 0);
  std::set<std::string> sections;
  std::istringstream lines(printed.output);
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    if (line.starts_with("[")) CHECK(sections.insert(line).second);
  }
  CHECK(sections.count("[signal]") == 1);
  const TemporaryFolder folder;
  const auto file = folder.path() / "printed.ini";
  std::ofstream(file) << printed.output;
  const auto again = run_spillway({"train", "--config", file.string(), "--print-config"});
  CHECK(again.status == 0);
  CHECK(again.output == printed.output);
}
