// fingerprint: a line of hash per small random model, over the logits of a seeded text cut into prefill, tree and
// chain. Two machines, compilers or versions of a library give the same bits where their lines are equal:
//   diff <(build/release/tests/espalier_fingerprint) <(qemu-aarch64-static build/aarch64/tests/espalier_fingerprint)
// Exits 1 when the instruction sets of this machine differ among themselves.
#include <algorithm>
#include <cstdio>
#include <set>
#include <span>
#include <vector>

#include "core/hash.h"
#include "examples/my_attention.h"
#include "models/state_access.h"
#include "support/attentions.h"
#include "support/tiny_model.h"
#include "support/trees.h"

namespace {

using namespace espalier;

std::string hash_of(const testing::TinyModel& shape, WeightType weights, Isa isa) {
  const auto model = testing::load_tiny_model(shape, weights, &kernels_for(isa));
  const int64_t vocab = model->config().vocab_size;
  Workspace workspace(2);
  Sha256 hash;
  const auto add = [&](const float* logits) { hash.add(std::as_bytes(std::span(logits, static_cast<size_t>(vocab)))); };
  SequenceState state = testing::start(*model);
  model->prefill(
      state, testing::random_tokens(150, vocab, 31), workspace, [&](int64_t, const float* logits) { add(logits); },
      nullptr, 64);
  Random random(11);
  const testing::TestTree tree =
      testing::random_tree(24, std::min<int64_t>(model->max_tree_depth(150), 8), vocab, random);
  const Segment segment{.state = &state, .tokens = tree.tokens, .parents = tree.parents};
  StepOutput output;
  model->step({&segment, 1}, workspace, output);
  for (int32_t node = 0; node < tree.size(); ++node) add(output.logits(0, node));
  model->commit(state, output.pending[0], tree.path(tree.size() - 1));
  std::string bytes;
  for (const LayerState& layer : StateAccess::layers(state)) layer.serialize(bytes);
  hash.add(std::as_bytes(std::span(bytes)));
  return hash.finish().substr(0, 16);
}

int print_all() {
  int different = 0;
  const auto print = [&](const testing::TinyModel& shape, WeightType weights) {
    std::set<std::string> hashes;
    for (const Isa isa : supported_isas()) {
      if (isa != Isa::kAmx || weights != WeightType::kBf16) hashes.insert(hash_of(shape, weights, isa));
    }
    std::printf("%s %s %s", shape.family.c_str(), shape.attention[0].c_str(),
                std::string(weight_type_name(weights)).c_str());
    for (const std::string& hash : hashes) std::printf(" %s", hash.c_str());
    std::printf("\n");
    different += hashes.size() > 1;
  };
  std::vector<const char*> attentions = testing::attentions_in_models();
  attentions.push_back("my_attention");
  for (const char* attention : attentions) {
    for (const WeightType weights : {WeightType::kF32, WeightType::kBf16}) {
      print({.attention = {attention}, .more_mechanisms = {my_attention()}}, weights);
    }
  }
  for (const WeightType weights : {WeightType::kInt8, WeightType::kInt4, WeightType::kInt4Min}) print({}, weights);
  for (const char* family : {"gpt2", "t5", "flash"}) {
    print({.family = family, .heads_kv = 3, .attention = {family == std::string("flash") ? "gau(group=8)" : "softmax"}},
          WeightType::kF32);
  }
  return different > 0 ? 1 : 0;
}

}  // namespace

int main() {
  return print_all();
}
