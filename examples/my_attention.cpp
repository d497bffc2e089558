// Loads a model with the attention of my_attention.h in every layer and compares a tree's nodes with the chains along
// their paths, bit for bit.
//   my_attention MODEL
#include "examples/my_attention.h"

#include <cstdio>
#include <cstring>
#include <exception>

#include "checkpoint/model_files.h"
#include "models/model.h"

using namespace espalier;

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  const auto model =
      load_model(open_model(argv[1]), {.attention = "my_attention", .more_mechanisms = {my_attention()}});
  Workspace workspace(2);
  SequenceState state = model->new_state();
  std::vector<int32_t> past;
  for (int32_t i = 0; i < 100; ++i) past.push_back(i * 7 % 1000);
  model->prefill(state, past, workspace, nullptr, nullptr);

  // 0 -> 1 -> 3, 0 -> 2
  const std::vector<int32_t> tokens = {5, 6, 7, 8}, parents = {-1, 0, 0, 1};
  const Segment tree{.state = &state, .tokens = tokens, .parents = parents};
  StepOutput output;
  model->step({&tree, 1}, workspace, output);
  const int64_t vocab = model->config().vocab_size;
  const std::vector<float> node(output.logits(0, 3), output.logits(0, 3) + vocab);

  const std::vector<int32_t> path = {5, 6, 8};
  const Segment chain{.state = &state, .tokens = path};
  model->step({&chain, 1}, workspace, output);
  const bool same = std::memcmp(node.data(), output.logits(0, 2), node.size() * sizeof(float)) == 0;
  std::printf("state: %ld bytes at %ld tokens; node 3 of the tree %s the chain 5 6 8\n",
              static_cast<long>(state.bytes()), static_cast<long>(state.length()), same ? "equals" : "DIFFERS from");
  return same ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
