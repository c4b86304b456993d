// warmtier-layout: prints the byte tables of the layout, writes them into a document, or says where a document differs.
#include <array>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "layout/describe.hpp"

namespace {

using warmtier::layout::Field;
using warmtier::layout::Struct;

constexpr std::string_view kOpen = "<!-- layout:";
constexpr std::string_view kClose = " -->";
constexpr std::string_view kEnd = "<!-- layout:end -->";

std::string table(const Struct& of) {
  std::string text = "| offset | bytes | field | meaning |\n|---:|---:|---|---|\n";
  std::array<char, 512> line{};
  for (const Field& field : of.fields) {
    std::snprintf(line.data(), line.size(), "| %" PRIu32 " | %" PRIu32 " | `%s` | %s |\n", field.offset, field.bytes, field.name,
                  field.meaning);
    text += line.data();
  }
  std::snprintf(line.data(), line.size(), "\n`%s`: %" PRIu32 " bytes, region %s.\n", of.name, of.bytes,
                warmtier::layout::region_name(of.region));
  return text + line.data();
}

std::string prints() {
  std::string text = "| region | fingerprint |\n|---|---|\n";
  const auto all = warmtier::layout::fingerprints();
  std::array<char, 128> line{};
  for (uint32_t r = 0; r < all.size(); ++r) {
    std::snprintf(line.data(), line.size(), "| %s | `%016" PRIx64 "` |\n",
                  warmtier::layout::region_name(static_cast<warmtier::layout::Region>(r)), all[r]);
    text += line.data();
  }
  return text;
}

// nullptr: no struct of this name.
const Struct* find(std::string_view name) {
  for (const Struct& each : warmtier::layout::all_structs()) {
    if (name == each.name) return &each;
  }
  return nullptr;
}

int complain(const char* path, std::string_view what) {
  std::fprintf(stderr, "warmtier-layout: %s: %.*s\n", path, static_cast<int>(what.size()), what.data());
  return 1;
}

// The document with every block between markers made anew. 0 on success; each struct stands in it exactly once.
int render(const char* path, const std::string& document, std::string* ret_text) {
  std::string text;
  std::string seen = "\n";
  size_t at = 0;
  for (;;) {
    const size_t open = document.find(kOpen, at);
    if (open == std::string::npos) break;
    const size_t name_at = open + kOpen.size();
    const size_t close = document.find(kClose, name_at);
    if (close == std::string::npos) return complain(path, "a marker is not closed");
    const std::string name = document.substr(name_at, close - name_at);
    const size_t body = close + kClose.size();
    const size_t end = document.find(kEnd, body);
    if (name == "end" || end == std::string::npos || document.substr(body, end - body).find(kOpen) != std::string::npos) {
      return complain(path, "marker " + name + " has no partner");
    }
    const Struct* of = find(name);
    if (of == nullptr && name != "fingerprints") return complain(path, "there is no struct " + name);
    if (seen.find("\n" + name + "\n") != std::string::npos) return complain(path, name + " stands there twice");
    seen += name + "\n";
    text += document.substr(at, body - at) + "\n" + (of != nullptr ? table(*of) : prints());
    at = end;
    text += kEnd;
    at += kEnd.size();
  }
  text += document.substr(at);
  for (const Struct& each : warmtier::layout::all_structs()) {
    if (seen.find("\n" + std::string(each.name) + "\n") == std::string::npos)
      return complain(path, std::string(each.name) + " is missing");
  }
  *ret_text = text;
  return 0;
}

int read(const char* path, std::string* ret_text) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream all;
  if (!file || !(all << file.rdbuf())) return complain(path, "cannot be read");
  *ret_text = all.str();
  return 0;
}

int check(const char* path) {
  std::string document;
  std::string wanted;
  if (const int failed = read(path, &document) != 0 ? 1 : render(path, document, &wanted); failed != 0) return failed;
  if (document == wanted) return 0;
  // The first line that differs tells a person where to look.
  std::istringstream a(document);
  std::istringstream b(wanted);
  std::string have;
  std::string want;
  for (unsigned line = 1;; ++line) {
    const bool more_have = static_cast<bool>(std::getline(a, have));
    const bool more_want = static_cast<bool>(std::getline(b, want));
    if (!more_have && !more_want) break;
    if (more_have == more_want && have == want) continue;
    std::fprintf(stderr, "warmtier-layout: %s:%u differs from the code\n  there: %s\n  code:  %s\n", path, line,
                 more_have ? have.c_str() : "(end)", more_want ? want.c_str() : "(end)");
    break;
  }
  std::fprintf(stderr, "warmtier-layout: --update %s writes it anew\n", path);
  return 1;
}

int update(const char* path) {
  std::string document;
  std::string wanted;
  if (const int failed = read(path, &document) != 0 ? 1 : render(path, document, &wanted); failed != 0) return failed;
  if (document == wanted) return 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  return file << wanted << std::flush ? 0 : complain(path, "cannot be written");
}

int print() {
  for (const Struct& each : warmtier::layout::all_structs()) std::printf("### %s\n\n%s\n", each.name, table(each).c_str());
  std::printf("### Fingerprints\n\n%s", prints().c_str());
  return std::fflush(stdout) == 0 ? 0 : 1;
}

constexpr char kHelp[] =
    "usage: warmtier-layout                 prints every byte table of the layout\n"
    "       warmtier-layout --check FILE    exit code 1 when the tables in FILE are not those of the code\n"
    "       warmtier-layout --update FILE   writes them into FILE, between <!-- layout:NAME --> and <!-- layout:end -->\n";

}  // namespace

int main(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (argc == 1) return print();
  if (argc == 3 && command == "--check") return check(argv[2]);
  if (argc == 3 && command == "--update") return update(argv[2]);
  const bool help = argc == 2 && command == "--help";
  std::fputs(kHelp, help ? stdout : stderr);
  return help ? 0 : 2;
}
