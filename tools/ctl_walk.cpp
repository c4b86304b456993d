#include "tools/ctl_walk.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "base/fd.hpp"
#include "tools/ctl_npy.hpp"
#include "tools/ctl_output.hpp"
#include "tools/ctl_progress.hpp"
#include "tools/ctl_record.hpp"
#include "tools/ctl_text.hpp"

namespace warmtier::tools {
namespace {

constexpr size_t kAtOnce = 256;  // records asked for in one call

// A cursor with an owner, and the client below it.
class Walk {
 public:
  Walk() = default;
  Walk(const Walk&) = delete;
  Walk& operator=(const Walk&) = delete;
  ~Walk() { warm_cursor_close(cursor_); }
  int open(const CtlOptions& options, const warm_filter& filter) {
    if (const int code = client_.open(options); code != WARM_OK) return code;
    return warm_cursor_open(client_.handle(), &filter, &cursor_);
  }
  [[nodiscard]] warm_client* client() const { return client_.handle(); }
  [[nodiscard]] warm_cursor* cursor() const { return cursor_; }

 private:
  Client client_;
  warm_cursor* cursor_ = nullptr;
};

std::string_view id_of(const warm_item& item) { return {static_cast<const char*>(item.id), item.id_bytes}; }

void add_item_line(std::string& text, const warm_item& item) {
  const std::string content = item.content_state == WARM_CONTENT_ABSENT ? "-" : with_thousands(item.content_bytes);
  text += time_text(item.created_ns) + "  ";
  text.append(content.size() < 13 ? 13 - content.size() : 0, ' ');
  text += content + "  " + one_line(id_of(item)) + "\n";
}

class Exporter {
 public:
  Exporter(const CtlOptions& options, const CtlExport& how) : options_(options), how_(how) {}
  Exit run();

 private:
  base::Status open();
  base::Status take(const warm_view& view);

  const CtlOptions& options_;
  const CtlExport& how_;
  Walk walk_;
  base::Fd file_;
  std::optional<Output> output_;
  std::optional<NpyWriter> rows_;
  uint64_t exported_ = 0;
  uint64_t damaged_ = 0;
};

base::Status Exporter::open() {
  int fd = STDOUT_FILENO;
  if (how_.path != "-") {
    auto file = base::open_at(AT_FDCWD, how_.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (!file) return base::pass(std::move(file));
    file_ = std::move(*file);
    fd = file_.get();
  }
  output_.emplace(fd, how_.path == "-" ? "standard output" : how_.path);
  if (how_.embeddings_path.empty()) return {};
  warm_info info = WARM_INFO_INIT;
  if (const int code = warm_info_get(walk_.client(), &info); code != WARM_OK) return base::fail(code, "%s", warm_last_error());
  auto rows = NpyWriter::create(how_.embeddings_path, info.dimensions);
  if (!rows) return base::pass(std::move(rows));
  rows_ = std::move(*rows);
  return {};
}

base::Status Exporter::take(const warm_view& view) {
  add_json_record(*output_, view, rows_ ? WithEmbedding::no : WithEmbedding::yes);
  ++exported_;
  return rows_ ? rows_->add({view.embedding, view.dimensions}) : base::Status();
}

Exit Exporter::run() {
  warm_filter filter;
  if (const auto status = filter_of(how_.filter, filter); !status) return complain_of_usage("export", status.error());
  if (const int code = walk_.open(options_, filter); code != WARM_OK) return complain_about("export", code);
  uint64_t records = 0;
  // For the bar alone; where a damaged record cannot be counted there is none.
  const int counted = warm_count(walk_.client(), &filter, &records);
  if (counted != WARM_OK && counted != WARM_E_CORRUPT) return complain_about("export", counted);
  base::Status status = open();
  {
    Progress progress("records", records, options_.quiet);
    std::array<warm_view, kAtOnce> views;
    while (status) {
      views.fill(warm_view WARM_VIEW_INIT);
      size_t count = 0;
      const int code = warm_cursor_next(walk_.cursor(), how_.verify ? WARM_VERIFY : 0, views.data(), views.size(), &count);
      if (code == WARM_E_CORRUPT) {
        // The cursor stands behind it: everything else is still worth having.
        Progress::clear();
        complain("export: %s (%s)", warm_last_error(), warm_error_name(code));
        ++damaged_;
        continue;
      }
      if (code != WARM_OK) {
        Progress::clear();
        return complain_about("export", code);
      }
      if (count == 0) break;
      for (warm_view& view : std::span(views.data(), count)) {
        if (status) status = take(view);
        warm_release(walk_.client(), &view);
      }
      if (status && output_->failed()) status = output_->finish();
      progress.at(exported_);
    }
    if (status) status = output_->finish();
    if (status && rows_) status = rows_->finish();
  }
  if (!status) return complain("export: %s", status.error().text.c_str());
  // What was exported is on standard output: words for a person go elsewhere.
  if (how_.path != "-" && !options_.quiet) {
    if (const Exit said = say_line(with_thousands(exported_) + (exported_ == 1 ? " record" : " records") + " exported");
        said != Exit::ok)
      return said;
  }
  return damaged_ > 0 ? Exit::partly : Exit::ok;
}

}  // namespace

Exit ctl_list(const CtlOptions& options, const CtlList& list) {
  warm_filter filter;
  if (const auto status = filter_of(list.filter, filter); !status) return complain_of_usage("list", status.error());
  Walk walk;
  if (const int code = walk.open(options, filter); code != WARM_OK) return complain_about("list", code);
  Output output(STDOUT_FILENO, "standard output");
  Exit exit = Exit::ok;
  std::array<warm_item, kAtOnce> items{};
  for (uint64_t left = list.limit; left > 0 && !output.failed();) {
    size_t count = 0;
    const auto wanted = static_cast<size_t>(std::min<uint64_t>(left, items.size()));
    const int code = warm_cursor_next_items(walk.cursor(), sizeof(warm_item), items.data(), wanted, &count);
    if (code == WARM_E_CORRUPT) {
      complain("list: %s (%s)", warm_last_error(), warm_error_name(code));
      exit = Exit::partly;
      continue;
    }
    if (code != WARM_OK) return complain_about("list", code);
    if (count == 0) break;
    left -= count;
    for (const warm_item& item : std::span(items.data(), count)) {
      if (options.json) {
        add_json_item(output, item);
      } else {
        add_item_line(output.text(), item);
        output.settle();
      }
    }
  }
  if (const base::Status written = output.finish(); !written) return complain("list: %s", written.error().text.c_str());
  return exit;
}

Exit ctl_count(const CtlOptions& options, const CtlCount& count) {
  warm_filter filter;
  if (const auto status = filter_of(count.filter, filter); !status) return complain_of_usage("count", status.error());
  Client client;
  if (const int code = client.open(options); code != WARM_OK) return complain_about("count", code);
  uint64_t records = 0;
  if (const int code = warm_count(client.handle(), &filter, &records); code != WARM_OK) return complain_about("count", code);
  return say_line(options.json ? "{\"records\":" + std::to_string(records) + "}" : std::to_string(records));
}

Exit ctl_export(const CtlOptions& options, const CtlExport& how) { return Exporter(options, how).run(); }

}  // namespace warmtier::tools
