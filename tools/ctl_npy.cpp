#include "tools/ctl_npy.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/checked.hpp"

namespace warmtier::tools {
namespace {

static_assert(std::endian::native == std::endian::little, "rows are written as they lie in memory");

constexpr size_t kVersionedBytes = 8;  // magic and version
constexpr size_t kAlignBytes = 64;     // of the data, as NumPy writes it
constexpr size_t kPieceBytes = size_t{1} << 20;
constexpr size_t kAxesMax = 32;  // as NumPy

// Reads a literal of Python: strings without escapes, True, False, tuples of whole numbers.
class Literal {
 public:
  explicit Literal(std::string_view text) : rest_(text) {}

  bool take(char wanted) {
    skip_blanks();
    if (rest_.empty() || rest_.front() != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool take_string(std::string_view& ret_text) {
    skip_blanks();
    if (rest_.empty() || (rest_.front() != '\'' && rest_.front() != '"')) return false;
    const size_t end = rest_.find(rest_.front(), 1);
    if (end == std::string_view::npos) return false;
    ret_text = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    return true;
  }
  bool take_word(std::string_view& ret_word) {
    skip_blanks();
    size_t n = 0;
    while (n < rest_.size() && ((rest_[n] >= 'a' && rest_[n] <= 'z') || (rest_[n] >= 'A' && rest_[n] <= 'Z'))) ++n;
    ret_word = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return n > 0;
  }
  bool take_number(uint64_t& ret_number) {
    skip_blanks();
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), ret_number);
    if (error != std::errc()) return false;
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    take('L');  // what Python 2 wrote behind a long one
    return true;
  }
  bool at_end() {
    skip_blanks();
    return rest_.empty();
  }

 private:
  void skip_blanks() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n' || rest_.front() == '\t')) rest_.remove_prefix(1);
  }
  std::string_view rest_;
};

std::unexpected<base::Error> no_dictionary(std::string_view dictionary) {
  const std::string_view shown = dictionary.substr(0, 80);
  return base::fail(WARM_E_CORRUPT, "the header of a .npy is a dictionary of descr, fortran_order and shape, not \"%.*s\"",
                    static_cast<int>(shown.size()), shown.data());
}

// What stands before the data. `read` gives exactly so many bytes or fails.
template <typename Read>
base::Result<NpyShape> read_head(Read&& read) {
  char head[kVersionedBytes];
  if (auto status = read(head, sizeof head); !status) return base::pass(std::move(status));
  if (std::string_view(head, kNpyMagic.size()) != kNpyMagic)
    return base::fail(WARM_E_CORRUPT, "it is no .npy: it starts otherwise");
  const auto major = static_cast<uint8_t>(head[6]);
  const auto minor = static_cast<uint8_t>(head[7]);
  if (major < 1 || major > 3 || minor != 0) {
    return base::fail(WARM_E_VERSION, "version %u.%u of .npy is not known; 1.0, 2.0 and 3.0 are", major, minor);
  }
  uint32_t bytes = 0;
  if (auto status = read(reinterpret_cast<char*>(&bytes), major == 1 ? sizeof(uint16_t) : sizeof(uint32_t)); !status) {
    return base::pass(std::move(status));
  }
  if (bytes > kNpyHeaderBytesMax) {
    return base::fail(WARM_E_LIMIT, "its header has %u bytes, %zu are the most", bytes, kNpyHeaderBytesMax);
  }
  std::string dictionary(bytes, '\0');
  if (auto status = read(dictionary.data(), bytes); !status) return base::pass(std::move(status));
  return parse_npy_header(dictionary);
}

}  // namespace

base::Result<NpyShape> parse_npy_header(std::string_view dictionary) {
  Literal literal(dictionary);
  std::optional<NpyShape> shape;
  std::string_view descr;
  std::string_view order;
  if (!literal.take('{')) return no_dictionary(dictionary);
  while (!literal.take('}')) {
    std::string_view key;
    if (!literal.take_string(key) || !literal.take(':')) return no_dictionary(dictionary);
    if (key == "descr" && descr.empty()) {
      // A record type is a list; it cannot be rows of floats.
      if (literal.take('[')) return base::fail(WARM_E_UNSUPPORTED, "its elements are records; 32-bit floats ('<f4') are wanted");
      if (!literal.take_string(descr)) return no_dictionary(dictionary);
    } else if (key == "fortran_order" && order.empty()) {
      if (!literal.take_word(order)) return no_dictionary(dictionary);
    } else if (key == "shape" && !shape) {
      std::vector<uint64_t> lengths;
      if (!literal.take('(')) return no_dictionary(dictionary);
      while (!literal.take(')')) {
        if (lengths.size() == kAxesMax || !literal.take_number(lengths.emplace_back())) return no_dictionary(dictionary);
        if (literal.take(',')) continue;
        if (!literal.take(')')) return no_dictionary(dictionary);
        break;
      }
      if (lengths.empty() || lengths.size() > 2) {
        return base::fail(WARM_E_UNSUPPORTED, "its array has %zu axes; one (a vector) or two (a row a record) are possible",
                          lengths.size());
      }
      shape = lengths.size() == 1 ? NpyShape{std::nullopt, lengths[0]} : NpyShape{lengths[0], lengths[1]};
    } else {
      return no_dictionary(dictionary);
    }
    if (!literal.take(',')) {
      if (!literal.take('}')) return no_dictionary(dictionary);
      break;
    }
  }
  if (!literal.at_end() || descr.empty() || order.empty() || !shape) return no_dictionary(dictionary);
  if (descr != "<f4") {
    return base::fail(WARM_E_UNSUPPORTED, "its elements are '%.*s'; '<f4' is wanted: array.astype('<f4')",
                      static_cast<int>(descr.size()), descr.data());
  }
  if (order != "False") {
    return base::fail(WARM_E_UNSUPPORTED, "its array is in Fortran's order; C order is wanted: numpy.ascontiguousarray(array)");
  }
  return *shape;
}

base::Result<std::vector<float>> npy_vector(std::string_view file) {
  const auto read = [&](char* ret_bytes, size_t n) -> base::Status {
    if (file.size() < n) return base::fail(WARM_E_CORRUPT, "it ends inside its header");
    std::memcpy(ret_bytes, file.data(), n);
    file.remove_prefix(n);
    return {};
  };
  auto shape = read_head(read);
  if (!shape) return base::pass(std::move(shape));
  if (shape->rows.value_or(1) != 1) {
    return base::fail(WARM_E_INVALID, "it holds %llu rows; one vector is wanted", static_cast<unsigned long long>(*shape->rows));
  }
  if (file.size() % sizeof(float) != 0 || file.size() / sizeof(float) != shape->columns) {
    return base::fail(WARM_E_CORRUPT, "its header says %llu floats, but %zu bytes follow",
                      static_cast<unsigned long long>(shape->columns), file.size());
  }
  std::vector<float> values(file.size() / sizeof(float));
  std::memcpy(values.data(), file.data(), file.size());
  return values;
}

base::Result<NpyReader> NpyReader::open(const std::string& path) {
  NpyReader made;
  made.path_ = path;
  made.file_.reset(path == "-" ? ::fdopen(::dup(STDIN_FILENO), "r") : std::fopen(path.c_str(), "re"));
  if (!made.file_) return base::fail_errno(errno, "%s", path.c_str());
  const auto read = [&](char* ret_bytes, size_t n) -> base::Status {
    if (std::fread(ret_bytes, 1, n, made.file_.get()) == n) return {};
    if (std::ferror(made.file_.get()) != 0) return base::fail_errno(errno, "it cannot be read");
    return base::fail(WARM_E_CORRUPT, "it ends inside its header");
  };
  auto shape = read_head(read);
  if (!shape) return base::fail(shape.error().code, "%s: %s", path.c_str(), shape.error().text.c_str());
  if (!shape->rows) {
    return base::fail(WARM_E_INVALID, "%s: it holds a single vector; an array of rows is wanted: array.reshape(1, -1)",
                      path.c_str());
  }
  made.rows_ = *shape->rows;
  made.columns_ = shape->columns;
  return made;
}

base::Status NpyReader::read(std::span<float> ret_row) {
  if (std::fread(ret_row.data(), sizeof(float), ret_row.size(), file_.get()) != ret_row.size()) {
    if (std::ferror(file_.get()) != 0) return base::fail_errno(errno, "%s", path_.c_str());
    return base::fail(WARM_E_CORRUPT, "%s: it ends in row %llu, but its header says %llu rows", path_.c_str(),
                      static_cast<unsigned long long>(rows_read_), static_cast<unsigned long long>(rows_));
  }
  ++rows_read_;
  return {};
}

base::Status NpyReader::skip() {
  skipped_.resize(columns_);
  return read(skipped_);
}

base::Result<NpyWriter> NpyWriter::create(const std::string& path, uint64_t columns) {
  NpyWriter made;
  made.path_ = path;
  made.columns_ = columns;
  auto file = base::open_at(AT_FDCWD, path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (!file) return base::pass(std::move(file));
  made.file_ = std::move(*file);
  // The number of rows is known at the end only.
  if (::lseek(made.file_.get(), 0, SEEK_CUR) < 0) {
    return base::fail_errno(errno, "%s: embeddings go to a file, not to a pipe", path.c_str());
  }
  if (auto status = made.write_header(); !status) return base::pass(std::move(status));
  return made;
}

base::Status NpyWriter::write_header() {
  char dictionary[128];
  const int text =
      std::snprintf(dictionary, sizeof dictionary, "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %llu), }",
                    static_cast<unsigned long long>(rows_), static_cast<unsigned long long>(columns_));
  // As long with any number of rows: magic, version, length, dictionary, blanks, line end.
  constexpr size_t kHeaderBytes = 2 * kAlignBytes;
  static_assert(kHeaderBytes - kVersionedBytes - sizeof(uint16_t) > 51 + 20 + 20);
  std::string header(kNpyMagic);
  header += {'\x01', '\x00'};
  const auto length = static_cast<uint16_t>(kHeaderBytes - kVersionedBytes - sizeof(uint16_t));
  header.append(reinterpret_cast<const char*>(&length), sizeof length);
  header.append(dictionary, static_cast<size_t>(text));
  header.resize(kHeaderBytes - 1, ' ');
  header += '\n';
  if (rows_ == 0) {
    rows_bytes_ = std::move(header);
    return {};
  }
  if (::pwrite(file_.get(), header.data(), header.size(), 0) == static_cast<ssize_t>(header.size())) return {};
  return base::fail_errno(errno, "%s", path_.c_str());
}

base::Status NpyWriter::flush() {
  for (std::string_view rest = rows_bytes_; !rest.empty();) {
    const ssize_t wrote = ::write(file_.get(), rest.data(), rest.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return base::fail_errno(errno, "%s", path_.c_str());
    rest.remove_prefix(static_cast<size_t>(wrote));
  }
  rows_bytes_.clear();
  return {};
}

base::Status NpyWriter::add(std::span<const float> row) {
  rows_bytes_.append(reinterpret_cast<const char*>(row.data()), row.size_bytes());
  ++rows_;
  return rows_bytes_.size() < kPieceBytes ? base::Status() : flush();
}

base::Status NpyWriter::finish() {
  if (auto status = flush(); !status) return status;
  return rows_ == 0 ? base::Status() : write_header();
}

}  // namespace warmtier::tools
