#include "energy/signal.hpp"

#include <fstream>

#include "core/error.hpp"
#include "core/time.hpp"
#include "tests/catch.hpp"
#include "tests/real_traces.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

namespace {

// Writes `text` as signal.csv and reads it.
class SignalFile {
 public:
  Signal read(const std::string& text, SignalConfig options = {}) {
    std::ofstream(path(), std::ios::binary) << text;
    options.file = path().string();
    return read_signal(options);
  }
  // The message that reading ends in, without the folder.
  std::string error(const std::string& text, SignalConfig options = {}) {
    try {
      read(text, options);
    } catch (const Error& caught) {
      const std::string message = caught.what();
      const auto at = message.find(path().string());
      REQUIRE(at == 0);
      REQUIRE(message.find('\n') == std::string::npos);
      return message.substr(path().string().size());
    }
    return "no error";
  }
  std::filesystem::path path() const { return folder_.path() / "signal.csv"; }

 private:
  TemporaryFolder folder_;
};

SignalConfig region(const std::string& name) {
  SignalConfig config;
  config.region = name;
  return config;
}

SignalConfig in_zone(const std::string& name) {
  SignalConfig config;
  config.timezone = name;
  return config;
}

const double kNoon = *parse_utc("2026-01-11T12:00:00Z");

}  // namespace

TEST_CASE("wide and one-region layouts read alike") {
  SignalFile file;
  const Signal wide = file.read(
      "point_time,A,B\n2026-01-11 12:00:00+00:00,1,10.5\n2026-01-11 12:05:00+00:00,2,20\n", region("B"));
  REQUIRE(wide.region == "B");
  REQUIRE(wide.values == std::vector<double>{10.5, 20});
  REQUIRE(wide.times_unix_s == std::vector<double>{kNoon, kNoon + 300});
  REQUIRE(wide.step_s == 300);
  const Signal one = file.read("time,A\r\n2026-01-11T12:00Z,1\r\n\r\n2026-01-11T06:05:00-06:00,2\r\n");
  REQUIRE(one.region == "A");
  REQUIRE(one.times_unix_s == wide.times_unix_s);
  const Signal naive = file.read("time,A\n2026-01-11T12:00,1\n2026-01-11 12:05:00,2\n", in_zone("UTC"));
  REQUIRE(naive.times_unix_s == wide.times_unix_s);
}

TEST_CASE("a sample holds until the next one, and for one step before a gap and at the end") {
  SignalFile file;
  const Signal signal = file.read(
      "time,A\n2026-01-11T12:00Z,1\n2026-01-11T12:05Z,2\n2026-01-11T12:15Z,3\n2026-01-11T12:31Z,4\n"
      "2026-01-11T12:36Z,5\n");
  REQUIRE_FALSE(signal.value_at(kNoon - 1));
  REQUIRE(signal.value_at(kNoon) == 1);
  REQUIRE(signal.value_at(kNoon + 299.9) == 1);
  REQUIRE(signal.value_at(kNoon + 300) == 2);
  REQUIRE(signal.value_at(kNoon + 899) == 2);  // two steps are no gap
  REQUIRE(signal.value_at(kNoon + 900 + 299) == 3);
  REQUIRE_FALSE(signal.value_at(kNoon + 900 + 300));
  REQUIRE(signal.value_at(kNoon + 31 * 60) == 4);
  REQUIRE(signal.value_at(kNoon + 41 * 60 - 1) == 5);
  REQUIRE_FALSE(signal.value_at(kNoon + 41 * 60));
  REQUIRE(signal.end_unix_s() == kNoon + 41 * 60);
  REQUIRE(signal.gaps().size() == 1);
  REQUIRE(signal.gaps()[0].start_unix_s == kNoon + 1200);
  REQUIRE(signal.gaps()[0].end_unix_s == kNoon + 31 * 60);
}

TEST_CASE("blank cells are missing samples") {
  SignalFile file;
  const Signal signal = file.read(
      "time,A\n2026-01-11T12:00Z,1\n2026-01-11T12:05Z,\n2026-01-11T12:10Z,NaN\n2026-01-11T12:15Z,3\n"
      "2026-01-11T12:20Z,4\n2026-01-11T12:25Z,null\n2026-01-11T12:30Z,6\n2026-01-11T12:35Z,7\n");
  REQUIRE(signal.values == std::vector<double>{1, 3, 4, 6, 7});
  REQUIRE_FALSE(signal.value_at(kNoon + 300));     // two blanks are a gap
  REQUIRE(signal.value_at(kNoon + 25 * 60) == 4);  // one is not
}

TEST_CASE("bad signal files end in one line that names file, line, column and remedy") {
  SignalFile file;
  const std::string head = "time,A,B\n2026-01-11T12:00Z,1,2\n";
  CHECK(file.error("") == ": empty file; check --signal.file");
  CHECK(file.error("\n\r\n") == ": only blank lines; check --signal.file");
  CHECK(file.error(std::string("A\n\x7f"
                               "ELF\0,",
                               8)) == ": line 2: not text; check --signal.file");
  CHECK(file.error("time\n1\n") ==
        ": line 1: one column: not a signal; it needs a column of instants and one per region");
  CHECK(file.error("dear,sir\nhow are,you\n") ==
        ": line 2: 'how are' is not an instant such as 2026-01-11T17:05:00Z, nor is another cell");
  CHECK(file.error(head + "2026-01-11T12:05Z,1,2\n", region("C")) ==
        ": line 1: no region 'C'; choose with --signal.region one of: A, B");
  CHECK(file.error(head) == ": several regions: choose one with --signal.region: A, B");
  CHECK(file.error(head, region("A")) == ": column A: 1 samples; a signal needs at least two");
  CHECK(file.error(head + "2026-01-11T12:05Z,1", region("A")) ==
        ": line 3: 2 cells instead of 3; is the file truncated?");
  CHECK(file.error(head + "2026-01-11T12:05Z,\"1", region("A")) ==
        ": line 3: a quote is not closed; is the file truncated?");
  CHECK(file.error(head + "2026-01-11T12:05Z,1x,2\n", region("A")) ==
        ": line 3: column A: '1x' is not a number; correct it or leave the cell blank");
  CHECK(file.error(head + "2026-01-11T12:05Z,inf,2\n", region("A")) ==
        ": line 3: column A: 'inf' is not a number; correct it or leave the cell blank");
  CHECK(file.error(head + "2026-01-11T11:00Z,1,2\n", region("A")) ==
        ": line 3: column time: 2026-01-11T11:00:00Z is before the instant above it; sort the file");
  CHECK(file.error(head + "2026-01-11T12:00:00.5Z,1,2\n", region("A")) ==
        ": column time: samples 0.5 s apart; a signal's steps are a second or more");
  CHECK(file.error("time,A\n2026-01-11T12:00,1\n2026-01-11T12:05,1\n") ==
        ": line 2: column time: '2026-01-11T12:00' has no time zone; say --signal.timezone UTC, or the zone "
        "it is in, "
        "such as Europe/Berlin");
  CHECK(file.error(head + "noon,1,2\n", region("A")) ==
        ": line 3: column time: 'noon' is not an instant such as 2026-01-11T17:05:00Z");
  SignalConfig foreign = region("A");
  foreign.format = "sgip";
  CHECK(file.error(head, foreign) ==
        ": line 1: the header is not that of format sgip; try --signal.format auto");
  try {
    SignalConfig config;
    config.file = (file.path().parent_path() / "absent.csv").string();
    read_signal(config);
    FAIL("read an absent file");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::bad_data);
    CHECK(std::string(error.what())
              .ends_with("absent.csv: no such file, or not readable; check --signal.file"));
  }
}

TEST_CASE("hostile files end in one clear error") {
  SignalFile file;
  const std::size_t size = std::size_t{10} << 20;
  CHECK(file.error(std::string(size, ',')) ==
        ": line 1: more than 4096 columns: not a signal; check --signal.file");
  CHECK(file.error(std::string(size, 'a')) ==
        ": line 1: one column: not a signal; it needs a column of instants and one per region");
  CHECK(file.error(std::string(size, '"')).starts_with(": line 1: "));
  CHECK(file.error("time,A\n" + std::string(size, '9')) ==
        ": line 2: 1 cells instead of 2; is the file truncated?");
  CHECK(file.error("time,A\n2026-01-11T12:00Z," + std::string(size, '9')).size() < 200);
  std::string rows = "time,A\n";
  while (rows.size() < size) rows += "2026-01-11T12:00Z,1\n";
  CHECK(file.error(rows) == ": column A: 1 samples; a signal needs at least two");
  CHECK(file.error("month,day,year,hour,curtailment_type,reason,fuel_type,curtailed_mwh\n1,1,1900,1,a,b,c,1\n"
                   "1,1,2200,1,a,b,c,1\n2,1,2200,99,a,b,c,1\n") ==
        ": line 4: column hour: '99' is not a whole number from 0 to 25");
}

TEST_CASE("percentiles are linear between ranks") {
  Signal signal;
  signal.values = {40, 10, 20, 30, 50};
  CHECK(percentile(signal, 0) == 10);
  CHECK(percentile(signal, 25) == 20);
  CHECK(percentile(signal, 90) == Approx(46));
  CHECK(percentile(signal, 100) == 50);
  CHECK_THROWS_AS(percentile(signal, 101), Error);
}

TEST_CASE("the study's trace has the published means") {
  const auto path = real_trace("study_mci_2026-01-11.csv");
  if (!path) return;
  const std::vector<std::pair<std::string, double>> means = {
      {"CAISO_NORTH", 319}, {"SPP_TX", 408}, {"NEM_SA", 350}, {"DE", 752}};
  for (const auto& [name, expected] : means) {
    SignalConfig config = region(name);
    config.file = path->string();
    const Signal signal = read_signal(config);
    REQUIRE(signal.values.size() == 217);
    REQUIRE(signal.gaps().empty());
    double sum = 0;
    for (const double value : signal.values) sum += value;
    CHECK(sum / 217 == Approx(expected).margin(0.5));
  }
}
