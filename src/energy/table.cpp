#include "energy/table.hpp"

#include <algorithm>
#include <optional>

#include "core/error.hpp"

namespace spillway {
namespace {

std::string_view trimmed(std::string_view text) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// Walks over the lines that are not blank; numbers from 1.
class Lines {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}
  bool next(std::string_view* line) {
    while (!rest_.empty()) {
      const auto end = rest_.find('\n');
      std::string_view found = rest_.substr(0, end);
      rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
      ++number_;
      if (found.ends_with('\r')) found.remove_suffix(1);
      if (trimmed(found).empty()) continue;
      *line = found;
      return true;
    }
    return false;
  }
  std::size_t number() const { return number_; }

 private:
  std::string_view rest_;
  std::size_t number_ = 0;
};

char most_frequent_delimiter(std::string_view line) {
  char best = ',';
  for (const char candidate : {';', '\t'})
    if (std::count(line.begin(), line.end(), candidate) > std::count(line.begin(), line.end(), best))
      best = candidate;
  return best;
}

}  // namespace

Table::Table(TextFile file) : file_(std::move(file)) {
  const std::string_view text = file_.text;
  is_mms_ = text.starts_with("C,") || text.starts_with("I,");
  if (is_mms_)
    read_mms();
  else
    read_rows();
}

void Table::read_rows() {
  Lines lines(file_.text);
  std::string_view line;
  if (!lines.next(&line)) fail(ExitCode::bad_data, "{}: only blank lines; check --signal.file", name());
  delimiter_ = most_frequent_delimiter(line);
  Cells cells;
  split(line, lines.number(), &cells);
  // One quoted cell that holds delimiters: the export has quoted the line as a whole.
  if (cells.size() == 1 && cells[0].find(delimiter_) != std::string_view::npos) {
    lines_quoted_ = true;
    split(line, lines.number(), &cells);
  }
  while (cells.size() > 1 && cells.back().empty()) cells.pop_back();
  header_.assign(cells.begin(), cells.end());
  while (lines.next(&line)) {
    split(line, lines.number(), &cells);
    add_row(cells, lines.number());
  }
}

// C comment and trailer, I header of a block, D its rows. Several versions of one report have a block each; columns that
// a signal needs are in all of them, but not in the same place, so only the first block is read.
void Table::read_mms() {
  Lines lines(file_.text);
  std::string_view line;
  Cells cells;
  std::optional<std::string> block;
  bool closed = false;
  while (lines.next(&line)) {
    split(line, lines.number(), &cells);
    closed = block && cells[0] == "C";
    while (cells.size() > header_.size() && cells.back().empty()) cells.pop_back();
    if (cells[0] == "C") continue;
    if (cells.size() < 5 || (cells[0] != "I" && cells[0] != "D"))
      fail(ExitCode::bad_data, "{}: line {}: not a C, I or D record of AEMO's MMS; is the file truncated?",
           name(), lines.number());
    const std::string key(cells[1].data(), static_cast<std::size_t>(cells[3].end() - cells[1].begin()));
    if (cells[0] == "I" && !block) {
      block = key;
      header_.assign(cells.begin(), cells.end());
    } else if (cells[0] == "D" && block == key) {
      add_row(cells, lines.number());
    }
  }
  if (!block) fail(ExitCode::bad_data, "{}: no I record: no header of AEMO's MMS", name());
  if (!closed)
    fail(ExitCode::bad_data, "{}: line {}: no closing C record; is the file truncated?", name(),
         lines.number());
}

void Table::split(std::string_view line, std::size_t number, Cells* cells) {
  cells->clear();
  if (lines_quoted_) {
    std::size_t at = 0;
    line = unquote(line, number, &at);
  }
  for (std::size_t at = 0;;) {
    while (at < line.size() && line[at] == ' ') ++at;
    std::string_view cell;
    if (at < line.size() && line[at] == '"') {
      cell = unquote(line, number, &at);
      at = std::min(line.find(delimiter_, at), line.size());
    } else {
      const std::size_t end = std::min(line.find(delimiter_, at), line.size());
      cell = line.substr(at, end - at);
      at = end;
    }
    cells->push_back(trimmed(cell));
    if (cells->size() > kMaxColumns)
      fail(ExitCode::bad_data, "{}: line {}: more than {} columns: not a signal; check --signal.file", name(),
           number, kMaxColumns);
    if (at == line.size()) return;
    ++at;
  }
}

// The quoted text that starts at *at; moves *at behind the closing quote.
std::string_view Table::unquote(std::string_view line, std::size_t number, std::size_t* at) {
  if (*at >= line.size() || line[*at] != '"') return line.substr(*at);
  const std::size_t first = *at + 1;
  bool doubled = false;
  for (std::size_t end = first; end < line.size(); ++end) {
    if (line[end] != '"') continue;
    if (end + 1 < line.size() && line[end + 1] == '"') {
      doubled = true;
      ++end;
      continue;
    }
    *at = end + 1;
    const std::string_view inner = line.substr(first, end - first);
    if (!doubled) return inner;
    std::string plain;
    for (std::size_t i = 0; i < inner.size(); ++i) {
      plain += inner[i];
      if (inner[i] == '"') ++i;
    }
    return unquoted_.emplace_back(std::move(plain));
  }
  fail(ExitCode::bad_data, "{}: line {}: a quote is not closed; is the file truncated?", name(), number);
}

void Table::add_row(Cells& cells, std::size_t number) {
  while (cells.size() > header_.size() && cells.back().empty()) cells.pop_back();
  if (cells.size() != header_.size())
    fail(ExitCode::bad_data, "{}: line {}: {} cells instead of {}; is the file truncated?", name(), number,
         cells.size(), header_.size());
  cells_.insert(cells_.end(), cells.begin(), cells.end());
  lines_.push_back(number);
}

}  // namespace spillway
