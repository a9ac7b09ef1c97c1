// Threads that do one thing together, step by step, many thousand times a second.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <system_error>
#include <thread>
#include <vector>

namespace gristmill::decode {

// A share of 0 … count-1 for each of a team's members.
struct Share {
  size_t begin, end;
  Share(size_t count, size_t member, size_t members)
      : begin(count * member / members), end(count * (member + 1) / members) {}
};

class Team {
 public:
  explicit Team(size_t members) : members_(members) {
    try {
      for (size_t member = 1; member < members; ++member)
        threads_.emplace_back([this, member] { wait_for_work(member); });
    } catch (const std::system_error&) {
      members_ = 1 + threads_.size();  // the system gives no more
    }
  }

  ~Team() {
    work_ = nullptr;
    begin();
    for (std::thread& thread : threads_) thread.join();
  }

  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  size_t members() const { return members_; }

  // Call work(member) in every member, the calling thread being the first. If it throws, which only
  // a lack of memory can make it, the process ends: the others would wait for ever.
  void run(const std::function<void(size_t)>& work) noexcept {
    work_ = &work;
    begin();
    work(0);
    meet();
  }

  // Within `run`: wait until all members are here.
  void meet() {
    if (members_ == 1) return;
    const uint32_t meeting = meetings_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members_) {
      arrived_.store(0, std::memory_order_relaxed);
      meetings_.store(meeting + 1, std::memory_order_release);
      meetings_.notify_all();
      return;
    }
    // What there is to wait for takes microseconds, unless the other one was sent to sleep.
    wait(meetings_, meeting);
  }

 private:
  static constexpr int kSpins = 20000;  // of 20 to 100 cycles: a third of a millisecond

  static void wait(const std::atomic<uint32_t>& number, uint32_t seen) {
    for (int spins = 0; spins < kSpins; ++spins) {
      if (number.load(std::memory_order_acquire) != seen) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    number.wait(seen, std::memory_order_acquire);
  }

  void begin() {
    runs_.fetch_add(1, std::memory_order_release);
    runs_.notify_all();
  }

  void wait_for_work(size_t member) noexcept {
    for (uint32_t seen = 0;; ++seen) {
      wait(runs_, seen);
      if (work_ == nullptr) return;
      (*work_)(member);
      meet();
    }
  }

  size_t members_;
  std::vector<std::thread> threads_;
  const std::function<void(size_t)>* work_ = nullptr;
  std::atomic<uint32_t> runs_{0}, arrived_{0}, meetings_{0};
};

}  // namespace gristmill::decode
