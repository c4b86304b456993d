// NumPy's .npy format, versions 1.0 to 3.0 (numpy.lib.format), for what an embedding can be: little-endian 32-bit floats in C
// order, as one vector or as one row a record.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace warmtier::tools {

constexpr std::string_view kNpyMagic = "\x93NUMPY";
constexpr size_t kNpyHeaderBytesMax = 65'536;  // of the dictionary; NumPy itself writes 118

struct NpyShape {
  std::optional<uint64_t> rows;  // none: a single vector
  uint64_t columns = 0;
  bool operator==(const NpyShape&) const = default;
};

// The dictionary of the header: "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 768), }". Any bytes may come.
base::Result<NpyShape> parse_npy_header(std::string_view dictionary);

// A whole file with one vector: of shape (N,) or (1, N).
base::Result<std::vector<float>> npy_vector(std::string_view file);

// Row by row from the front; a pipe is read as well as a file.
class NpyReader {
 public:
  static base::Result<NpyReader> open(const std::string& path);
  [[nodiscard]] uint64_t rows() const { return rows_; }
  [[nodiscard]] uint64_t columns() const { return columns_; }
  [[nodiscard]] uint64_t rows_read() const { return rows_read_; }
  // The next row; WARM_E_CORRUPT when the file ends early.
  base::Status read(std::span<float> ret_row);
  base::Status skip();

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
  std::vector<float> skipped_;
  uint64_t rows_ = 0;
  uint64_t columns_ = 0;
  uint64_t rows_read_ = 0;
};

// The number of rows is written last: a file that was not finished says that it has none.
class NpyWriter {
 public:
  static base::Result<NpyWriter> create(const std::string& path, uint64_t columns);
  base::Status add(std::span<const float> row);
  base::Status finish();

 private:
  base::Status write_header();
  base::Status flush();

  std::string path_;
  base::Fd file_;
  std::string rows_bytes_;
  uint64_t columns_ = 0;
  uint64_t rows_ = 0;
};

}  // namespace warmtier::tools
