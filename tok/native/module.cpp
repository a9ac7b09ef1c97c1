// tok's native core, as Python sees it.

#include "bind.hpp"

NB_MODULE(_native, m) {
  gristmill::bind_scanner(m);
  gristmill::bind_trainer(m);
  gristmill::bind_encoder(m);
}
