// Run a function on several threads at once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace gristmill {

// Calls work(0) … work(n - 1), the first on the calling thread, and waits; an exception that one of
// them throws is thrown again here. Where the system lends no more threads, the calling one does
// what is left, one after the other.
template <typename Work>
void in_parallel(size_t n, Work&& work) {
  std::vector<std::exception_ptr> errors(n);
  auto guarded = [&](size_t i) noexcept {
    try {
      work(i);
    } catch (...) {
      errors[i] = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> threads;
    size_t started = std::min<size_t>(n, 1);
    try {
      for (; started < n; ++started) threads.emplace_back(guarded, started);
    } catch (const std::system_error&) {
    }
    if (n > 0) guarded(0);
    for (; started < n; ++started) guarded(started);
  }
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace gristmill
