// Delimited text: a header and rows of equally many cells.
#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "energy/text_file.hpp"

namespace spillway {

// Owns its text; cells are views into it.
class Table {
 public:
  // Reads comma, semicolon or tab separated text; quotes, doubled quotes, CRLF, blank lines, rows that end in spare
  // delimiters, and exports that quote each line as a whole. AEMO's MMS files (records C, I, D) become the table of their
  // first block. Throws Error(bad_data) naming file and line for rows of another length, open quotes, and more columns
  // than kMaxColumns.
  explicit Table(TextFile file);
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  static constexpr std::size_t kMaxColumns = 4096;

  const std::string& name() const { return file_.name; }
  const std::vector<std::string>& header() const { return header_; }
  std::size_t rows() const { return lines_.size(); }
  // Trimmed of blanks.
  std::string_view cell(std::size_t row, std::size_t column) const {
    return cells_[row * header_.size() + column];
  }
  std::size_t line(std::size_t row) const { return lines_[row]; }  // in the file, from 1
  bool is_mms() const { return is_mms_; }

 private:
  using Cells = std::vector<std::string_view>;
  void read_rows();
  void read_mms();
  void split(std::string_view line, std::size_t number, Cells* cells);
  std::string_view unquote(std::string_view line, std::size_t number, std::size_t* at);
  void add_row(Cells& cells, std::size_t number);

  TextFile file_;
  char delimiter_ = ',';
  bool lines_quoted_ = false;
  bool is_mms_ = false;
  std::vector<std::string> header_;
  Cells cells_;
  std::vector<std::size_t> lines_;
  std::deque<std::string> unquoted_;  // cells that differ from their text in the file
};

}  // namespace spillway
