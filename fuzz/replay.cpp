// Gives every file of the folders named to the target, once: a corpus as a test, with any compiler.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n);

int main(int argc, char** argv) {
  unsigned files = 0;
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      std::fprintf(stderr, "%s is not a folder\n", argv[i]);
      return 1;
    }
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream file(entry.path(), std::ios::binary);
      const std::vector<char> text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
      if (!file) {
        std::fprintf(stderr, "%s cannot be read\n", entry.path().c_str());
        return 1;
      }
      // An allocation of just this length: a checker sees a read beyond it. Said before, for the case that it does not return.
      const std::vector<uint8_t> exact(text.begin(), text.end());
      std::fprintf(stderr, "%s: %zu bytes\n", entry.path().c_str(), exact.size());
      LLVMFuzzerTestOneInput(exact.data(), exact.size());
      ++files;
    }
  }
  if (files == 0) std::fprintf(stderr, "no corpus\n");
  return files == 0 ? 1 : 0;
}
