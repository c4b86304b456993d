// The peer: an LMDB environment without syncs (NOSYNC | WRITEMAP) that holds the same records.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/world.hpp"

namespace warmtier::bench {

class Lmdb {
 public:
  Lmdb(const std::string& directory, uint64_t records, size_t content_bytes);
  // One that is there, in another process: an environment must not be taken over a fork.
  explicit Lmdb(const std::string& directory);
  ~Lmdb();
  // A transaction of its own.
  void put(const Id& id, const Bytes& bytes);
  // Many in one transaction.
  void begin();
  void put_in_transaction(const Id& id, const Bytes& bytes);
  void commit();
  void remove(const Id& id);
  void load(uint64_t from, uint64_t to, size_t content_bytes);
  // The one read transaction renewed, the record found, its ends read, the transaction reset.
  uint64_t get(const Id& id);
  // The same for several, in one transaction.
  uint64_t get_many(const std::vector<Id>& ids);
  // Ids and scalars of all records, in one transaction.
  uint64_t walk();

 private:
  class Impl;
  void open(const std::string& directory);
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmtier::bench
