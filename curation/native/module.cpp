// Curation's native core, as Python sees it.

#include "bind.hpp"

NB_MODULE(_native, m) {
  gristmill::bind_characters(m);
  gristmill::bind_quality(m);
  gristmill::bind_minhash(m);
  gristmill::bind_sorting(m);
  gristmill::bind_decontaminate(m);
  gristmill::bind_private_data(m);
  gristmill::bind_substrings(m);
  gristmill::bind_language(m);
  gristmill::bind_classifier(m);
  gristmill::bind_lid(m);
}
