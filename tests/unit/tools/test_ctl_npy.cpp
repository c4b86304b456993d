#include "tools/ctl_npy.hpp"

#include <criterion/criterion.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

using namespace warmtier::tools;

namespace {

// A file as NumPy writes it.
std::string npy(uint8_t major, const std::string& dictionary, const std::vector<float>& values) {
  std::string file(kNpyMagic);
  file += static_cast<char>(major);
  file += '\0';
  const size_t length_bytes = major == 1 ? 2 : 4;
  std::string header = dictionary;
  while ((kNpyMagic.size() + 2 + length_bytes + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  for (size_t i = 0; i < length_bytes; ++i) file += static_cast<char>(header.size() >> (8 * i) & 0xFFU);
  file += header;
  file.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  return file;
}

constexpr const char* kTwoByThree = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
const std::vector<float> kSix = {0.5f, -0.0f, 1e-45f, 3.4e38f, 1, 2};

// A file of its own in a directory that goes with the test.
class File {
 public:
  File() {
    char name[] = "/tmp/warmtier-npy.XXXXXX";
    const int fd = ::mkstemp(name);
    cr_assert_geq(fd, 0);
    ::close(fd);
    path_ = name;
  }
  explicit File(const std::string& bytes) : File() { std::ofstream(path_, std::ios::binary) << bytes; }
  ~File() { ::unlink(path_.c_str()); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string bytes() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::string path_;
};

void assert_refused(const char* dictionary, const char* word) {
  const auto shape = parse_npy_header(dictionary);
  cr_assert(!shape.has_value(), "%s", dictionary);
  cr_assert_not_null(std::strstr(shape.error().text.c_str(), word), "%s: %s should say %s", dictionary,
                     shape.error().text.c_str(), word);
}

}  // namespace

Test(ctl_npy, headers_are_read_as_numpy_writes_them) {
  cr_assert(parse_npy_header(kTwoByThree) == NpyShape(2, 3));
  cr_assert(parse_npy_header("{'shape': (2L, 3L), 'fortran_order': False, 'descr': '<f4'}  \n") == NpyShape(2, 3));
  cr_assert(parse_npy_header("{\"descr\":\"<f4\",\"fortran_order\":False,\"shape\":(0,768)}") == NpyShape(0, 768));
  cr_assert(parse_npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (768,), }") == NpyShape(std::nullopt, 768));
}

Test(ctl_npy, other_arrays_are_refused_with_what_would_be_right) {
  assert_refused("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", "astype");
  assert_refused("{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", "'<f4' is wanted");
  assert_refused("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3), }", "records");
  assert_refused("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", "C order");
  assert_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", "0 axes");
  assert_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }", "3 axes");
}

Test(ctl_npy, no_dictionary_is_taken_for_one) {
  for (const char* wrong :
       {"", "{", "}", "{}", "{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}", "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551616, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} more",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}", "{'descr: '<f4'",
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"
         ",1,1,1,1,1,1)}")}) {
    assert_refused(wrong, "dictionary");
  }
}

Test(ctl_npy, rows_come_back_from_each_version) {
  for (uint8_t version = 1; version <= 3; ++version) {
    const File file(npy(version, kTwoByThree, kSix));
    auto reader = NpyReader::open(file.path());
    cr_assert(reader.has_value());
    cr_assert_eq(reader->rows(), 2);
    cr_assert_eq(reader->columns(), 3);
    std::vector<float> row(3);
    for (size_t i = 0; i < 2; ++i) {
      cr_assert(reader->read(row).has_value());
      cr_assert_eq(std::memcmp(row.data(), &kSix[3 * i], sizeof(float) * 3), 0);
    }
    cr_assert(!reader->read(row).has_value());
  }
}

Test(ctl_npy, a_file_that_is_cut_or_no_npy_is_named) {
  const std::string whole = npy(1, kTwoByThree, kSix);
  for (const size_t bytes : {size_t{0}, size_t{5}, size_t{9}, size_t{40}}) {
    const File cut(whole.substr(0, bytes));
    const auto reader = NpyReader::open(cut.path());
    cr_assert(!reader.has_value(), "%zu bytes", bytes);
    cr_assert_not_null(std::strstr(reader.error().text.c_str(), cut.path().c_str()));
  }
  const File in_a_row(whole.substr(0, whole.size() - 1));
  auto reader = NpyReader::open(in_a_row.path());
  std::vector<float> row(3);
  cr_assert(reader->read(row).has_value());
  const auto ended = reader->read(row);
  cr_assert(!ended.has_value());
  cr_assert_not_null(std::strstr(ended.error().text.c_str(), "row 1"), "%s", ended.error().text.c_str());
  cr_assert(!NpyReader::open(File("PK\x03\x04 and more bytes than a head").path()).has_value());
  cr_assert(!NpyReader::open(File(npy(4, kTwoByThree, kSix)).path()).has_value());
  cr_assert(!NpyReader::open("/nonexistent/file.npy").has_value());
}

Test(ctl_npy, a_vector_is_one_row_or_one_axis) {
  const std::vector<float> three = {1, 2, 3};
  cr_assert(npy_vector(npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", three)) == three);
  cr_assert(npy_vector(npy(2, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }", three)) == three);
  cr_assert(!npy_vector(npy(1, kTwoByThree, kSix)).has_value());
  cr_assert(!npy_vector(npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }", three)).has_value());
  cr_assert(
      !npy_vector(npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387907,), }", three)).has_value());
  cr_assert(!npy_vector(std::string(kNpyMagic) + '\1').has_value());
}

Test(ctl_npy, what_is_written_is_read_and_what_was_not_finished_has_no_row) {
  const File file;
  auto writer = NpyWriter::create(file.path(), 3);
  cr_assert(writer.has_value());
  cr_assert(writer->finish().has_value());
  cr_assert_eq(NpyReader::open(file.path())->rows(), 0);
  for (size_t i = 0; i < 200'000; ++i) cr_assert(writer->add(std::span(kSix).subspan(3 * (i % 2), 3)).has_value());
  cr_assert_eq(NpyReader::open(file.path())->rows(), 0);
  cr_assert(writer->finish().has_value());
  auto reader = NpyReader::open(file.path());
  cr_assert_eq(reader->rows(), 200'000);
  std::vector<float> row(3);
  for (size_t i = 0; i < 200'000; ++i) {
    cr_assert(reader->read(row).has_value());
    cr_assert_eq(std::memcmp(row.data(), &kSix[3 * (i % 2)], sizeof(float) * 3), 0);
  }
  cr_assert_eq(file.bytes().size(), 128 + 200'000 * 3 * sizeof(float));
}
