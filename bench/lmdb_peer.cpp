#include "bench/lmdb_peer.hpp"

#include <lmdb.h>
#include <sys/stat.h>

namespace warmtier::bench {
namespace {

void must(int code, const char* what) {
  if (code != 0) stop_because(std::string("lmdb: ") + what + ": " + mdb_strerror(code));
}

MDB_val value_of(const Id& id) { return {.mv_size = Id::bytes(), .mv_data = const_cast<char*>(id.data())}; }

// embedding, scalars, content
void store(MDB_txn* transaction, MDB_dbi database, const Id& id, const Bytes& bytes) {
  MDB_val key = value_of(id);
  MDB_val value{.mv_size = kRowBytes + kScalarBytes + bytes.content().size(), .mv_data = nullptr};
  must(mdb_put(transaction, database, &key, &value, MDB_RESERVE), "put");
  char* at = static_cast<char*>(value.mv_data);
  std::memcpy(at, bytes.row(), kRowBytes);
  std::memset(at + kRowBytes, 1, kScalarBytes);
  std::memcpy(at + kRowBytes + kScalarBytes, bytes.content().data(), bytes.content().size());
}

}  // namespace

class Lmdb::Impl {
 public:
  MDB_env* environment = nullptr;
  MDB_dbi database = 0;
  MDB_txn* reader = nullptr;
  MDB_txn* writer = nullptr;  // between begin() and commit()
};

void Lmdb::open(const std::string& directory) {
  must(mdb_env_create(&impl_->environment), "create");
  must(mdb_env_set_mapsize(impl_->environment, uint64_t{64} << 30), "map size");
  must(mdb_env_open(impl_->environment, directory.c_str(), MDB_NOSYNC | MDB_WRITEMAP, 0600), "open");
  MDB_txn* transaction = nullptr;
  must(mdb_txn_begin(impl_->environment, nullptr, 0, &transaction), "begin");
  must(mdb_dbi_open(transaction, nullptr, 0, &impl_->database), "database");
  must(mdb_txn_commit(transaction), "commit");
  must(mdb_txn_begin(impl_->environment, nullptr, MDB_RDONLY, &impl_->reader), "begin to read");
  mdb_txn_reset(impl_->reader);
}

Lmdb::Lmdb(const std::string& directory) : impl_(std::make_unique<Impl>()) { open(directory); }

Lmdb::Lmdb(const std::string& directory, uint64_t records, size_t content_bytes) : impl_(std::make_unique<Impl>()) {
  ::mkdir(directory.c_str(), 0700);
  open(directory);
  load(0, records, content_bytes);
}

Lmdb::~Lmdb() {
  if (impl_->reader != nullptr) mdb_txn_abort(impl_->reader);
  mdb_env_close(impl_->environment);
}

void Lmdb::load(uint64_t from, uint64_t to, size_t content_bytes) {
  Bytes bytes(content_bytes);
  MDB_txn* transaction = nullptr;
  for (uint64_t key = from; key < to; ++key) {
    if (transaction == nullptr) must(mdb_txn_begin(impl_->environment, nullptr, 0, &transaction), "begin");
    bytes.make(key);
    store(transaction, impl_->database, Id(key), bytes);
    if (key % 1000 == 999 || key + 1 == to) {
      must(mdb_txn_commit(transaction), "commit");
      transaction = nullptr;
    }
  }
}

void Lmdb::put(const Id& id, const Bytes& bytes) {
  MDB_txn* transaction = nullptr;
  must(mdb_txn_begin(impl_->environment, nullptr, 0, &transaction), "begin");
  store(transaction, impl_->database, id, bytes);
  must(mdb_txn_commit(transaction), "commit");
}

void Lmdb::begin() { must(mdb_txn_begin(impl_->environment, nullptr, 0, &impl_->writer), "begin"); }
void Lmdb::put_in_transaction(const Id& id, const Bytes& bytes) { store(impl_->writer, impl_->database, id, bytes); }
void Lmdb::commit() { must(mdb_txn_commit(impl_->writer), "commit"); }

void Lmdb::remove(const Id& id) {
  MDB_txn* transaction = nullptr;
  must(mdb_txn_begin(impl_->environment, nullptr, 0, &transaction), "begin");
  MDB_val key = value_of(id);
  must(mdb_del(transaction, impl_->database, &key, nullptr), "del");
  must(mdb_txn_commit(transaction), "commit");
}

namespace {

uint64_t found(MDB_txn* reader, MDB_dbi database, const Id& id) {
  MDB_val key = value_of(id);
  MDB_val value{};
  must(mdb_get(reader, database, &key, &value), "get");
  const char* at = static_cast<const char*>(value.mv_data);
  return touch_ends(at, kRowBytes) + touch_ends(at + kRowBytes + kScalarBytes, value.mv_size - kRowBytes - kScalarBytes);
}

}  // namespace

uint64_t Lmdb::get(const Id& id) {
  must(mdb_txn_renew(impl_->reader), "renew");
  const uint64_t sum = found(impl_->reader, impl_->database, id);
  mdb_txn_reset(impl_->reader);
  return sum;
}

uint64_t Lmdb::get_many(const std::vector<Id>& ids) {
  must(mdb_txn_renew(impl_->reader), "renew");
  uint64_t sum = 0;
  for (const Id& id : ids) sum += found(impl_->reader, impl_->database, id);
  mdb_txn_reset(impl_->reader);
  return sum;
}

uint64_t Lmdb::walk() {
  must(mdb_txn_renew(impl_->reader), "renew");
  MDB_cursor* cursor = nullptr;
  must(mdb_cursor_open(impl_->reader, impl_->database, &cursor), "cursor");
  MDB_val key{};
  MDB_val value{};
  uint64_t sum = 0;
  while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
    uint64_t words[1 + kScalarBytes / sizeof(uint64_t)];
    std::memcpy(words, static_cast<const char*>(key.mv_data) + key.mv_size - sizeof words[0], sizeof words[0]);
    std::memcpy(words + 1, static_cast<const char*>(value.mv_data) + kRowBytes,
                kScalarBytes / sizeof(uint64_t) * sizeof(uint64_t));
    for (const uint64_t word : words) sum += word;
  }
  mdb_cursor_close(cursor);
  mdb_txn_reset(impl_->reader);
  return sum;
}

}  // namespace warmtier::bench
