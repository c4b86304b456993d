// warmdemo: the main job on real input. A daemon on a fresh store, two writers, three readers that check what they see, clients
// killed while they write, the daemon killed in the middle and started again; at the end nothing is left running and the exit
// code is 0 only if everything held.
#include <dlfcn.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "tools/child.hpp"
#include "tools/demo_board.hpp"
#include "tools/demo_clients.hpp"
#include "tools/wordnet.hpp"
#include "warmtier/warmtier.h"

namespace warmtier::tools {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kReadyNsMax = 30 * base::kNsPerSecond;    // a fresh store's daemon, and a restarted one
constexpr uint64_t kStopNsMax = 30 * base::kNsPerSecond;     // SIGTERM to the end of the daemon
constexpr uint64_t kPhaseNsMax = 600 * base::kNsPerSecond;   // any wait for clients; a demo that stands still has failed
constexpr uint64_t kTickNs = 50 * base::kNsPerMs;            // between two looks at the board
constexpr uint64_t kVictimLifeNsMax = 2 * base::kNsPerMs;    // a killed client dies so long after its first put
constexpr uint32_t kKillsPerStatus = 10;
constexpr uint32_t kRepairsWanted = 3;                       // deaths inside a lane to be seen before and after the restart
constexpr uint64_t kStoreBytesPerGloss = 6'000;              // a slot, its content, the same again while it is replaced
constexpr uint64_t kStoreBytesBase = 600'000'000;            // segments, killed clients' content
constexpr const char* kPython = "/usr/bin/python3";
constexpr uid_t kFirstOrdinaryUser = 61'184;                 // the range of systemd's dynamic users: nobody's own

// ---- What was asked ----------------------------------------------------------------------------------------------------------

struct Wishes {
  std::string bindir;     // of warmtierd; empty: found beside this program
  std::string wordnet = kWordnetDirectory;
  std::string directory;  // under which the temporary directory is made; empty: $TMPDIR or /tmp
  uint32_t glosses = kWordnetGlosses;
  std::string python;        // directory of the Python example; empty: the second language is left out
  uint32_t kills_max = 200;  // clients killed before the restart, and again after it
};

constexpr const char* kHelp =
    "usage: warmdemo [OPTION]..\n"
    "Puts the glosses of WordNet into a fresh store while clients and the daemon are killed, and checks that nothing is lost.\n\n"
    "  --bindir DIR     where warmtierd is (default: beside this program's build)\n"
    "  --wordnet DIR    where WordNet's data files are (default: /usr/share/wordnet)\n"
    "  --directory DIR  where the temporary store is made (default: $TMPDIR, else /tmp)\n"
    "  --glosses N      so many glosses (default: all, 117659; at least 2000)\n"
    "  --kills N        kill at most so many clients before the restart and after it (default: 200)\n"
    "  --python DIR     where the Python example is (examples/python): it reads the same store\n"
    "  --help           this text\n\n"
    "Exit codes: 0 everything held; 1 something did not; 2 it was called wrongly.\n";

constexpr uint32_t kGlossesMin = 2000;

bool parse_number(const char* text, uint32_t least, uint32_t most, uint32_t& ret_number) {
  uint32_t number = 0;
  const char* end = text + std::strlen(text);
  const auto [stopped, error] = std::from_chars(text, end, number);
  if (error != std::errc() || stopped != end || number < least || number > most) return false;
  ret_number = number;
  return true;
}

// An exit code when there is nothing to run.
std::optional<int> parse_wishes(int count, char** values, Wishes& ret_wishes) {
  const option options[] = {{"bindir", required_argument, nullptr, 'b'},
                            {"wordnet", required_argument, nullptr, 'w'},
                            {"directory", required_argument, nullptr, 'd'},
                            {"glosses", required_argument, nullptr, 'g'},
                            {"kills", required_argument, nullptr, 'k'},
                            {"python", required_argument, nullptr, 'p'},
                            {"help", no_argument, nullptr, 'h'},
                            {nullptr, 0, nullptr, 0}};
  for (int c = 0; (c = ::getopt_long(count, values, "", options, nullptr)) != -1;) {
    switch (c) {
      case 'b': ret_wishes.bindir = optarg; break;
      case 'w': ret_wishes.wordnet = optarg; break;
      case 'd': ret_wishes.directory = optarg; break;
      case 'g':
        if (parse_number(optarg, kGlossesMin, kWordnetGlosses, ret_wishes.glosses)) break;
        std::fprintf(stderr, "warmdemo: --glosses takes %u to %zu, not \"%s\"\n", kGlossesMin, kWordnetGlosses, optarg);
        return 2;
      case 'k':
        if (parse_number(optarg, 0, 100'000, ret_wishes.kills_max)) break;
        std::fprintf(stderr, "warmdemo: --kills takes 0 to 100000, not \"%s\"\n", optarg);
        return 2;
      case 'p': ret_wishes.python = optarg; break;
      case 'h': std::fputs(kHelp, stdout); return 0;
      default: std::fputs(kHelp, stderr); return 2;
    }
  }
  if (optind < count) {
    std::fprintf(stderr, "warmdemo: \"%s\" is not an option\n%s", values[optind], kHelp);
    return 2;
  }
  return std::nullopt;
}

// ---- The screen: a bar that stays at the bottom of a terminal, plain lines otherwise
// --------------------------------------------

class Screen {
 public:
  [[gnu::format(printf, 2, 3)]] void line(const char* format, ...) {
    clear();
    std::printf("[%6.2f s] ", seconds());
    va_list arguments;
    va_start(arguments, format);
    std::vprintf(format, arguments);
    va_end(arguments);
    std::putchar('\n');
    std::fflush(stdout);
  }
  // Without a terminal: a line at each tenth.
  void progress(uint64_t done, uint64_t all, uint64_t gets) {
    if (done >= all && shown_ >= all) return;
    shown_ = done;
    if (!terminal_) {
      const uint64_t tenth = done * 10 / all;
      if (tenth > tenth_) line("%3lu %%: %lu of %lu glosses put, %lu gets checked", tenth * 10, done, all, gets);
      tenth_ = tenth;
      return;
    }
    constexpr uint64_t kCells = 40;
    std::string bar(done * kCells / all, '#');
    bar.resize(kCells, '.');
    std::printf("\r\033[K[%s] %3lu %%  %lu puts, %lu gets checked", bar.c_str(), done * 100 / all, done, gets);
    std::fflush(stdout);
    bar_ = true;
  }
  void clear() {
    if (bar_) std::fputs("\r\033[K", stdout);
    bar_ = false;
  }
  [[nodiscard]] double seconds() const { return static_cast<double>(base::monotonic_ns() - start_ns_) / 1e9; }

 private:
  const bool terminal_ = ::isatty(STDOUT_FILENO) != 0;
  const uint64_t start_ns_ = base::monotonic_ns();
  uint64_t shown_ = 0;
  uint64_t tenth_ = 0;
  bool bar_ = false;
};

// ---- An ordinary user --------------------------------------------------------------------------------------------------------

// A user number that has no name, so that nothing else runs as it.
uid_t unused_user() {
  uid_t user = kFirstOrdinaryUser;
  while (::getpwuid(user) != nullptr || ::getgrgid(user) != nullptr) ++user;
  return user;
}

base::Status become(uid_t user) {
  if (::setgroups(0, nullptr) != 0 || ::setresgid(user, user, user) != 0 || ::setresuid(user, user, user) != 0) {
    return base::fail_errno(errno, "cannot become user %u", user);
  }
  // A process that changed its user may not open its own /proc/self/fd before this.
  if (::prctl(PR_SET_DUMPABLE, 1) != 0) return base::fail_errno(errno, "prctl(PR_SET_DUMPABLE)");
  return {};
}

// ---- Ready: what the daemon says to its service manager, said to us -----------------------------------------------------------

class ReadySocket {
 public:
  static base::Result<ReadySocket> listen(const std::string& path) {
    ReadySocket made;
    made.fd_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!made.fd_) return base::fail_errno(errno, "socket");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
      return base::fail(WARM_E_LIMIT, "the path %s has %zu bytes, a socket's may have %zu", path.c_str(), path.size(),
                        sizeof address.sun_path - 1);
    }
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    if (::bind(made.fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      return base::fail_errno(errno, "bind %s", path.c_str());
    }
    return made;
  }
  [[nodiscard]] int get() const { return fd_.get(); }
  // Reads what came; true if one message says READY=1.
  [[nodiscard]] bool take_ready() const {
    bool ready = false;
    char message[4096];
    for (ssize_t n = 0; (n = ::recv(fd_.get(), message, sizeof message - 1, 0)) >= 0;) {
      message[n] = '\0';
      const std::string text = std::string("\n") + message;
      if (text.find("\nREADY=1") != std::string::npos) ready = true;
    }
    return ready;
  }

 private:
  base::Fd fd_;
};

// ---- The demo
// ------------------------------------------------------------------------------------------------------------------

class Demo {
 public:
  explicit Demo(Wishes wishes) : wishes_(std::move(wishes)) {}
  Demo(const Demo&) = delete;
  Demo& operator=(const Demo&) = delete;
  ~Demo();
  base::Status run();

 private:
  using Predicate = std::function<bool()>;

  // Before the first client.
  base::Status prepare();
  base::Status make_directory();
  base::Status find_daemon(std::string& ret_path) const;
  base::Status check_space() const;
  void take_part_of_glosses();

  // The daemon.
  base::Status start_daemon(uint64_t& ret_ready_ns);
  base::Status kill_daemon();
  base::Status stop_daemon();
  void show_daemon_log() const;

  // Clients.
  base::Status start_clients();
  base::Status run_helper(const char* what, const std::function<int()>& body);
  base::Status wait_for(const char* what, Child& child, const char* failure);
  base::Status recall();
  base::Status agree_with_python();
  base::Status kill_clients(uint64_t from_acknowledged, uint64_t to_acknowledged);
  base::Status check_held_views();
  base::Status end_readers();
  base::Status wait_until(const char* what, const Predicate& held, int watched = -1, uint64_t ns_max = kPhaseNsMax);
  base::Status look_at_children();
  void show_progress();

  void show_results() const;
  base::Status check_nothing_left();

  Wishes wishes_;
  Screen screen_;
  std::vector<Gloss> glosses_;
  Stage stage_;
  Board* board_ = nullptr;
  fs::path directory_;  // the temporary one; empty before it is made
  std::string daemon_path_;
  fs::path library_path_;  // libwarmtier, where Python loads it from
  base::Fd bell_;
  base::Fd signals_;
  base::Fd daemon_log_;
  ReadySocket ready_;
  Child daemon_;
  bool daemon_wanted_ = false;  // its end is a fault
  std::vector<Child> writers_;
  std::vector<Child> readers_;
  std::minstd_rand random_{1};

  // What the results are made of.
  uint64_t writing_began_ns_ = 0;
  uint64_t writing_ended_ns_ = 0;
  uint64_t reading_ended_ns_ = 0;
  uint64_t first_ready_ns_ = 0;
  uint64_t restart_ns_ = 0;
  uint64_t stop_ns_ = 0;
  uint64_t acknowledged_at_kill_ = 0;
  uint64_t checked_after_restart_ = 0;
  uint32_t killed_clients_ = 0;
  uint64_t lane_repairs_ = 0;
  uint64_t pins_voided_ = 0;
};

Demo::~Demo() {
  // Clients before their daemon, so that none of them waits for it.
  readers_.clear();
  writers_.clear();
  daemon_ = Child();
  screen_.clear();
  if (directory_.empty()) return;
  std::error_code error;
  fs::remove_all(directory_, error);
  if (error) std::fprintf(stderr, "warmdemo: cannot remove %s: %s\n", directory_.c_str(), error.message().c_str());
}

base::Status Demo::find_daemon(std::string& ret_path) const {
  std::vector<fs::path> tried;
  if (!wishes_.bindir.empty()) {
    tried.emplace_back(fs::path(wishes_.bindir) / "warmtierd");
  } else {
    std::error_code error;
    const fs::path here = fs::read_symlink("/proc/self/exe", error).parent_path();
    // Installed side by side, or in the build directory's folders.
    tried = {here / "warmtierd", here.parent_path() / "daemon" / "warmtierd"};
  }
  std::string names;
  for (const fs::path& path : tried) {
    if (::access(path.c_str(), X_OK) == 0) {
      ret_path = path;
      return {};
    }
    names.append(" ").append(path.string());
  }
  return base::fail(WARM_E_SYSTEM, "no warmtierd; looked for%s", names.c_str());
}

base::Status Demo::make_directory() {
  std::string parent = wishes_.directory;
  if (parent.empty()) {
    const char* temporary = std::getenv("TMPDIR");
    parent = temporary != nullptr && *temporary != '\0' ? temporary : "/tmp";
  }
  std::string name = parent + "/warmtier-demo.XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) return base::fail_errno(errno, "cannot make a directory in %s", parent.c_str());
  directory_ = name;
  return {};
}

base::Status Demo::check_space() const {
  struct statvfs space{};
  if (::statvfs(directory_.c_str(), &space) != 0) return base::fail_errno(errno, "statvfs %s", directory_.c_str());
  const uint64_t free_bytes = uint64_t{space.f_bavail} * space.f_frsize;
  const uint64_t needed_bytes = kStoreBytesBase + wishes_.glosses * kStoreBytesPerGloss;
  if (free_bytes >= needed_bytes) return {};
  return base::fail(WARM_E_FULL, "%s has %lu MB free, the demo takes up to %lu MB; --directory names another place",
                    directory_.parent_path().c_str(), free_bytes / 1'000'000, needed_bytes / 1'000'000);
}

// From all over, and what the queries expect.
void Demo::take_part_of_glosses() {
  const auto expected = [](const Gloss& gloss) {
    return std::ranges::any_of(kQueries, [&](const Query& query) { return gloss.id == query.expected_id; });
  };
  std::partition(glosses_.begin(), glosses_.end(), expected);
  for (uint64_t i = kQueries.size(); i < wishes_.glosses; ++i) {
    const uint64_t from = i * glosses_.size() / wishes_.glosses;
    if (from != i) glosses_[i] = std::move(glosses_[from]);
  }
  glosses_.resize(wishes_.glosses);
}

base::Status Demo::prepare() {
  base::Result<std::vector<Gloss>> glosses = read_wordnet(wishes_.wordnet);
  if (!glosses) return base::pass(std::move(glosses));
  glosses_ = std::move(*glosses);
  if (glosses_.size() != kWordnetGlosses) {
    return base::fail(WARM_E_CORRUPT, "%s holds %zu glosses, not WordNet 3.0's %zu", wishes_.wordnet.c_str(), glosses_.size(),
                      kWordnetGlosses);
  }
  if (wishes_.glosses < glosses_.size()) take_part_of_glosses();
  screen_.line("%zu glosses of WordNet 3.0", glosses_.size());

  board_ = make_board(static_cast<uint32_t>(glosses_.size()));
  if (board_ == nullptr) return base::fail_errno(errno, "mmap");
  std::string built;
  if (auto status = find_daemon(built); !status) return status;
  if (auto status = make_directory(); !status) return status;
  if (auto status = check_space(); !status) return status;
  if (!wishes_.python.empty()) {
    // The user that the demo becomes may not be allowed to look where these lie.
    Dl_info library{};
    if (::dladdr(reinterpret_cast<const void*>(&warm_open), &library) == 0) return base::fail(WARM_E_SYSTEM, "dladdr");
    library_path_ = directory_ / fs::path(library.dli_fname).filename();
    for (const fs::path& file :
         {fs::path(wishes_.python) / "warmtier.py", fs::path(wishes_.python) / "checksum.py", fs::path(library.dli_fname)}) {
      std::error_code error;
      fs::copy_file(file, directory_ / file.filename(), error);
      if (!error) fs::permissions(directory_ / file.filename(), fs::perms(0755), error);
      if (error) return base::fail(WARM_E_SYSTEM, "cannot copy %s: %s", file.c_str(), error.message().c_str());
    }
  }
  daemon_path_ = directory_ / "warmtierd";
  if (::geteuid() == 0) {
    // The build may lie where an ordinary user may not look: the daemon is run from a copy.
    const uid_t user = unused_user();
    std::error_code error;
    fs::copy_file(built, daemon_path_, error);
    if (error) return base::fail(WARM_E_SYSTEM, "cannot copy %s: %s", built.c_str(), error.message().c_str());
    fs::permissions(daemon_path_, fs::perms(0755), error);
    if (::chown(directory_.c_str(), user, user) != 0) return base::fail_errno(errno, "chown %s", directory_.c_str());
    if (auto status = become(user); !status) return status;
    if (::access(directory_.c_str(), R_OK | W_OK | X_OK) != 0) {
      return base::fail_errno(errno, "user %u cannot enter %s; --directory names another place", user, directory_.c_str());
    }
    screen_.line("run by root: everything from here on is user %u, in %s", user, directory_.c_str());
  } else {
    daemon_path_ = built;
    screen_.line("user %u, in %s", ::geteuid(), directory_.c_str());
  }

  // Whatever a child leaves behind comes to us: at the end there must be nothing.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, number);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  bell_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!signals_ || !bell_) return base::fail_errno(errno, "eventfd");
  base::Result<base::Fd> log = base::open_at(AT_FDCWD, (directory_ / "warmtierd.log").c_str(), O_RDWR | O_CREAT | O_APPEND, 0600);
  if (!log) return base::pass(std::move(log));
  daemon_log_ = std::move(*log);
  base::Result<ReadySocket> ready = ReadySocket::listen(directory_ / "ready");
  if (!ready) return base::pass(std::move(ready));
  ready_ = std::move(*ready);
  stage_ = {.board = board_, .glosses = &glosses_, .socket = directory_ / "socket", .bell = bell_.get()};
  return {};
}

// ---- Waiting
// -------------------------------------------------------------------------------------------------------------------

void Demo::show_progress() {
  uint64_t gets = 0;
  for (const ClientRow& row : board_->readers) gets += row.operations.load(std::memory_order_relaxed);
  screen_.progress(total_of(acknowledged_now(*board_)), glosses_.size(), gets);
}

// A process that ended before its time has failed, and says why in its row.
base::Status Demo::look_at_children() {
  const auto check = [&](Child& child, const ClientRow& row, const char* name) -> base::Status {
    Child::End end;
    if (!child.running() || !child.wait(base::Deadline::after_ns(0), end)) return {};
    if (end.exited && end.code == 0 && row.done.load(std::memory_order_acquire) != 0) return {};
    return base::fail(WARM_E_SYSTEM, "a %s ended with %s: %s", name, Child::text_of(end).c_str(), row.failure);
  };
  for (size_t i = 0; i < writers_.size(); ++i) {
    if (auto status = check(writers_[i], board_->writers[i], "writer"); !status) return status;
  }
  for (size_t i = 0; i < readers_.size(); ++i) {
    if (auto status = check(readers_[i], board_->readers[i], "reader"); !status) return status;
  }
  Child::End end;
  if (daemon_wanted_ && daemon_.running() && daemon_.wait(base::Deadline::after_ns(0), end)) {
    return base::fail(WARM_E_SYSTEM, "warmtierd ended with %s", Child::text_of(end).c_str());
  }
  return {};
}

base::Status Demo::wait_until(const char* what, const Predicate& held, int watched, uint64_t ns_max) {
  const base::Deadline deadline = base::Deadline::after_ns(ns_max);
  for (;;) {
    if (auto status = look_at_children(); !status) return status;
    if (held()) return {};
    if (deadline.passed()) return base::fail(WARM_E_BUSY, "waited too long for %s", what);
    // poll(2) passes over negative descriptors.
    std::array<pollfd, 4> all{{{signals_.get(), POLLIN, 0},
                               {bell_.get(), POLLIN, 0},
                               {daemon_wanted_ ? daemon_.pidfd() : -1, POLLIN, 0},
                               {watched, POLLIN, 0}}};
    const uint64_t most_ns = std::min(deadline.left_ns(), kTickNs);
    const timespec timeout{0, static_cast<long>(most_ns)};
    ::ppoll(all.data(), all.size(), &timeout, nullptr);
    uint64_t rung = 0;
    [[maybe_unused]] const ssize_t taken = ::read(bell_.get(), &rung, sizeof rung);
    signalfd_siginfo signal{};
    if (::read(signals_.get(), &signal, sizeof signal) == sizeof signal) {
      return base::fail(WARM_E_SYSTEM, "stopped by signal %u", signal.ssi_signo);
    }
    show_progress();
  }
}

// ---- The daemon
// ----------------------------------------------------------------------------------------------------------------

base::Status Demo::start_daemon(uint64_t& ret_ready_ns) {
  const uint64_t began_ns = base::monotonic_ns();
  base::Result<Child> child = Child::execute({daemon_path_, "--store", directory_ / "store", "--socket", stage_.socket},
                                             {"NOTIFY_SOCKET=" + (directory_ / "ready").string()}, daemon_log_);
  if (!child) return base::pass(std::move(child));
  daemon_ = std::move(*child);
  daemon_wanted_ = true;
  bool is_ready = false;
  auto status =
      wait_until("READY=1 of warmtierd", [&] { return is_ready = is_ready || ready_.take_ready(); }, ready_.get(), kReadyNsMax);
  ret_ready_ns = base::monotonic_ns() - began_ns;
  return status;
}

base::Status Demo::kill_daemon() {
  daemon_wanted_ = false;
  daemon_.signal(SIGKILL);
  Child::End end;
  if (!daemon_.wait(base::Deadline::after_ns(kStopNsMax), end)) return base::fail(WARM_E_BUSY, "warmtierd survived SIGKILL");
  if (!end.exited && end.code == SIGKILL) return {};
  return base::fail(WARM_E_SYSTEM, "warmtierd ended before it was killed, with %s", Child::text_of(end).c_str());
}

base::Status Demo::stop_daemon() {
  const uint64_t began_ns = base::monotonic_ns();
  daemon_wanted_ = false;
  daemon_.signal(SIGTERM);
  Child::End end;
  if (!daemon_.wait(base::Deadline::after_ns(kStopNsMax), end)) {
    return base::fail(WARM_E_BUSY, "warmtierd did not stop within %lu s", kStopNsMax / base::kNsPerSecond);
  }
  stop_ns_ = base::monotonic_ns() - began_ns;
  if (end.exited && end.code == 0) return {};
  return base::fail(WARM_E_SYSTEM, "warmtierd stopped with %s", Child::text_of(end).c_str());
}

void Demo::show_daemon_log() const {
  if (directory_.empty()) return;
  std::ifstream file(directory_ / "warmtierd.log");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  constexpr size_t kShown = 20;
  for (size_t i = lines.size() > kShown ? lines.size() - kShown : 0; i < lines.size(); ++i) {
    std::fprintf(stderr, "  warmtierd: %s\n", lines[i].c_str());
  }
}

// ---- Clients
// -------------------------------------------------------------------------------------------------------------------

base::Status Demo::start_clients() {
  writing_began_ns_ = base::monotonic_ns();
  for (uint32_t i = 0; i < kWriters; ++i) {
    base::Result<Child> child = Child::fork([&] { return run_writer(stage_, i); });
    if (!child) return base::pass(std::move(child));
    writers_.push_back(std::move(*child));
  }
  if (auto status = wait_until("the first puts", [&] { return total_of(acknowledged_now(*board_)) != 0; }); !status)
    return status;
  for (uint32_t i = 0; i < kReaders; ++i) {
    base::Result<Child> child = Child::fork([&] { return run_reader(stage_, i, wishes_.glosses / 10); });
    if (!child) return base::pass(std::move(child));
    readers_.push_back(std::move(*child));
  }
  return {};
}

// A short-lived client, waited for while the others go on.
base::Status Demo::run_helper(const char* what, const std::function<int()>& body) {
  base::Result<Child> child = Child::fork(body);
  if (!child) return base::pass(std::move(child));
  return wait_for(what, *child, board_->helper.failure);
}

// `failure` is what it says of itself when it fails.
base::Status Demo::wait_for(const char* what, Child& child, const char* failure) {
  Child::End end;
  bool ended = false;
  auto status = wait_until(what, [&] { return ended = ended || child.wait(base::Deadline::after_ns(0), end); }, child.pidfd());
  if (!status) return status;
  if (end.exited && end.code == 0) return {};
  return base::fail(WARM_E_SYSTEM, "%s ended with %s: %s", what, Child::text_of(end).c_str(), failure);
}

base::Status Demo::recall() {
  if (auto status = run_helper("the recalling client", [&] { return run_recall(stage_); }); !status) return status;
  const RecallBook& book = board_->recall;
  screen_.line("%zu recalls by text, each over %lu records with the %s kernel:", kQueries.size(), book.scanned.load(),
               book.kernel);
  for (size_t i = 0; i < kQueries.size(); ++i) {
    const Query& query = kQueries[i];
    if (book.rank[i] == 0) {
      return base::fail(WARM_E_CORRUPT, "recall of \"%s\": %s (%s) is not among the first %u", query.text, query.expected_words,
                        query.expected_id, kQueryLimit);
    }
    screen_.line("  %5.1f ms  \"%s\": %s is number %u", static_cast<double>(book.ns[i]) / 1e6, query.text, query.expected_words,
                 book.rank[i].load());
  }
  return {};
}

// Another language, another process, the same bytes.
base::Status Demo::agree_with_python() {
  if (wishes_.python.empty()) {
    screen_.line("no --python DIR: the second language is left out");
    return {};
  }
  if (auto status = run_helper("the checksum", [&] { return run_checksum(stage_); }); !status) return status;
  const fs::path log_path = directory_ / "python.log";
  base::Result<base::Fd> log = base::open_at(AT_FDCWD, log_path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (!log) return base::pass(std::move(log));
  const uint64_t began_ns = base::monotonic_ns();
  base::Result<Child> child =
      Child::execute({kPython, "-B", directory_ / "checksum.py", "wn30:"},
                     {"WARMTIER_SOCKET=" + stage_.socket, "WARMTIER_LIBRARY=" + library_path_.string()}, *log);
  if (!child) return base::pass(std::move(child));
  const auto said = [&] {
    std::ifstream file(log_path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  if (auto status = wait_for("the Python process", *child, "see below"); !status) {
    return base::fail(status.error().code, "%s\n%s", status.error().text.c_str(), said().c_str());
  }
  const double seconds = static_cast<double>(base::monotonic_ns() - began_ns) / 1e9;
  char wanted[80];
  std::snprintf(wanted, sizeof wanted, "%lu records, checksum %lu\n", board_->checksum.records.load(),
                board_->checksum.sum.load());
  if (said() != wanted) {
    return base::fail(WARM_E_CORRUPT, "Python says \"%s\", the C++ client says \"%s\"", said().c_str(), wanted);
  }
  screen_.line("a Python process walked over the same store in %.1f s: %lu records, and the same checksum %lu", seconds,
               board_->checksum.records.load(), board_->checksum.sum.load());
  return {};
}

// Clients put in a tight loop and are killed at a random moment of it: some die inside a lane. Whoever comes to that lane next
// repairs it; the daemon's status says how often that was. It goes on until enough repairs were seen at `from` acknowledged
// glosses or later, and ends at `to`.
base::Status Demo::kill_clients(uint64_t from_acknowledged, uint64_t to_acknowledged) {
  if (wishes_.kills_max == 0) return {};
  const uint64_t puts_before = board_->victim.puts.load(std::memory_order_relaxed);
  uint32_t kills = 0;
  uint64_t repairs = 0;
  std::uniform_int_distribution<uint64_t> life_ns(0, kVictimLifeNsMax);
  const auto status_of_daemon = [&] { return run_helper("a look at the status", [&] { return run_status(stage_); }); };
  while (kills < wishes_.kills_max) {
    board_->victim.ready.store(0, std::memory_order_release);
    base::Result<Child> victim = Child::fork([&] { return run_victim(stage_); });
    if (!victim) return base::pass(std::move(victim));
    Child::End end;
    bool ended = false;
    auto status = wait_until("a client that will be killed", [&] {
      ended = ended || victim->wait(base::Deadline::after_ns(0), end);
      return ended || board_->victim.ready.load(std::memory_order_acquire) != 0;
    });
    if (!status) return status;
    if (!ended) {
      // Not waiting for an event: the moment has to be a random one.
      const base::Deadline moment = base::Deadline::after_ns(life_ns(random_));
      while (!moment.passed()) continue;
      victim->signal(SIGKILL);
      victim->wait(base::Deadline::never(), end);
    }
    if (end.exited) {
      return base::fail(WARM_E_SYSTEM, "a client ended by itself with %s: %s", Child::text_of(end).c_str(),
                        board_->helper.failure);
    }
    ++kills;
    const uint64_t acknowledged = total_of(acknowledged_now(*board_));
    if (acknowledged >= to_acknowledged) break;
    if (kills % kKillsPerStatus != 0) continue;
    if (auto looked = status_of_daemon(); !looked) return looked;
    repairs = board_->status.lane_repairs;
    if (repairs >= kRepairsWanted && acknowledged >= from_acknowledged) break;
  }
  if (auto looked = status_of_daemon(); !looked) return looked;
  repairs = board_->status.lane_repairs;
  if (auto checked = run_helper("the check of what killed clients left", [&] { return run_victim_checker(stage_); }); !checked) {
    return checked;
  }
  killed_clients_ += kills;
  lane_repairs_ += repairs;
  pins_voided_ += board_->status.pins_voided;
  screen_.line("%u clients killed at random moments of %lu puts: %lu lanes repaired by the next one in them; every record whole",
               kills, board_->victim.puts.load(std::memory_order_relaxed) - puts_before, repairs);
  return {};
}

base::Status Demo::check_held_views() {
  for (ReaderBook& book : board_->books) book.checks_wanted.fetch_add(1, std::memory_order_acq_rel);
  auto status = wait_until("the readers' look at the views they hold", [&] {
    return std::ranges::all_of(board_->books, [](const ReaderBook& book) {
      return book.checks_done.load(std::memory_order_acquire) == book.checks_wanted.load(std::memory_order_relaxed);
    });
  });
  if (!status) return status;
  uint32_t current = 0;
  uint32_t replaced = 0;
  uint32_t stale = 0;
  for (const ReaderBook& book : board_->books) {
    current += book.seen_current.load(std::memory_order_relaxed);
    replaced += book.seen_replaced.load(std::memory_order_relaxed);
    stale += book.seen_stale.load(std::memory_order_relaxed);
  }
  screen_.line("%u held views looked at again: none changed (%u current, %u replaced meanwhile, %u say that they are stale)",
               current + replaced + stale, current, replaced, stale);
  return {};
}

base::Status Demo::end_readers() {
  board_->stop.store(1, std::memory_order_release);
  auto status = wait_until("the readers' end",
                           [&] { return std::ranges::none_of(readers_, [](const Child& child) { return child.running(); }); });
  reading_ended_ns_ = base::monotonic_ns();
  return status;
}

base::Status Demo::check_nothing_left() {
  // The killed daemon's own child came to us, and has ended.
  pid_t left = 0;
  do {
    left = ::waitpid(-1, nullptr, WNOHANG);
  } while (left > 0);
  if (left == 0 || errno != ECHILD) return base::fail(WARM_E_SYSTEM, "a process is left");
  std::error_code error;
  fs::remove_all(directory_, error);
  if (error || fs::exists(directory_)) {
    return base::fail(WARM_E_SYSTEM, "cannot remove %s: %s", directory_.c_str(), error.message().c_str());
  }
  directory_.clear();
  return {};
}

// ---- Results
// -------------------------------------------------------------------------------------------------------------------

void Demo::show_results() const {
  const auto ms = [](uint64_t ns) { return static_cast<double>(ns) / 1e6; };
  const auto us = [](uint64_t ns) { return static_cast<double>(ns) / 1e3; };
  const auto per_second = [](uint64_t n, uint64_t ns) {
    return ns == 0 ? 0.0 : static_cast<double>(n) * 1e9 / static_cast<double>(ns);
  };
  const auto sum = [](const auto& rows) {
    struct Sum {
      uint64_t operations = 0;
      uint64_t retries = 0;
      uint64_t longest_ns = 0;
      Histogram times;
    };
    auto all = std::make_unique<Sum>();
    for (const ClientRow& row : rows) {
      all->operations += row.operations.load(std::memory_order_relaxed);
      all->retries += row.retries.load(std::memory_order_relaxed);
      all->longest_ns = std::max(all->longest_ns, row.longest_ns.load(std::memory_order_relaxed));
      all->times.add_all(row.times);
    }
    return all;
  };
  const auto puts = sum(board_->writers);
  const auto gets = sum(board_->readers);
  const StatusBook& status = board_->status;
  const uint64_t writing_ns = writing_ended_ns_ - writing_began_ns_;

  std::printf("\nstatus of the daemon\n");
  std::printf("  records               %lu in %lu slots, sequence %lu\n", status.records.load(), status.slots_allocated.load(),
              status.sequence.load());
  std::printf("  content               %lu segments, %.1f MB\n", status.segments.load(),
              static_cast<double>(status.content_bytes_total.load()) / 1e6);
  std::printf("  slots                 %lu wait for a checkpoint, %lu held by views\n", status.slots_waiting.load(),
              status.slots_held.load());
  std::printf("  I/O                   %s, %lu checkpoints\n", status.io_backend == 1 ? "io_uring" : "threads",
              status.checkpoints.load());
  std::printf("  sessions              %lu open, %lu ended\n", status.sessions.load(), status.sessions_ended.load());
  std::printf("  requests recovered    %lu\n", status.requests_recovered.load());
  std::printf("  bad requests          %lu; damaged records %lu; lanes fenced %lu\n", status.bad_requests.load(),
              status.damaged_records.load(), status.lanes_fenced.load());

  std::printf("\ntimes (%u processes at work on %ld processors)\n", 1 + kWriters + kReaders, ::sysconf(_SC_NPROCESSORS_ONLN));
  std::printf("  start to ready        %.1f ms on a fresh store\n", ms(first_ready_ns_));
  std::printf("  kill -9 to ready      %.1f ms with %lu records\n", ms(restart_ns_), acknowledged_at_kill_);
  std::printf("  stop                  %.1f ms\n", ms(stop_ns_));
  std::printf("  puts                  %lu in %.2f s: %.0f a second, restart and embedding included\n", puts->operations,
              static_cast<double>(writing_ns) / 1e9, per_second(puts->operations, writing_ns));
  std::printf("  one put               p50 %.1f us, p99 %.1f us, longest %.1f ms; %lu asked again\n",
              us(puts->times.quantile_ns(0.5)), us(puts->times.quantile_ns(0.99)), ms(puts->longest_ns), puts->retries);
  std::printf("  gets                  %lu, each checked whole: %.0f a second\n", gets->operations,
              per_second(gets->operations, reading_ended_ns_ - writing_began_ns_));
  const auto [fastest, slowest] = std::ranges::minmax_element(board_->recall.ns, {}, [](const auto& ns) { return ns.load(); });
  std::printf("  one recall            %.1f to %.1f ms over %lu records, %s kernel, one thread\n", ms(*fastest), ms(*slowest),
              board_->recall.scanned.load(), board_->recall.kernel);
  std::printf("  one get               p50 %.2f us, p99 %.2f us, longest %.1f ms\n", us(gets->times.quantile_ns(0.5)),
              us(gets->times.quantile_ns(0.99)), ms(gets->longest_ns));
}

// ---- The order of things
// -------------------------------------------------------------------------------------------------------

base::Status Demo::run() {
  const auto go = [&]() -> base::Status {
    if (auto status = prepare(); !status) return status;
    if (auto status = start_daemon(first_ready_ns_); !status) return status;
    screen_.line("warmtierd is ready, %.1f ms after its start", static_cast<double>(first_ready_ns_) / 1e6);

    if (auto status = start_clients(); !status) return status;
    screen_.line("%u writers put, %u readers get and recompute what they see", kWriters, kReaders);
    const auto readers_hold = [&] {
      return std::ranges::all_of(board_->books,
                                 [](const ReaderBook& book) { return book.held.load(std::memory_order_acquire) == kHeldViews; });
    };
    if (auto status = wait_until("the readers' views", readers_hold); !status) return status;
    if (auto status = run_helper("the replacing client", [&] { return run_replacer(stage_, 0, kHeldViews / 2); }); !status)
      return status;
    screen_.line("each reader holds %u views and keeps them; half of what they show is replaced now", kHeldViews);
    if (auto status = kill_clients(glosses_.size() * 2 / 5, glosses_.size() * 9 / 20); !status) return status;

    const auto half_is_put = [&] { return total_of(acknowledged_now(*board_)) >= glosses_.size() / 2; };
    if (auto status = wait_until("half of the glosses", half_is_put); !status) return status;
    const uint64_t killed_ns = base::monotonic_ns();
    if (auto status = kill_daemon(); !status) return status;
    const Acknowledged at_kill = acknowledged_now(*board_);
    acknowledged_at_kill_ = total_of(at_kill);
    uint64_t ready_ns = 0;
    if (auto status = start_daemon(ready_ns); !status) return status;
    restart_ns_ = base::monotonic_ns() - killed_ns;
    screen_.line("warmtierd killed with SIGKILL at %lu acknowledged glosses, started again, ready after %.1f ms",
                 acknowledged_at_kill_, static_cast<double>(restart_ns_) / 1e6);
    if (auto status = run_helper("the check after the restart", [&] { return run_checker(stage_, at_kill); }); !status)
      return status;
    checked_after_restart_ = board_->helper.done.load(std::memory_order_acquire);
    if (checked_after_restart_ != acknowledged_at_kill_) {
      return base::fail(WARM_E_CORRUPT, "%lu of %lu glosses were checked", checked_after_restart_, acknowledged_at_kill_);
    }
    screen_.line("all %lu are there with the right bytes", checked_after_restart_);
    if (auto status = check_held_views(); !status) return status;
    if (auto status = run_helper("the replacing client", [&] { return run_replacer(stage_, kHeldViews / 2, kHeldViews); });
        !status) {
      return status;
    }
    if (auto status = kill_clients(glosses_.size() * 9 / 10, UINT64_MAX); !status) return status;

    const auto all_is_put = [&] {
      return std::ranges::all_of(board_->writers, [](const ClientRow& row) { return row.done.load() != 0; });
    };
    if (auto status = wait_until("the last put", all_is_put); !status) return status;
    for (const ClientRow& row : board_->writers) writing_ended_ns_ = std::max(writing_ended_ns_, row.ended_ns.load());
    screen_.line("all glosses are put");
    const Acknowledged all = acknowledged_now(*board_);
    if (auto status = run_helper("the check of everything", [&] { return run_checker(stage_, all); }); !status) return status;
    if (board_->helper.done.load(std::memory_order_acquire) != glosses_.size()) {
      return base::fail(WARM_E_CORRUPT, "%u of %zu glosses were checked", board_->helper.done.load(), glosses_.size());
    }
    screen_.line("all %zu are there with the right bytes", glosses_.size());
    if (auto status = check_held_views(); !status) return status;
    // While the readers hold their views: what these cost is seen.
    if (auto status = run_helper("a look at the status", [&] { return run_status(stage_); }); !status) return status;
    if (auto status = end_readers(); !status) return status;
    if (auto status = recall(); !status) return status;
    if (auto status = agree_with_python(); !status) return status;
    if (board_->status.bad_requests != 0 || board_->status.damaged_records != 0) {
      return base::fail(WARM_E_CORRUPT, "the daemon counts %lu bad requests and %lu damaged records",
                        board_->status.bad_requests.load(), board_->status.damaged_records.load());
    }
    if (auto status = stop_daemon(); !status) return status;
    screen_.line("warmtierd stopped");
    return {};
  };

  if (auto status = go(); !status) {
    screen_.clear();
    show_daemon_log();
    return status;
  }
  if (auto status = check_nothing_left(); !status) return status;
  screen_.line("nothing is left running, the temporary directory is gone");
  show_results();
  std::printf(
      "\nEverything held: %lu glosses, %u clients and one daemon killed, %lu lanes repaired, nothing acknowledged lost.\n",
      static_cast<uint64_t>(glosses_.size()), killed_clients_, lane_repairs_);
  return {};
}

}  // namespace
}  // namespace warmtier::tools

int main(int count, char** values) {
  warmtier::tools::Wishes wishes;
  if (const std::optional<int> code = warmtier::tools::parse_wishes(count, values, wishes)) return *code;
  warmtier::base::Status status;
  {
    warmtier::tools::Demo demo(std::move(wishes));
    status = demo.run();
  }
  if (status) return 0;
  std::fprintf(stderr, "warmdemo: %s\n", status.error().text.c_str());
  return 1;
}
