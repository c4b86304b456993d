// A record as one JSON object on one line. `get --json`, `list`, `recall` and `export` write it here and nowhere else, so that a
// record has one form; ctl_json.hpp reads it back.
#pragma once

#include <cstdint>
#include <string_view>

#include "tools/ctl_output.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::tools {

// "text" between its quotes, with what JSON wants escaped; the bytes are valid UTF-8.
void add_json_string(Output& output, std::string_view text);
// "id": a string where it is one, else "id_base64".
void add_json_id(Output& output, std::string_view id);

enum class WithEmbedding : bool { no, yes };
// {"id":..,"sequence":..,"created_ns":..,..,"embedding":[..],"content":".." or null or "content_base64":".."} and a line end.
// `before` is put in front of the id: "\"score\":0.5,".
void add_json_record(Output& output, const warm_view& view, WithEmbedding with_embedding, std::string_view before = {});
// The same without embedding and content, which are not looked at; "content_bytes" instead, null when there is no content.
void add_json_item(Output& output, const warm_item& item);

}  // namespace warmtier::tools
