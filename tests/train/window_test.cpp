// Who ends a window: the signal, or with gate.enforce off the batch system.
#include <fstream>

#include "core/error.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/train/runs.hpp"

using runs::operator+;

TEST_CASE("a window that has passed ends the trainer at once, unless the batch system ends windows") {
  const TemporaryFolder folder;
  runs::write_data(folder.path() / "data");
  // Long past: no window is open now, nor ever again.
  std::ofstream(folder.path() / "signal.csv") << "point_time,texas\n2020-01-01T00:00:00Z,50\n"
                                                 "2020-01-01T01:00:00Z,50\n2020-01-01T02:00:00Z,500\n";
  const auto arguments = runs::Arguments{"train",
                                         "--site",
                                         "texas",
                                         "--run.dir",
                                         (folder.path() / "run").string(),
                                         "--train.steps",
                                         "5",
                                         "--signal.file",
                                         (folder.path() / "signal.csv").string(),
                                         "--signal.region",
                                         "texas",
                                         "--gate.open-below",
                                         "100"} +
                         runs::small_model(folder.path() / "data");

  const auto enforced = runs::run(0, arguments, folder.path());
  INFO(enforced.output);
  CHECK(enforced.status == static_cast<int>(spillway::ExitCode::suspended));
  CHECK(enforced.output.find("none is left in the signal") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(folder.path() / "run"));

  const auto trusted = runs::run(0, arguments + runs::Arguments{"--gate.enforce", "off"}, folder.path());
  INFO(trusted.output);
  CHECK(trusted.status == static_cast<int>(spillway::ExitCode::complete));
  CHECK(runs::newest(folder.path() / "run" / "texas").digest().size() == 32);
}
