// A small sample of every format, written for this test: layouts are facts, values are made up.
#include "energy/import.hpp"

#include <zip.h>
#include <zlib.h>

#include <cmath>
#include <fstream>
#include <random>

#include "core/error.hpp"
#include "core/time.hpp"
#include "energy/text_file.hpp"
#include "tests/catch.hpp"
#include "tests/real_traces.hpp"
#include "tests/temporary_folder.hpp"

using namespace spillway;

namespace {

class ImportFile {
 public:
  SignalConfig config;

  Import read(const std::string& text) {
    std::ofstream(folder_.path() / "file", std::ios::binary) << text;
    return read_file();
  }
  Import read_file() {
    config.file = (folder_.path() / "file").string();
    return import_signal(config);
  }
  // The message that reading ends in, after the file's name.
  std::string error(const std::string& text) {
    try {
      read(text);
    } catch (const Error& caught) {
      const std::string message = caught.what();
      return message.starts_with(config.file) ? message.substr(config.file.size()) : message;
    }
    return "no error";
  }
  std::filesystem::path path() const { return folder_.path() / "file"; }

 private:
  TemporaryFolder folder_;
};

// "value@start" of every sample.
std::vector<std::string> samples(const Import& import) {
  std::vector<std::string> result;
  for (std::size_t i = 0; i < import.signal.values.size(); ++i)
    result.push_back(
        fmt::format("{:g}@{}", import.signal.values[i], format_utc(import.signal.times_unix_s[i])));
  return result;
}

using Samples = std::vector<std::string>;

}  // namespace

TEST_CASE("formats of carbon intensity") {
  ImportFile file;
  SECTION("WattTime v3: pounds per MWh") {
    const Import import = file.read(
        "point_time,value,imputed_data_used\n2022-07-15 00:00:00+00:00,1000.0,false\n2022-07-15 "
        "00:05:00+00:00,0,true\n");
    CHECK(import.format == "watttime-v3");
    CHECK(import.written_unit == "lb/MWh");
    CHECK(samples(import) == Samples{"453.592@2022-07-15T00:00:00Z", "0@2022-07-15T00:05:00Z"});
  }
  SECTION("WattTime v2") {
    const Import import = file.read(
        "timestamp,MOER,MOER version,frequency\n2019-02-28 00:00:00+00:00,1000,2.0,300\n"
        "2019-02-28 00:05:00+00:00,2000,2.0,300\n");
    CHECK(import.format == "watttime-v2");
    CHECK(samples(import) == Samples{"453.592@2019-02-28T00:00:00Z", "907.185@2019-02-28T00:05:00Z"});
  }
  SECTION("SGIP: kilograms per kWh") {
    Import import =
        file.read("time,moer,f1,f2\n2019-04-30 00:00:00+00:00,0.2,0.1,0\n2019-04-30 00:05:00+00:00,0,0,0\n");
    CHECK(import.format == "sgip");
    CHECK(samples(import) == Samples{"200@2019-04-30T00:00:00Z", "0@2019-04-30T00:05:00Z"});
    const std::string versions =
        "timestamp,MOER version 1.0,MOER version 2.0\n2022-04-30T00:00:00+00:00,0.1,0.2\n"
        "2022-04-30T00:05:00+00:00,0.1,0.3\n";
    CHECK(samples(file.read(versions)) == Samples{"200@2022-04-30T00:00:00Z", "300@2022-04-30T00:05:00Z"});
    file.config.column = "MOER version 1.0";
    CHECK(samples(file.read(versions))[0] == "100@2022-04-30T00:00:00Z");
  }
  SECTION("Electricity Maps, both generations of headers") {
    const std::string rows =
        "2024-01-01 00:00:00,USA,CAISO,US-CAL,261.5,340.5,41,27,x,false,\r\n"
        "2024-01-01 01:00:00,USA,CAISO,US-CAL,262.5,,31,27,x,false,\r\n"
        "2024-01-01 02:00:00,USA,CAISO,US-CAL,263.5,342.5,31,27,x,false,\r\n";
    const std::string old_header =
        "Datetime (UTC),Country,Zone Name,Zone Id,Carbon Intensity gCO₂eq/kWh (direct),Carbon Intensity "
        "gCO₂eq/kWh "
        "(LCA),Low Carbon Percentage,Renewable Percentage,Data Source,Data Estimated,Data Estimation "
        "Method\r\n";
    const std::string new_header =
        "Datetime (UTC),Country,Zone name,Zone id,Carbon intensity gCO₂eq/kWh (direct),Carbon intensity "
        "gCO₂eq/kWh "
        "(Life cycle),Carbon-free energy percentage (CFE%),Renewable energy percentage (RE%),Data "
        "source,Data "
        "estimated,Data estimation method\r\n";
    for (const std::string& header : {old_header, new_header}) {
      const Import import = file.read("\xEF\xBB\xBF" + header + rows);
      CHECK(import.format == "electricity-maps");
      CHECK(import.signal.region == "US-CAL");
      CHECK(import.blanks == 1);
      CHECK(samples(import) == Samples{"340.5@2024-01-01T00:00:00Z", "342.5@2024-01-01T02:00:00Z"});
      REQUIRE(import.warnings.size() == 1);
      CHECK(import.warnings[0].ends_with("the first is taken; --signal.column changes it"));
    }
  }
  SECTION("UK, web CSV and NESO") {
    Import import = file.read(
        "Datetime (UTC),Actual Carbon Intensity (gCO2/kWh),Forecast Carbon Intensity (gCO2/kWh),Index\n"
        "2020-05-24T20:30Z,146,140,low\n2020-05-24T21:00Z,148,140,low\n");
    CHECK(import.format == "uk-carbon-intensity");
    CHECK(samples(import) == Samples{"146@2020-05-24T20:30:00Z", "148@2020-05-24T21:00:00Z"});
    import = file.read(
        "DATETIME,GAS,WIND_EMB,GENERATION,CARBON_INTENSITY\n2020-05-24T20:30:00,1,2,3,146\n"
        "2020-05-24T21:00:00,1,2,3,147\n");
    CHECK(import.format == "neso");
    CHECK(samples(import)[1] == "147@2020-05-24T21:00:00Z");
  }
  SECTION("Open Electricity: NEM time without saying so") {
    const std::string text =
        "\xEF\xBB\xBF"
        "date,Wind -  MW,Emissions Intensity - kgCO₂e/MWh,Price - AUD/MWh\n"
        "2022-05-31 22:30,1,NaN,141.6\n2022-05-31 22:35,1,500,132\n2022-05-31 22:40,1,510,132\n";
    const Import import = file.read(text);
    CHECK(import.format == "open-electricity");
    CHECK(samples(import) == Samples{"500@2022-05-31T12:35:00Z", "510@2022-05-31T12:40:00Z"});
    CHECK(import.warnings.back() ==
          "stamps without a zone are taken as +10:00, the NEM's; --signal.timezone changes it");
    file.config.column = "Price - AUD/MWh";
    file.config.timezone = "+08:00";
    const Import price = file.read(text);
    CHECK(price.signal.unit == "AUD/MWh");
    CHECK(samples(price)[0] == "141.6@2022-05-31T14:30:00Z");
    CHECK(price.warnings.empty());
  }
  SECTION("date and hour apart") {
    file.config.timezone = "Europe/London";
    const Import import = file.read(
        "date,hour,day,month,weekday,ci\n2024-06-01,00:00,01,06,Monday,260.98\n"
        "2024-06-01,01:00,01,06,Monday,261\n");
    CHECK(import.format == "date-hour");
    CHECK(samples(import) == Samples{"260.98@2024-05-31T23:00:00Z", "261@2024-06-01T00:00:00Z"});
  }
}

TEST_CASE("formats of markets and grid operators") {
  ImportFile file;
  SECTION("AEMO: stamps end intervals, on the NEM's clock; 30 minutes before October 2021") {
    const Import import = file.read(
        "REGION,SETTLEMENTDATE,TOTALDEMAND,RRP,PERIODTYPE\r\nSA1,\"2021/09/30 23:00\",1,10,TRADE\r\n"
        "SA1,\"2021/09/30 23:30\",1,20,TRADE\r\nSA1,2021/10/01 00:00:00,1,30,TRADE\r\n"
        "SA1,2021/10/01 00:05:00,1,40,TRADE\r\nSA1,2021/10/01 00:10:00,1,50,TRADE\r\nSA1,2021/10/01 "
        "00:15:00,1,60,TRADE\r\n");
    CHECK(import.format == "aemo-price-demand");
    CHECK(import.signal.region == "SA1");
    CHECK(samples(import) == Samples{"10@2021-09-30T12:30:00Z", "20@2021-09-30T13:00:00Z",
                                     "30@2021-09-30T13:30:00Z", "40@2021-09-30T14:00:00Z",
                                     "50@2021-09-30T14:05:00Z", "60@2021-09-30T14:10:00Z"});
    CHECK(import.signal.gaps().empty());
    CHECK(import.signal.end_unix_s() == *parse_utc("2021-09-30T14:15:00Z"));
  }
  SECTION("AEMO MMS: records C, I and D") {
    const std::string text =
        "C,SETP.WORLD,DVD_DISPATCHPRICE,AEMO,PUBLIC,2025/01/10,14:27:20,1,MONTHLY_ARCHIVE,1\n"
        "I,DISPATCH,PRICE,5,SETTLEMENTDATE,RUNNO,REGIONID,DISPATCHINTERVAL,INTERVENTION,RRP\n"
        "D,DISPATCH,PRICE,5,\"2024/12/01 00:05:00\",1,NSW1,1,0,105.5\n"
        "D,DISPATCH,PRICE,5,\"2024/12/01 00:05:00\",1,VIC1,1,0,99\n"
        "D,DISPATCH,PRICE,5,\"2024/12/01 00:05:00\",1,NSW1,1,1,300\n"
        "D,DISPATCH,PRICE,5,\"2024/12/01 00:10:00\",1,NSW1,2,0,106\n";
    CHECK(file.error(text) == ": line 6: no closing C record; is the file truncated?");
    const std::string whole = text + "C,\"END OF REPORT\",7\n";
    CHECK(file.error(whole) == ": several regions: choose one with --signal.region: NSW1, VIC1");
    file.config.region = "NSW1";
    const Import import = file.read(whole);
    CHECK(import.format == "aemo-mms");
    CHECK(samples(import) == Samples{"105.5@2024-11-30T14:00:00Z", "106@2024-11-30T14:05:00Z"});
  }
  SECTION("CAISO OASIS: rows in any order, one price of several") {
    const Import import = file.read(
        "INTERVALSTARTTIME_GMT,INTERVALENDTIME_GMT,OPR_DT,OPR_HR,NODE,LMP_TYPE,MW,GROUP\n"
        "2022-02-01T16:00:00-00:00,2022-02-01T17:00:00-00:00,2022-02-01,9,N001,LMP,75,1\n"
        "2022-02-01T15:00:00-00:00,2022-02-01T16:00:00-00:00,2022-02-01,8,N001,LMP,74.63,1\n"
        "2022-02-01T15:00:00-00:00,2022-02-01T16:00:00-00:00,2022-02-01,8,N001,MCC,-3,1\n");
    CHECK(import.format == "caiso-oasis");
    CHECK(import.signal.unit == "USD/MWh");
    CHECK(samples(import) == Samples{"74.63@2022-02-01T15:00:00Z", "75@2022-02-01T16:00:00Z"});
  }
  SECTION("CAISO curtailment: events add up, doubles do not, no row means zero") {
    const Import import = file.read(
        "month,day,year,hour,curtailment_type,reason,curtail_category,fuel_type,curtailed_MWh,curtailed_MW\n"
        "6,30,2016,1,Economic,Local,Economic - Local,WIND,3,17\n6,30,2016,1,Economic,LOCAL,Economic - "
        "Local,WIND,3,17\n"
        "6,30,2016,1,Economic,System,Economic - System,SOLR,4,9\n6,30,2016,4,Economic,Local,Economic - "
        "Local,WIND,1,4\n");
    CHECK(import.format == "caiso-curtailment");
    CHECK(import.signal.unit == "MW");
    CHECK(samples(import) == Samples{"7@2016-06-30T07:00:00Z", "0@2016-06-30T08:00:00Z",
                                     "0@2016-06-30T09:00:00Z", "1@2016-06-30T10:00:00Z"});
    CHECK(import.filled == 2);
  }
  SECTION("CAISO curtailment, headers of the PDF, on the day with 25 hours") {
    const Import import = file.read(
        "DATE,HOUR,CURT TYPE,REASON,FUEL TYPE,CURTAILED MWH,CURTAILED "
        "MW\n11/05/2023,24,Economic,Local,Wind,7,7\n"
        "11/05/2023,25,Economic,Local,Wind,8,8\n11/13/2023,1,Economic,Local,Wind,9,9\n");
    CHECK(samples(import)[0] == "7@2023-11-06T07:00:00Z");  // 23:00 PST
    CHECK(import.signal.values.back() == 9);
  }
  SECTION("CAISO curtailments in 5 minutes") {
    file.config.column = "Solar Curtailment";
    const Import import = file.read(
        "Date,Hour,Interval,Wind Curtailment,Solar Curtailment\n2023-03-01,9,1,1,10\n"
        "2023-03-01,9,4,,20\n2023-03-01,10,1,1,30\n");
    CHECK(import.format == "caiso-curtailment-5min");
    CHECK(import.signal.step_s == 300);
    CHECK(import.signal.values.size() == 13);
    CHECK(samples(import)[3] == "20@2023-03-01T16:15:00Z");
  }
  SECTION("ENTSO-E, 2025: quoted, days first, zone in the header") {
    const Import import = file.read(
        "\"MTU (UTC)\",\"Area\",\"Sequence\",\"Day-ahead Price (EUR/MWh)\",\"Intraday Period "
        "(UTC)\",\"Intraday Price "
        "(EUR/MWh)\"\n"
        "\"01/02/2025 00:00:00 - 01/02/2025 00:15:00\",\"BZN|FR\",\"Without Sequence\",\"18.92\",\"\",\"\"\n"
        "\"01/02/2025 00:15:00 - 01/02/2025 00:30:00\",\"BZN|FR\",\"Without Sequence\",\"n/e\",\"\",\"\"\n"
        "\"01/02/2025 00:15:00 - 01/02/2025 00:30:00\",\"BZN|FR\",\"Sequence 2\",\"5\",\"\",\"\"\n"
        "\"13/02/2025 00:30:00 - 13/02/2025 00:45:00\",\"BZN|FR\",\"Without Sequence\",\"20\",\"\",\"\"\n");
    CHECK(import.format == "entsoe-prices");
    CHECK(import.signal.region == "BZN|FR");
    CHECK(samples(import) == Samples{"18.92@2025-02-01T00:00:00Z", "20@2025-02-13T00:30:00Z"});
  }
  SECTION("ENTSO-E, before 2024: dots, each line quoted as a whole, the hour that comes twice") {
    const Import import = file.read(
        "\"MTU (CET/CEST),\"\"Day-ahead Price [EUR/MWh]\"\"\"\n"
        "\"27.10.2024 01:00 - 27.10.2024 02:00 (CET/CEST),\"\"1\"\"\"\n"
        "\"27.10.2024 02:00 - 27.10.2024 03:00 (CET/CEST),\"\"2\"\"\"\n"
        "\"27.10.2024 02:00 - 27.10.2024 03:00 (CET/CEST),\"\"3\"\"\"\n"
        "\"27.10.2024 03:00 - 27.10.2024 04:00 (CET/CEST),\"\"4\"\"\"\n");
    CHECK(samples(import) == Samples{"1@2024-10-26T23:00:00Z", "2@2024-10-27T00:00:00Z",
                                     "3@2024-10-27T01:00:00Z", "4@2024-10-27T02:00:00Z"});
    CHECK(import.signal.unit == "EUR/MWh");
    CHECK(import.warnings.empty());
  }
  SECTION("ENTSO-E, 2024: a zone behind the rows of the long day") {
    const Import import = file.read(
        "\"MTU (CET/CEST)\",\"Day-ahead Price (EUR/MWh)\"\n"
        "\"27/10/2024 02:00:00 (CEST) - 27/10/2024 02:00:00 (CET)\",\"2\"\n"
        "\"27/10/2024 02:00:00 (CET) - 27/10/2024 03:00:00 (CET)\",\"3\"\n");
    CHECK(samples(import) == Samples{"2@2024-10-27T00:00:00Z", "3@2024-10-27T01:00:00Z"});
  }
  SECTION("ENTSO-E bulk: tabs") {
    file.config.region = "10YFR-RTE------C";
    const Import import = file.read(
        "DateTime(UTC)\tResolutionCode\tAreaCode\tAreaTypeCode\tPrice[Currency/MWh]\tCurrency\n"
        "2024-01-01 00:00:00.000\tPT60M\t10YFR-RTE------C\tBZN\t5\tEUR\n"
        "2024-01-01 00:00:00.000\tPT60M\t10Y1001A1001A83F\tBZN\t6\tEUR\n"
        "2024-01-01 01:00:00.000\tPT60M\t10YFR-RTE------C\tBZN\t7\tEUR\n");
    CHECK(import.format == "entsoe-bulk");
    CHECK(samples(import) == Samples{"5@2024-01-01T00:00:00Z", "7@2024-01-01T01:00:00Z"});
  }
  SECTION("Elexon: 50 half hours on the long day") {
    std::string text = "Settlement Date,Settlement Period,System Price (GBP/MWh)\n";
    for (int period = 50; period >= 1; --period) text += fmt::format("2024-10-27,{},{}\n", period, period);
    const Import import = file.read(text + "2024-10-28,1,99\n");
    CHECK(import.format == "elexon");
    CHECK(import.signal.unit == "GBP/MWh");
    CHECK(import.signal.values.size() == 51);
    CHECK(samples(import)[0] == "1@2024-10-26T23:00:00Z");
    CHECK(samples(import)[50] == "99@2024-10-28T00:00:00Z");
    CHECK(import.signal.gaps().empty());
  }
}

TEST_CASE("bodies of APIs") {
  ImportFile file;
  SECTION("WattTime v3") {
    const Import import = file.read(
        R"({"data":[{"point_time":"2022-07-15T00:00:00+00:00","value":1000}],
            "meta":{"data_point_period_seconds":300,"region":"CAISO_NORTH","units":"lbs_co2_per_mwh","signal_type":"co2_moer"}})");
    CHECK(import.signal.region == "CAISO_NORTH");
    CHECK(import.signal.end_unix_s() - import.signal.start_unix_s() == 300);
    CHECK(import.signal.values[0] == Approx(453.59237));
  }
  SECTION("Electricity Maps v3, with a null") {
    const Import import = file.read(R"({"zone":"DE","history":[
      {"carbonIntensity":599,"datetime":"2024-03-05T20:00:00.000Z"},{"carbonIntensity":null,"datetime":"2024-03-05T21:00:00.000Z"},
      {"carbonIntensity":500,"datetime":"2024-03-05T22:00:00.000Z"}]})");
    CHECK(import.format == "electricity-maps-json");
    CHECK(samples(import) == Samples{"599@2024-03-05T20:00:00Z", "500@2024-03-05T22:00:00Z"});
  }
  SECTION("UK") {
    file.config.column = "forecast";
    const Import import = file.read(
        R"({"data":[{"from":"2020-05-24T20:30Z","to":"2020-05-24T21:00Z","intensity":{"forecast":146,"actual":null}}]})");
    CHECK(samples(import) == Samples{"146@2020-05-24T20:30:00Z"});
  }
  SECTION("what is not one of them") {
    CHECK(file.error("[1,2]").find("JSON, but not of WattTime v3") != std::string::npos);
    CHECK(file.error("{\"data\":").find("not JSON (") != std::string::npos);
    CHECK(file.error(std::string(1 << 20, '[')).find("not JSON (nested too deep") != std::string::npos);
    CHECK(file.error(R"({"error":"x","message":"Invalid scope"})") ==
          ": the answer of an API that refused: Invalid scope");
    CHECK(file.error(R"({"zone":"DE","history":[{"datetime":"soon","carbonIntensity":1}]})") ==
          ": point 1: no instant 'datetime' with a number 'carbonIntensity'");
  }
}

TEST_CASE("tables that no format fits") {
  ImportFile file;
  SECTION("units and zones are in the names of columns") {
    file.config.region = "np15_usd_mwh";
    const Import import = file.read(
        "station;time_utc;np15_usd_mwh;load_kw\nx;2024-01-01 00:00;5;100\nx;2024-01-01 01:00;6;200\n");
    CHECK(import.format == "columns");
    CHECK(import.signal.unit == "USD/MWh");
    CHECK(samples(import) == Samples{"5@2024-01-01T00:00:00Z", "6@2024-01-01T01:00:00Z"});
  }
  SECTION("seconds since 1970") {
    const Import import = file.read("time,moer (kg/kWh)\n1768150800,0.1\n1768151100,0.2\n");
    CHECK(samples(import) == Samples{"100@2026-01-11T17:00:00Z", "200@2026-01-11T17:05:00Z"});
  }
  SECTION("the order of day and month") {
    const std::string text = "time (UTC),g/kWh\n05/06/2024 00:00,1\n05/06/2024 01:00,2\n";
    const Import guessed = file.read(text);
    CHECK(samples(guessed)[0] == "1@2024-06-05T00:00:00Z");
    REQUIRE(guessed.warnings.size() == 1);
    CHECK(guessed.warnings[0] ==
          "column time (UTC): day or month first? Taken as day/month/year; --signal.date-order dmy|mdy "
          "changes it");
    file.config.date_order = "mdy";
    CHECK(samples(file.read(text))[0] == "1@2024-05-06T00:00:00Z");
    file.config.date_order = "auto";
    CHECK(samples(file.read("time (UTC),g/kWh\n05/06/2024 00:00,1\n05/13/2024 01:00,2\n"))[0] ==
          "1@2024-05-06T00:00:00Z");
  }
  SECTION("clocks that jump") {
    file.config.timezone = "Europe/Berlin";
    const std::string spring = "t,EUR/MWh\n2024-03-31 01:00,1\n2024-03-31 02:00,2\n2024-03-31 03:00,3\n";
    const Import import = file.read(spring);
    CHECK(samples(import) == Samples{"1@2024-03-31T00:00:00Z", "3@2024-03-31T01:00:00Z"});
    REQUIRE(import.warnings.size() == 1);
    CHECK(import.warnings[0].starts_with("2024-03-31T02:00:00 does not exist in Europe/Berlin"));
    const std::string autumn = "t,EUR/MWh\n2024-10-27 01:00,1\n2024-10-27 02:00,2\n2024-10-27 03:00,3\n";
    CHECK(samples(file.read(autumn))[1] == "2@2024-10-27T00:00:00Z");
    file.config.ambiguous = "second";
    CHECK(samples(file.read(autumn))[1] == "2@2024-10-27T01:00:00Z");
  }
  SECTION("doubles") {
    const std::string text =
        "t,g/kWh\n2024-01-01T00:00Z,1\n2024-01-01T01:00Z,2\n2024-01-01T01:00Z,4\n2024-01-01T02:00Z,5\n";
    CHECK(file.read(text).signal.values == std::vector<double>{1, 2, 5});
    CHECK(file.read(text).doubles == 1);
    file.config.duplicates = "last";
    CHECK(file.read(text).signal.values == std::vector<double>{1, 4, 5});
    file.config.duplicates = "mean";
    CHECK(file.read(text).signal.values == std::vector<double>{1, 3, 5});
    file.config.duplicates = "error";
    CHECK(
        file.error(text) ==
        ": line 4: 2024-01-01T01:00:00Z for the second time; --signal.duplicates first|last|mean takes one");
  }
  SECTION("stamps that end intervals") {
    file.config.stamp = "end";
    CHECK(samples(file.read("t,g/kWh\n2024-01-01T01:00Z,1\n2024-01-01T02:00Z,2\n"))[0] ==
          "1@2024-01-01T00:00:00Z");
  }
  SECTION("a unit that nobody states") {
    const Import import = file.read("t,x\n2024-01-01T01:00Z,1\n2024-01-01T02:00Z,2\n");
    CHECK(import.warnings ==
          Samples{"column x: no unit is stated: taken as g/kWh; --signal.unit changes it"});
    file.config.unit = "t/MWh";
    CHECK(file.read("t,x\n2024-01-01T01:00Z,1\n2024-01-01T02:00Z,2\n").signal.values[0] == 1000);
  }
}

TEST_CASE("packed files") {
  ImportFile file;
  const std::string text = "point_time,A\n2024-01-01T00:00Z,1\n2024-01-01T01:00Z,2\n";
  SECTION("gzip, whole and cut") {
    const gzFile stream = gzopen(file.path().c_str(), "wb");
    gzwrite(stream, text.data(), static_cast<unsigned>(text.size()));
    gzclose(stream);
    const Import import = [&] { return file.read_file(); }();
    CHECK(import.packed == "gzip");
    CHECK(import.signal.values == std::vector<double>{1, 2});
    std::filesystem::resize_file(file.path(), std::filesystem::file_size(file.path()) - 12);
    CHECK_THROWS_WITH(file.read_file(),
                      file.config.file + ": damaged or truncated gzip file; download it again");
  }
  SECTION("zip of one file, of two, and cut") {
    const auto write_zip = [&](int members) {
      std::filesystem::remove(file.path());
      int code = 0;
      zip_t* archive = zip_open(file.path().c_str(), ZIP_CREATE, &code);
      REQUIRE(archive != nullptr);
      for (int i = 0; i < members; ++i)
        zip_file_add(archive, fmt::format("member{}.csv", i).c_str(),
                     zip_source_buffer(archive, text.data(), text.size(), 0), 0);
      REQUIRE(zip_close(archive) == 0);
    };
    write_zip(1);
    const Import import = file.read_file();
    CHECK(import.packed == "zip");
    CHECK(import.name == file.config.file + ": member0.csv");
    write_zip(2);
    CHECK_THROWS_WITH(
        file.read_file(),
        file.config.file + ": 2 files in the zip (member0.csv, member1.csv); unpack the one you mean");
    std::filesystem::resize_file(file.path(), std::filesystem::file_size(file.path()) / 2);
    CHECK_THROWS_WITH(file.read_file(),
                      file.config.file + ": damaged or truncated zip file; download it again");
  }
  SECTION("a bomb ends at the limit") {
    const gzFile stream = gzopen(file.path().c_str(), "wb");
    const std::string zeros(1 << 20, '0');
    for (int i = 0; i < 8; ++i) gzwrite(stream, zeros.data(), static_cast<unsigned>(zeros.size()));
    gzclose(stream);
    CHECK_THROWS_AS(load_text(file.path(), std::size_t{4} << 20), Error);
  }
}

TEST_CASE("mutated files give a sound signal or one clear error") {
  const std::vector<std::string> seeds = {
      "point_time,A,B\n2026-01-11 17:00:00+00:00,1,2\n2026-01-11 17:05:00+00:00,3,4\n2026-01-11 "
      "17:10:00+00:00,5,6\n",
      "REGION,SETTLEMENTDATE,TOTALDEMAND,RRP,PERIODTYPE\nSA1,\"2021/09/30 23:00\",1,10,TRADE\nSA1,2021/09/30 "
      "23:30:00,1,20,TRADE\n",
      "C,A,B,AEMO,PUBLIC,2025/01/"
      "10\nI,DISPATCH,PRICE,5,SETTLEMENTDATE,REGIONID,INTERVENTION,RRP\nD,DISPATCH,PRICE,5,"
      "2024/12/01 00:05:00,A,0,1\nD,DISPATCH,PRICE,5,2024/12/01 00:10:00,A,0,1\nC,END,5\n",
      "\"MTU (CET/CEST)\",\"Price (EUR/MWh)\"\n\"27/10/2024 02:00:00 (CEST) - 27/10/2024 02:00:00 "
      "(CET)\",\"2\"\n\"27/10/2024 02:00:00 (CET) - 27/10/2024 03:00:00 (CET)\",\"3\"\n",
      "DATE,HOUR,CURT TYPE,REASON,FUEL TYPE,CURTAILED MWH,CURTAILED "
      "MW\n11/05/2023,24,Economic,Local,Wind,7,7\n"
      "11/05/2023,25,Economic,Local,Wind,8,8\n11/06/2023,1,Economic,Local,Wind,9,9\n",
      "Settlement Date,Settlement Period,GBP/MWh\n2024-10-27,1,1\n2024-10-27,50,2\n",
      R"({"data":[{"point_time":"2022-07-15T00:00:00+00:00","value":1},{"point_time":"2022-07-15T00:05:00Z","value":2}],)"
      R"("meta":{"data_point_period_seconds":300,"region":"A","units":"lbs_co2_per_mwh"}})",
      R"({"data":[{"from":"2020-05-24T20:30Z","to":"2020-05-24T21:00Z","intensity":{"forecast":1,"actual":2}}]})"};
  const unsigned seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  ImportFile file;
  int signals = 0, errors = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = seeds[random() % seeds.size()];
    for (unsigned change = random() % 4; change > 0; --change) {
      const std::size_t at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = static_cast<char>(random() % 256);
          break;
        case 1:
          text[at] = "0123456789,\"\n-:/.;Ee"[random() % 20];
          break;
        case 2:
          text.erase(at, 1 + random() % 10);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 40));
          break;
      }
      if (text.empty()) break;
    }
    file.config.region = random() % 2 == 0 ? "" : "A";
    file.config.timezone = random() % 2 == 0 ? "" : "Europe/Berlin";
    INFO(text);
    try {
      const Signal signal = file.read(text).signal;
      ++signals;
      REQUIRE(signal.values.size() == signal.times_unix_s.size());
      REQUIRE(signal.step_s > 0);
      bool sound = true;
      for (std::size_t i = 0; i < signal.values.size(); ++i)
        sound = sound && std::isfinite(signal.values[i]) && signal.held_until(i) > signal.times_unix_s[i] &&
                (i == 0 || signal.times_unix_s[i] > signal.times_unix_s[i - 1]);
      REQUIRE(sound);
    } catch (const Error& error) {
      ++errors;
      REQUIRE((error.code() == ExitCode::bad_data || error.code() == ExitCode::usage));
      REQUIRE(std::string(error.what()).find('\n') == std::string::npos);
    }
  }
  CHECK(signals > 100);
  CHECK(errors > 100);
}

TEST_CASE("real traces read as their README says") {
  const auto read = [](const std::string& name,
                       const std::function<void(SignalConfig*)>& choose) -> std::optional<Import> {
    const auto path = real_trace(name);
    if (!path) return std::nullopt;
    SignalConfig config;
    config.file = path->string();
    choose(&config);
    return import_signal(config);
  };
  const auto count = [](const Import& import, auto wanted) {
    return std::count_if(import.signal.values.begin(), import.signal.values.end(), wanted);
  };
  const auto negative = [](double value) { return value < 0; };
  if (const auto import =
          read("prices_hourly_utc_2024.csv", [](auto* c) { c->region = "caiso_np15_da_usd_mwh"; })) {
    CHECK(import->signal.unit == "USD/MWh");
    CHECK(count(*import, negative) == 271);
  }
  if (const auto import = read("prices_hourly_utc_2024.csv", [](auto* c) { c->region = "de_lu_da_eur_mwh"; }))
    CHECK(count(*import, negative) == 457);
  if (const auto import =
          read("DE-LU_electricity_prices_2024.csv", [](auto* c) { c->timezone = "Europe/Berlin"; })) {
    CHECK(import->phantoms == 1);
    REQUIRE(import->signal.gaps().size() == 1);
    CHECK(format_utc(import->signal.gaps()[0].start_unix_s) == "2024-01-30T23:00:00Z");
  }
  if (const auto import = read("AU-VIC_electricity_prices_2024.csv", [](auto* c) { c->timezone = "+10:00"; }))
    CHECK(import->doubles == 11);
  if (const auto import = read("PRICE_AND_DEMAND_fragments_SA1.csv", [](auto*) {}))
    CHECK(import->signal.gaps().size() == 12);
  if (const auto import =
          read("nem_sa1_5min_price_curtailment.csv", [](auto* c) { c->region = "rrp_aud_mwh"; })) {
    const auto monthly = read("PRICE_AND_DEMAND_fragments_SA1.csv", [](auto*) {});
    REQUIRE(monthly);
    CHECK(import->signal.times_unix_s == monthly->signal.times_unix_s);
    CHECK(import->signal.values == monthly->signal.values);
  }
  if (const auto import = read("SGIP_CAISO_PGE_2021-04.csv.gz", [](auto*) {})) {
    CHECK(import->packed == "gzip");
    CHECK(import->signal.values.size() == 9216);
  }
  if (const auto import = read("curtail_report_2016-2019.csv", [](auto*) {}))
    CHECK(import->signal.gaps().empty());
  for (const char* name : {"US-CAL-CISO_2024_hourly.csv", "DE-LU_2024_hourly.csv"})
    if (const auto import = read(name, [](auto*) {})) CHECK(import->signal.values.size() == 8784);
  if (const auto import = read("ger_ci.csv", [](auto* c) { c->timezone = "UTC"; }))
    CHECK(import->signal.step_s == 900);
}
