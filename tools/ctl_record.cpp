#include "tools/ctl_record.hpp"

#include <charconv>

#include "tools/ctl_text.hpp"

namespace warmtier::tools {
namespace {

constexpr size_t kPieceBytes = size_t{3} << 16;  // of content at a time; whole groups of base64

void add_number(Output& output, std::string_view name, uint64_t value) {
  output.text().append(name).append(std::to_string(value));
}
void add_float(Output& output, std::string_view name, float value) {
  output.text().append(name);
  append_number(output.text(), value);
}

// Of a view or an item.
template <typename Record>
void add_id_and_scalars(Output& output, const Record& record) {
  add_json_id(output, {static_cast<const char*>(record.id), record.id_bytes});
  add_number(output, ",\"sequence\":", record.sequence);
  add_number(output, ",\"created_ns\":", record.created_ns);
  add_number(output, ",\"last_access_ns\":", record.last_access_ns);
  add_float(output, ",\"confidence\":", record.confidence);
  add_float(output, ",\"activation\":", record.activation);
  add_float(output, ",\"decay_rate\":", record.decay_rate);
  add_number(output, ",\"recall_count\":", record.recall_count);
}

}  // namespace

void add_json_string(Output& output, std::string_view text) {
  std::string& out = output.text();
  out += '"';
  while (!text.empty()) {
    size_t plain = 0;
    while (plain < text.size() && plain < kPieceBytes && static_cast<uint8_t>(text[plain]) >= 0x20 && text[plain] != '"' &&
           text[plain] != '\\' && text[plain] != '\x7F') {
      ++plain;
    }
    out.append(text.substr(0, plain));
    text.remove_prefix(plain);
    output.settle();
    if (plain == kPieceBytes || text.empty()) continue;
    const char c = text.front();
    text.remove_prefix(1);
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default: out.append("\\u00").append(hex({&c, 1}));
    }
  }
  out += '"';
}

void add_json_id(Output& output, std::string_view id) {
  if (valid_utf8(id)) {
    output.text() += "\"id\":";
    add_json_string(output, id);
  } else {
    output.text().append("\"id_base64\":\"").append(base64(id)).append("\"");
  }
}

void add_json_item(Output& output, const warm_item& item) {
  output.text() += '{';
  add_id_and_scalars(output, item);
  if (item.content_state == WARM_CONTENT_ABSENT) {
    output.text() += ",\"content_bytes\":null}\n";
  } else {
    add_number(output, ",\"content_bytes\":", item.content_bytes);
    output.text() += "}\n";
  }
  output.settle();
}

void add_json_record(Output& output, const warm_view& view, WithEmbedding with_embedding, std::string_view before) {
  std::string& out = output.text();
  out.append("{").append(before);
  add_id_and_scalars(output, view);
  if (with_embedding == WithEmbedding::yes) {
    out += ",\"embedding\":[";
    for (uint32_t i = 0; i < view.dimensions; ++i) {
      if (i > 0) out += ',';
      append_number(out, view.embedding[i]);
    }
    out += ']';
  }
  std::string_view content(static_cast<const char*>(view.content), view.content_bytes);
  if (view.content_state == WARM_CONTENT_ABSENT) {
    out += ",\"content\":null";
  } else if (valid_utf8(content)) {
    out += ",\"content\":";
    add_json_string(output, content);
  } else {
    out += ",\"content_base64\":\"";
    while (!content.empty()) {
      const std::string_view piece = content.substr(0, kPieceBytes);
      out += base64(piece);
      output.settle();
      content.remove_prefix(piece.size());
    }
    out += '"';
  }
  out += "}\n";
  output.settle();
}

}  // namespace warmtier::tools
