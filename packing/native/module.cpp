// Packing's native core, as Python sees it.

#include "bind.hpp"

NB_MODULE(_native, m) {
  gristmill::bind_records(m);
  gristmill::bind_best_fit(m);
  gristmill::bind_plan_rows(m);
  gristmill::bind_rows(m);
}
