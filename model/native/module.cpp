// The model's native core, as Python sees it.

#include "bind.hpp"

NB_MODULE(_native, m) {
  gristmill::bind_decode(m);
  gristmill::bind_train(m);
}
