// Run a function on several threads at once.
#pragma once

#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace gristmill {

// Calls work(0) … work(n - 1), the first on the calling thread, and waits; an exception that one of
// them throws is thrown again here.
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
    for (size_t i = 1; i < n; ++i) threads.emplace_back(guarded, i);
    if (n > 0) guarded(0);
  }
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace gristmill
