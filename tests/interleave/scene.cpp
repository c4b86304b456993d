#include "tests/interleave/scene.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "base/fd.hpp"
#include "base/hash.hpp"
#include "daemon/store/recovery.hpp"
#include "layout/layout.hpp"

namespace warmtier::tests::interleave {

using support::give_up;
using support::kPatienceNs;

StoreOptions store_of(uint64_t slots) {
  StoreOptions options;
  options.dimensions = kDimensions;
  options.capacity = slots;
  // Checkpoints, and with them grace, come when a put needs a slot, and not by the clock.
  options.checkpoint_interval_ms = 3'600'000;
  return options;
}

// ---- Actor --------------------------------------------------------------------------------------------------------------------

Actor::Actor() {
  std::unique_lock lock(mutex_);
  thread_ = std::thread([this] { run(); });
  changed_.wait(lock, [this] { return tid_ != 0; });
}

Actor::~Actor() {
  if (busy_) end();
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void Actor::run() {
  std::unique_lock lock(mutex_);
  tid_ = ::gettid();
  changed_.notify_all();
  for (;;) {
    changed_.wait(lock, [this] { return over_ || call_; });
    if (!call_) return;
    const std::function<void()> call = std::exchange(call_, nullptr);
    lock.unlock();
    call();
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

void Actor::begin(std::function<void()> call) {
  const std::lock_guard lock(mutex_);
  if (busy_) give_up("an actor makes one call at a time");
  busy_ = true;
  call_ = std::move(call);
  changed_.notify_all();
}

void Actor::end() {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, std::chrono::nanoseconds(kPatienceNs), [this] { return !busy_; }))
    give_up("an actor's call did not end");
}

// ---- Stop ---------------------------------------------------------------------------------------------------------------------

Stop::Stop(Failpoints& failpoints, unsigned rule, const char* point, pid_t owner, uint32_t skip)
    : failpoints_(failpoints), rule_(rule) {
  failpoints_.arm(rule, point, support::FailpointAction::pause, skip, owner);
}

void Stop::reached() {
  failpoints_.await_arrived(rule_);
  failpoints_.disarm(rule_);
}

void Stop::go() {
  if (std::exchange(gone_, true)) return;
  failpoints_.disarm_and_release(rule_);
}

// ---- Scene --------------------------------------------------------------------------------------------------------------------

Scene::Scene(StoreOptions options, const char* rule, bool without) : daemon_(std::move(options)), rule_(rule), without_(without) {
  daemon_.start();
}

void Scene::leave_out() {
  if (without_) failpoints().arm(0, rule_, support::FailpointAction::omit);
}
void Scene::hold_again() { failpoints().disarm(0); }

unsigned Scene::omit(const char* rule) {
  failpoints().arm(next_rule_, rule, support::FailpointAction::omit);
  return next_rule_++;
}

void judge(const StoreOptions& options, const char* rule, bool without, Play play) {
  Scene scene(options, rule, without);
  const char* violation = play(scene);
  if (without) {
    cr_assert(violation != nullptr, "without %s nothing was violated: this interleaving does not show what the rule is for",
              rule);
  } else {
    cr_assert(violation == nullptr, "%s; the daemon said:\n%s", violation == nullptr ? "" : violation,
              scene.daemon().log().c_str());
  }
}

// ---- Calls --------------------------------------------------------------------------------------------------------------------

namespace {

// A memory about which one version says everything.
struct Version {
  Version(const std::string& id, uint32_t version) : number(version) {
    for (float& value : embedding) value = static_cast<float>(version);
    memory.given = WARM_GIVEN_CONTENT;
    memory.id = id.data();
    memory.id_bytes = id.size();
    memory.embedding = embedding;
    memory.dimensions = kDimensions;
    memory.content = &number;
    memory.content_bytes = sizeof number;
    memory.recall_count = version;
  }
  Version(const Version&) = delete;
  Version& operator=(const Version&) = delete;
  uint32_t number;
  float embedding[kDimensions];
  warm_memory memory = WARM_MEMORY_INIT;
};

}  // namespace

int put(warm_client* client, const std::string& id, uint32_t version, uint64_t* ret_sequence) {
  const Version one(id, version);
  return warm_put(client, &one.memory, ret_sequence);
}

int put_if_absent(warm_client* client, const std::string& id, uint32_t version) {
  Version one(id, version);
  one.memory.condition = WARM_IF_ABSENT;
  return warm_put(client, &one.memory, nullptr);
}

int submit(warm_client* client, const std::string& id, uint32_t version, warm_ticket* ret_ticket) {
  const Version one(id, version);
  return warm_put_submit(client, &one.memory, ret_ticket);
}

int put_versions(warm_client* client, const std::string& id, std::span<warm_result> results) {
  std::deque<Version> versions;
  std::vector<warm_memory> memories;
  for (size_t i = 0; i < results.size(); ++i) memories.push_back(versions.emplace_back(id, static_cast<uint32_t>(i + 1)).memory);
  return warm_put_many(client, memories.data(), memories.size(), results.data());
}

int set_scalars(warm_client* client, const std::string& id, uint32_t n) {
  warm_update update = WARM_UPDATE_INIT;
  update.id = id.data();
  update.id_bytes = id.size();
  update.set = WARM_SET_CONFIDENCE | WARM_SET_RECALL_COUNT | WARM_SET_LAST_ACCESS;
  update.confidence = static_cast<float>(n);
  update.recall_count = n;
  update.last_access_ns = n;
  return warm_update_scalars(client, &update, nullptr);
}

int remove(warm_client* client, const std::string& id, uint64_t* ret_sequence) {
  return warm_remove(client, id.data(), id.size(), WARM_IF_ANY, 0, 0, ret_sequence);
}

int exists(warm_client* client, const std::string& id) { return warm_exists(client, id.data(), id.size()); }

int view(warm_client* client, const std::string& id, warm_view* ret_view) {
  *ret_view = WARM_VIEW_INIT;
  return warm_get(client, id.data(), id.size(), 0, ret_view);
}

Seen look(const warm_view& view) {
  Seen seen;
  seen.version = view.recall_count;
  seen.embedding = static_cast<uint32_t>(view.embedding[0]);
  for (uint32_t i = 1; i < view.dimensions; ++i) {
    if (view.embedding[i] != view.embedding[0]) seen.embedding = ~uint32_t{0};
  }
  if (view.content_bytes == sizeof seen.content) std::memcpy(&seen.content, view.content, sizeof seen.content);
  return seen;
}

Seen copy(warm_client* client, const std::string& id) {
  float embedding[kDimensions];
  uint32_t content = 0;
  warm_copy it = WARM_COPY_INIT;
  it.embedding = embedding;
  it.embedding_capacity = kDimensions;
  it.content = &content;
  it.content_capacity = sizeof content;
  if (const int code = warm_get_copy(client, id.data(), id.size(), 0, &it); code != WARM_OK) return {.code = code};
  return {.version = it.recall_count, .embedding = static_cast<uint32_t>(embedding[0]), .content = content};
}

Seen get(warm_client* client, const std::string& id) {
  warm_view it;
  const int code = view(client, id, &it);
  if (code != WARM_OK) return {.code = code};
  const Seen seen = look(it);
  warm_release(client, &it);
  return seen;
}

void must_put(warm_client* client, const std::string& id, uint32_t version) {
  if (const int code = put(client, id, version); code != WARM_OK) {
    give_up("put " + id + ": " + warm_error_name(code) + ": " + warm_last_error());
  }
}

void must_remove(warm_client* client, const std::string& id) {
  if (const int code = remove(client, id); code != WARM_OK) {
    give_up("remove " + id + ": " + warm_error_name(code) + ": " + warm_last_error());
  }
}

uint64_t hash_seed(const Daemon& daemon) {
  const base::Fd tier(::open((daemon.store() + "/warm.tier").c_str(), O_RDONLY | O_CLOEXEC));
  auto superblock = daemon::store::read_superblock(tier.get());
  if (!superblock) give_up("warm.tier cannot be read: " + superblock.error().text);
  return superblock->hash_seed;
}

std::string id_at(uint64_t seed, uint64_t prefix, unsigned prefix_bits, unsigned nth) {
  for (uint64_t i = 0;; ++i) {
    std::string id = "at/" + std::to_string(i);
    if (base::hash64(id.data(), id.size(), seed) >> (64 - prefix_bits) == prefix && nth-- == 0) return id;
  }
}

}  // namespace warmtier::tests::interleave
