// Which things belong together, as pairs of them come in.
#pragma once

namespace gristmill {

// Union-find over an array of parents. The later root hangs on the earlier one, so that a root is
// the first of its component in whatever order the edges come; paths are halved on the way.
template <typename T>
T root(T* parents, T node) {
  while (parents[node] != node) {
    parents[node] = parents[parents[node]];
    node = parents[node];
  }
  return node;
}

template <typename T>
void unite(T* parents, T a, T b) {
  a = root(parents, a), b = root(parents, b);
  if (a < b)
    parents[b] = a;
  else
    parents[a] = b;
}

}  // namespace gristmill
