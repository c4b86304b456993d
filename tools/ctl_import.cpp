#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.hpp"
#include "tools/ctl_json.hpp"
#include "tools/ctl_npy.hpp"
#include "tools/ctl_progress.hpp"
#include "tools/ctl_text.hpp"
#include "tools/ctl_transfer.hpp"

namespace warmtier::tools {
namespace {

// Lines of a file or of standard input, of any length that fits into memory.
class Lines {
 public:
  static base::Result<Lines> open(const std::string& path) {
    Lines made;
    made.file_.reset(path == "-" ? stdin : std::fopen(path.c_str(), "re"));
    if (!made.file_) return base::fail_errno(errno, "%s", path.c_str());
    made.name_ = path == "-" ? "standard input" : path;
    struct stat status{};
    if (::fstat(::fileno(made.file_.get()), &status) == 0 && S_ISREG(status.st_mode)) {
      made.bytes_all_ = static_cast<uint64_t>(status.st_size);
    }
    return made;
  }
  // False: there is no other line, or `status` says why.
  bool next(std::string_view& ret_line, base::Status& ret_status) {
    char* buffer = buffer_.release();
    errno = 0;
    const ssize_t got = ::getline(&buffer, &capacity_, file_.get());
    buffer_.reset(buffer);
    if (got < 0) {
      if (std::feof(file_.get()) == 0) ret_status = base::fail_errno(errno, "%s", name_.c_str());
      return false;
    }
    ++number_;
    bytes_read_ += static_cast<uint64_t>(got);
    ret_line = {buffer, static_cast<size_t>(got)};
    return true;
  }
  [[nodiscard]] uint64_t number() const { return number_; }
  [[nodiscard]] uint64_t bytes_read() const { return bytes_read_; }
  [[nodiscard]] uint64_t bytes_all() const { return bytes_all_; }  // 0: unknown
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  struct Free {
    void operator()(char* bytes) const { std::free(bytes); }
  };
  std::unique_ptr<std::FILE, Close> file_;
  std::unique_ptr<char, Free> buffer_;
  std::string name_;
  size_t capacity_ = 0;
  uint64_t number_ = 0;
  uint64_t bytes_read_ = 0;
  uint64_t bytes_all_ = 0;
};

constexpr size_t kAtOnce = 256;                    // records handed in by one call
constexpr size_t kAtOnceBytes = size_t{16} << 20;  // or so much content

struct Pending {
  LineRecord record;
  uint64_t line = 0;
};

class Importer {
 public:
  Importer(const CtlOptions& options, const CtlImport& import) : options_(options), import_(import) {}
  Exit run();

 private:
  // Reads one line's record and row; the reason when it is none.
  base::Status take(std::string_view line);
  base::Status check(const LineRecord& record) const;
  // Hands in what was read so far, in its order: true to go on.
  bool put_all();
  // A line that is no record: reported; true to go on.
  bool refuse(uint64_t line, const std::string& reason);
  Exit answer(Exit so_far, uint64_t began_ns) const;

  const CtlOptions& options_;
  const CtlImport& import_;
  Client client_;
  uint32_t dimensions_ = 0;
  uint64_t content_bytes_max_ = 0;
  std::optional<Lines> lines_;
  std::optional<NpyReader> rows_;
  // Read and not handed in yet; the first `pending_` are in use, the others keep their room.
  std::vector<Pending> records_;
  size_t pending_ = 0;
  size_t pending_bytes_ = 0;
  std::vector<warm_memory> memories_;
  std::vector<warm_result> results_;
  uint64_t imported_ = 0;
  uint64_t kept_ = 0;
  uint64_t refused_ = 0;
  int stopped_by_ = WARM_OK;
  uint64_t stopped_at_ = 0;  // line
  std::string reason_;
};

bool Importer::refuse(uint64_t line, const std::string& reason) {
  Progress::clear();
  complain("%s:%llu: %s", lines_->name().c_str(), static_cast<unsigned long long>(line), reason.c_str());
  ++refused_;
  return !import_.strict;
}

base::Status Importer::take(std::string_view line) {
  LineRecord& record = records_[pending_].record;
  const auto unknown = import_.ignore_unknown ? UnknownFields::ignore : UnknownFields::refuse;
  const base::Status read = record_from_json(line, unknown, record);
  // The row goes with its line, also with a bad one.
  const bool two_embeddings = rows_ && read && record.has_embedding;
  if (rows_) {
    if (rows_->rows_read() == rows_->rows()) {
      return base::fail(WARM_E_INVALID, "%s has no row for it: there are %llu", import_.embeddings_path.c_str(),
                        static_cast<unsigned long long>(rows_->rows()));
    }
    record.embedding.resize(dimensions_);
    if (auto status = rows_->read(record.embedding); !status) return status;
  }
  if (!read) return read;
  if (two_embeddings) return base::fail(WARM_E_INVALID, "it holds an embedding, and %s another", import_.embeddings_path.c_str());
  return check(record);
}

// What the daemon would refuse, said with the value.
base::Status Importer::check(const LineRecord& record) const {
  if (record.id.empty() || record.id.size() > WARM_ID_BYTES_MAX) {
    return base::fail(WARM_E_INVALID, "its id has %zu bytes; 1 to %u are possible", record.id.size(), WARM_ID_BYTES_MAX);
  }
  if (record.content && record.content->size() > content_bytes_max_) {
    return base::fail(WARM_E_INVALID, "its content has %zu bytes; the daemon takes %llu at most", record.content->size(),
                      static_cast<unsigned long long>(content_bytes_max_));
  }
  if (!rows_ && !record.has_embedding) return base::fail(WARM_E_INVALID, "it has no embedding");
  if (record.embedding.size() != dimensions_) {
    return base::fail(WARM_E_INVALID, "its embedding has %zu numbers; the store's dimensions are %u", record.embedding.size(),
                      dimensions_);
  }
  for (size_t i = 0; i < record.embedding.size(); ++i) {
    if (!std::isfinite(record.embedding[i])) {
      return base::fail(WARM_E_INVALID, "number %zu of its embedding is %f; NaN and infinity cannot be stored", i,
                        static_cast<double>(record.embedding[i]));
    }
  }
  return {};
}

bool Importer::put_all() {
  memories_.clear();
  for (const Pending& pending : std::span(records_.data(), pending_)) {
    const LineRecord& record = pending.record;
    warm_memory& memory = memories_.emplace_back(warm_memory WARM_MEMORY_INIT);
    memory.given = (record.content ? WARM_GIVEN_CONTENT : 0) | (record.created_ns ? WARM_GIVEN_CREATED : 0) |
                   (record.last_access_ns ? WARM_GIVEN_LAST_ACCESS : 0);
    memory.id = record.id.data();
    memory.id_bytes = record.id.size();
    memory.embedding = record.embedding.data();
    memory.dimensions = dimensions_;
    memory.condition = import_.if_absent ? WARM_IF_ABSENT : WARM_IF_ANY;
    memory.content = record.content ? record.content->data() : nullptr;
    memory.content_bytes = record.content ? record.content->size() : 0;
    memory.created_ns = record.created_ns.value_or(0);
    memory.last_access_ns = record.last_access_ns.value_or(0);
    memory.confidence = record.confidence;
    memory.activation = record.activation;
    memory.decay_rate = record.decay_rate;
    memory.recall_count = record.recall_count;
  }
  if (memories_.empty()) return true;
  results_.resize(pending_);
  const int code = warm_put_many(client_.handle(), memories_.data(), pending_, results_.data());
  if (code != WARM_OK) {
    stopped_by_ = code;
    stopped_at_ = records_[0].line;
    reason_ = warm_last_error();
    return false;
  }
  bool going = true;
  for (size_t i = 0; i < pending_; ++i) {
    const int result = results_[i].code;
    if (result == WARM_OK) {
      ++imported_;
    } else if (result == WARM_E_EXISTS) {
      ++kept_;
    } else if (result == WARM_E_INVALID || result == WARM_E_LIMIT) {
      // The record's own fault; the next one may be better.
      going = refuse(records_[i].line, std::string(warm_strerror(result)) + " (" + warm_error_name(result) + ")") && going;
    } else if (stopped_by_ == WARM_OK) {
      stopped_by_ = result;
      stopped_at_ = records_[i].line;
      reason_ = warm_strerror(result);
    }
  }
  pending_ = 0;
  pending_bytes_ = 0;
  return going && stopped_by_ == WARM_OK;
}

Exit Importer::answer(Exit so_far, uint64_t began_ns) const {
  const double seconds = static_cast<double>(base::monotonic_ns() - began_ns) / 1e9;
  Exit said = Exit::ok;
  if (options_.json) {
    said = say_line(numbers_json({{"imported", imported_},
                                  {"kept", kept_},
                                  {"refused", refused_},
                                  {"milliseconds", static_cast<uint64_t>(seconds * 1e3)}}));
  } else if (!options_.quiet) {
    char took[32];
    std::snprintf(took, sizeof took, " in %.2f s, ", seconds);
    std::string text = with_thousands(imported_) + (imported_ == 1 ? " record" : " records") + " imported" + took +
                       with_thousands(static_cast<uint64_t>(static_cast<double>(imported_) / seconds)) + " a second";
    if (kept_ > 0) text += "; " + with_thousands(kept_) + " were there and stay";
    if (refused_ > 0) text += "; " + with_thousands(refused_) + (refused_ == 1 ? " line refused" : " lines refused");
    said = say_line(text);
  }
  return so_far != Exit::ok ? so_far : said;
}

Exit Importer::run() {
  base::Result<Lines> lines = Lines::open(import_.path);
  if (!lines) return complain("import: %s", lines.error().text.c_str());
  lines_ = std::move(*lines);
  if (!import_.embeddings_path.empty()) {
    base::Result<NpyReader> rows = NpyReader::open(import_.embeddings_path);
    if (!rows) return complain("import: %s", rows.error().text.c_str());
    rows_ = std::move(*rows);
  }
  if (const int code = client_.open(options_); code != WARM_OK) return complain_about("import", code);
  warm_info info = WARM_INFO_INIT;
  if (const int code = warm_info_get(client_.handle(), &info); code != WARM_OK) return complain_about("import", code);
  dimensions_ = info.dimensions;
  content_bytes_max_ = info.content_bytes_max;
  if (rows_ && rows_->columns() != dimensions_) {
    return complain("import: the rows of %s have %llu numbers; the store's dimensions are %u", import_.embeddings_path.c_str(),
                    static_cast<unsigned long long>(rows_->columns()), dimensions_);
  }
  records_.resize(import_.strict ? 1 : kAtOnce);  // nothing behind a bad line is stored then

  const uint64_t began_ns = base::monotonic_ns();
  base::Status status;
  bool going = true;
  {
    Progress progress(rows_ ? "records" : "bytes", rows_ ? rows_->rows() : lines_->bytes_all(), options_.quiet);
    std::string_view line;
    while (going && lines_->next(line, status)) {
      if (line.find_first_not_of(" \t\r\n") == std::string_view::npos) continue;
      if (base::Status taken = take(line); taken) {
        records_[pending_].line = lines_->number();
        pending_bytes_ += records_[pending_].record.content ? records_[pending_].record.content->size() : 0;
        if (++pending_ == records_.size() || pending_bytes_ >= kAtOnceBytes) going = put_all();
      } else if (taken.error().code == WARM_E_INVALID) {
        going = refuse(lines_->number(), taken.error().text);
      } else {
        status = std::move(taken);  // the rows end or cannot be read: no line after this has one
        going = false;
      }
      progress.at(rows_ ? rows_->rows_read() : lines_->bytes_read());
    }
    // What stands before a bad line is stored, however it ends.
    if (stopped_by_ == WARM_OK) going = put_all() && going;
  }
  if (stopped_by_ != WARM_OK) {
    complain("import: %s (%s)", reason_.c_str(), warm_error_name(stopped_by_));
    complain("import: stopped at %s:%llu; importing the same again does no harm", lines_->name().c_str(),
             static_cast<unsigned long long>(stopped_at_));
    return answer(exit_of(stopped_by_), began_ns);
  }
  if (!status) return answer(complain("import: %s", status.error().text.c_str()), began_ns);
  if (going && rows_ && rows_->rows_read() != rows_->rows()) {
    return answer(complain("import: %s has %llu rows, but %s only %llu lines", import_.embeddings_path.c_str(),
                           static_cast<unsigned long long>(rows_->rows()), lines_->name().c_str(),
                           static_cast<unsigned long long>(rows_->rows_read())),
                  began_ns);
  }
  return answer(!going ? Exit::failed : refused_ > 0 ? Exit::partly : Exit::ok, began_ns);
}

}  // namespace

Exit ctl_import(const CtlOptions& options, const CtlImport& import) { return Importer(options, import).run(); }

}  // namespace warmtier::tools
