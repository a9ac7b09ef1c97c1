// Curation's native core, as Python sees it.

#include "bind.hpp"

NB_MODULE(_native, m) {
  gristmill::bind_characters(m);
  gristmill::bind_quality(m);
  gristmill::bind_minhash(m);
  gristmill::bind_sorting(m);
  gristmill::bind_decontaminate(m);
  gristmill::bind_private_data(m);
}
