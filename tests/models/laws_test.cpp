// The laws of a step on whole models: mechanism x weight type x instruction set x tree x batch x threads, bit for
// bit. The mechanisms alone are tried in tests/attention; here linear layers, norms and the batch join them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "core/byte_reader.h"
#include "core/error.h"
#include "examples/my_attention.h"
#include "models/state_access.h"
#include "support/attentions.h"
#include "support/seeds.h"
#include "support/state_bytes.h"
#include "support/tiny_model.h"
#include "support/trees.h"

namespace espalier {
namespace {

using testing::deep_tree;
using testing::random_tokens;
using testing::random_tree;
using testing::TestTree;
using testing::TinyModel;

struct Case {
  const char* attention;
  WeightType weights;
  Isa isa;
  const char* family = "llama";
};

std::string text_of(const Case& c) {
  return std::string(c.family) + " " + c.attention + " " + std::string(weight_type_name(c.weights)) + " " +
         std::string(isa_name(c.isa));
}

// What GoogleTest prints of a case that fails.
void PrintTo(const Case& c, std::ostream* out) {
  *out << text_of(c);
}

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  std::string name = text_of(info.param);
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
}

// Those of the tree and one from outside it, of examples/.
std::vector<const char*> attentions() {
  std::vector<const char*> all = testing::attentions_in_models();
  all.push_back("my_attention");
  return all;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const char* attention : attentions()) {
    for (const WeightType weights : {WeightType::kF32, WeightType::kBf16}) {
      for (const Isa isa : supported_isas()) cases.push_back({attention, weights, isa});
    }
  }
  // Quantized products meet every attention in the same way.
  for (const char* attention : {"softmax", "lolcats(group=8,sinks=2,taps=3)", "gated_delta"}) {
    for (const WeightType weights : {WeightType::kInt8, WeightType::kInt4, WeightType::kInt4Min}) {
      for (const Isa isa : supported_isas()) cases.push_back({attention, weights, isa});
    }
  }
  // Families differ in all but the attention: some of each kind will do.
  for (const char* attention : {"softmax", "augmented(group=8,taps=4)", "hybrid(group=8,sinks=2)"}) {
    for (const WeightType weights : {WeightType::kF32, WeightType::kBf16}) {
      for (const Isa isa : supported_isas()) cases.push_back({attention, weights, isa, "gpt2"});
    }
  }
  for (const char* attention : {"gau(group=8,taps=4)", "softmax"}) {  // with rows kept for the token shift
    for (const WeightType weights : {WeightType::kF32, WeightType::kBf16}) {
      for (const Isa isa : supported_isas()) cases.push_back({attention, weights, isa, "flash"});
    }
  }
  for (const char* attention : {"softmax", "flash_local(group=8)", "augmented(group=8,taps=4)"}) {  // with a bias
    for (const WeightType weights : {WeightType::kF32, WeightType::kBf16}) {
      for (const Isa isa : supported_isas()) cases.push_back({attention, weights, isa, "t5"});
    }
  }
  return cases;
}

class Laws : public ::testing::TestWithParam<Case> {
 protected:
  Laws()
      : model_(testing::load_tiny_model({.family = GetParam().family,
                                         .heads_kv = std::string(GetParam().family) == "llama" ? 1 : 3,
                                         .attention = {GetParam().attention},
                                         .more_mechanisms = {my_attention()}},
                                        GetParam().weights, &kernels_for(GetParam().isa))) {}

  SequenceState after(std::span<const int32_t> tokens, Workspace& workspace, int64_t chunk) const {
    SequenceState state = testing::start(*model_);
    model_->prefill(state, tokens, workspace, nullptr, nullptr, chunk);
    return state;
  }

  std::vector<float> row(const StepOutput& output, size_t segment, int64_t row) const {
    const float* logits = output.logits(segment, row);
    return {logits, logits + model_->config().vocab_size};
  }

  // What plain decoding gives after `state`: one token per step.
  std::vector<float> plain(SequenceState state, std::span<const int32_t> tokens) {
    StepOutput output;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const Segment segment{.state = &state, .tokens = tokens.subspan(i, 1)};
      model_->step({&segment, 1}, one_, output);
      if (i + 1 < tokens.size()) model_->commit_chain(state, output.pending[0], 1);
    }
    return row(output, 0, 0);
  }

  int64_t block() const { return std::max<int64_t>(8, model_->mechanisms()[0]->layout().block); }

  std::unique_ptr<Model> model_;
  Workspace one_{1}, two_{2};
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST_P(Laws, CuttingThePastChangesNothing) {
  const int64_t count = 3 * block() + 5;
  const std::vector<int32_t> tokens = random_tokens(count, model_->config().vocab_size, 3);
  std::vector<std::vector<float>> whole;
  SequenceState state = testing::start(*model_);
  model_->prefill(
      state, tokens, one_,
      [&](int64_t, const float* logits) { whole.emplace_back(logits, logits + model_->config().vocab_size); }, nullptr,
      count);
  for (const int64_t chunk : {int64_t{1}, int64_t{3}, block() - 1, block(), block() + 1}) {
    SequenceState cut = testing::start(*model_);
    model_->prefill(
        cut, tokens, two_,
        [&](int64_t index, const float* logits) {
          ASSERT_EQ(0, std::memcmp(logits, whole[index].data(), whole[index].size() * sizeof(float)))
              << "chunk " << chunk << " position " << index;
        },
        nullptr, chunk);
    EXPECT_EQ(testing::state_bytes(state), testing::state_bytes(cut)) << "chunk " << chunk;
  }
}

// To the last depth that may follow, where what a node sees has just left the rows: behind every length up to a block
// border and below the sinks, by two paths that part at the root.
TEST_P(Laws, TreesAreRightToTheirLastDepth) {
  const int64_t vocab = model_->config().vocab_size, most = 2 * block() + 1;
  const std::vector<int32_t> past = random_tokens(most, vocab, 43);
  Random random(testing::seed_of(text_of(GetParam())));
  SequenceState state = testing::start(*model_);
  for (int64_t length = 0; length <= most; ++length) {
    if (length > 0) model_->prefill(state, {past.data() + length - 1, 1}, one_, nullptr, nullptr);
    const bool near_border = length % block() < 2 || length % block() == block() - 1;
    // Some of the lengths will do where there are many, or each takes long: plain lanes call their multiply-adds.
    const int64_t one_in = (block() > 16 ? block() / 2 : 1) * (GetParam().isa == Isa::kScalar ? 3 : 1);
    if (!near_border && random.below(one_in) > 0) continue;
    const int64_t last_depth = std::min(model_->max_tree_depth(length), most);
    const TestTree tree = deep_tree(last_depth, random.below(6), vocab, random);
    const Segment segment{.state = &state, .tokens = tree.tokens, .parents = tree.parents};
    StepOutput output, along;
    model_->step({&segment, 1}, two_, output);
    std::set<int64_t> compared;
    for (auto node = static_cast<int32_t>(tree.size()) - 1; node >= 0; --node) {
      if (compared.count(node)) continue;
      const std::vector<int32_t> path = tree.path(node), tokens = tree.tokens_along(path);
      const Segment chain{.state = &state, .tokens = tokens};
      model_->step({&chain, 1}, one_, along);
      for (size_t i = 0; i < path.size(); ++i) {
        compared.insert(path[i]);
        ASSERT_TRUE(same_bits(row(output, 0, path[i]), row(along, 0, static_cast<int64_t>(i))))
            << "length " << length << " depth " << i << " of " << last_depth;
      }
    }
  }
}

// Laws 3, 4 and 5 at every offset to a group border, with batch mates of other lengths.
TEST_P(Laws, NodesOfTreesAreChainsAlongTheirPaths) {
  Random random(11);
  const int64_t vocab = model_->config().vocab_size;
  const std::vector<int32_t> past = random_tokens(4 * block() + 3, vocab, 5);
  const int64_t step_size = block() > 16 ? 7 : 1;
  for (int64_t length = 0; length <= 3 * block() + 1; length += length < block() + 2 ? step_size : step_size + 2) {
    SequenceState state = after({past.data(), static_cast<size_t>(length)}, two_, 5);
    const SequenceState mate = after({past.data() + 1, static_cast<size_t>(random.below(2 * block()))}, one_, 64);
    const int64_t max_depth = std::min<int64_t>(model_->max_tree_depth(length), 24);
    const TestTree tree = random_tree(2 + random.below(31), max_depth, vocab, random);
    const std::vector<int32_t> mate_tokens = random_tokens(1 + random.below(4), vocab, 17);
    const std::string before = testing::state_bytes(state);
    const Segment segments[] = {{.state = &mate, .tokens = mate_tokens},
                                {.state = &state, .tokens = tree.tokens, .parents = tree.parents},
                                {.state = &state, .tokens = mate_tokens, .wanted = Wanted::kLast}};
    StepOutput output;
    model_->step(segments, two_, output);
    EXPECT_EQ(before, testing::state_bytes(state));
    for (int32_t node = 0; node < tree.size(); node += 1 + static_cast<int32_t>(random.below(3))) {
      const std::vector<int32_t> path = tree.path(node);
      ASSERT_TRUE(same_bits(row(output, 1, node), plain(state, tree.tokens_along(path))))
          << "length " << length << " node " << node << " of " << tree.size();
    }
    ASSERT_TRUE(same_bits(row(output, 0, 0), plain(mate, {mate_tokens.data(), 1})));
    ASSERT_TRUE(same_bits(row(output, 2, static_cast<int64_t>(mate_tokens.size()) - 1), plain(state, mate_tokens)));

    // Committing a path = committing its rows one by one.
    const std::vector<int32_t> path = tree.path(static_cast<int32_t>(random.below(tree.size())));
    SequenceState at_once = state, one_by_one = state;
    model_->commit(at_once, output.pending[1], path);
    for (const int32_t token : tree.tokens_along(path)) {
      const Segment segment{.state = &one_by_one, .tokens = {&token, 1}};
      StepOutput single;
      model_->step({&segment, 1}, one_, single);
      model_->commit_chain(one_by_one, single.pending[0], 1);
    }
    ASSERT_EQ(testing::state_bytes(at_once), testing::state_bytes(one_by_one)) << "length " << length;
  }
}

TEST_P(Laws, ASavedStateContinuesAsIfNothingHappened) {
  const std::vector<int32_t> past = random_tokens(2 * block() + 3, model_->config().vocab_size, 23);
  const std::vector<int32_t> next = random_tokens(block() + 2, model_->config().vocab_size, 29);
  const SequenceState state = after(past, one_, 16);
  const std::string saved = testing::state_bytes(state);
  ByteReader reader(saved, "test", "nothing");
  SequenceState loaded = model_->read_state(reader);
  EXPECT_EQ(reader.left(), 0u);
  SequenceState source = state;  // read again in practice: what an encoder gives is the same each time
  StateAccess::source(loaded) = StateAccess::source(source);
  EXPECT_TRUE(same_bits(plain(state, next), plain(loaded, next)));
}

INSTANTIATE_TEST_SUITE_P(Product, Laws, ::testing::ValuesIn(all_cases()), case_name);

// Every instruction set gives the bits of the scalar path, but for AMX's products of bf16 (kernels.h).
TEST(InstructionSets, AgreeBitForBit) {
  for (const char* attention : attentions()) {
    for (const WeightType weights : {WeightType::kF32, WeightType::kBf16, WeightType::kInt8}) {
      std::vector<float> scalar;
      for (const Isa isa : supported_isas()) {
        const auto model = testing::load_tiny_model({.attention = {attention}, .more_mechanisms = {my_attention()}},
                                                    weights, &kernels_for(isa));
        Workspace workspace(1);
        SequenceState state = testing::start(*model);
        std::vector<float> last;
        model->prefill(state, random_tokens(150, model->config().vocab_size, 31), workspace, nullptr, &last);
        if (isa == Isa::kScalar) scalar = last;
        if (isa == Isa::kAmx && weights == WeightType::kBf16) continue;
        EXPECT_TRUE(same_bits(scalar, last)) << attention << " " << isa_name(isa);
      }
    }
  }
}

TEST(StateSize, DoesNotGrowWhereTheMechanismPromisesIt) {
  for (const char* attention : attentions()) {
    const auto model = testing::load_tiny_model({.attention = {attention}, .more_mechanisms = {my_attention()}});
    Workspace workspace(1);
    SequenceState state = testing::start(*model);
    const std::vector<int32_t> tokens = random_tokens(700, model->config().vocab_size, 37);
    model->prefill(state, {tokens.data(), 100}, workspace, nullptr, nullptr);
    const int64_t early = state.bytes();
    model->prefill(state, {tokens.data() + 100, 600}, workspace, nullptr, nullptr);
    if (model->mechanisms()[0]->capabilities().constant_state) {
      EXPECT_EQ(early, state.bytes()) << attention;
    } else {
      EXPECT_LT(early, state.bytes()) << attention;
    }
  }
}

// The name that a SPEC begins with.
std::string name_of(const std::string& spec) {
  return AttentionSpec::parse(spec).name();
}

TEST(Laws, AreTriedOnEveryMechanism) {
  std::set<std::string> tried, global;
  for (const char* attention : attentions()) {
    tried.insert(name_of(attention));
    global.insert(name_of(AttentionSpec::parse(attention).value("global", "none")));
  }
  for (const std::string& name : mechanism_names()) EXPECT_TRUE(tried.count(name)) << name;
}

// After the run: mechanism x law x weight type x instruction set, how many cases and seconds.
class Matrix : public ::testing::Environment {
 public:
  void TearDown() override {
    struct Cell {
      int cases = 0, failed = 0;
      double seconds = 0;
      std::set<std::string> weights, isas;
    };
    std::map<std::pair<std::string, std::string>, Cell> cells;
    const std::vector<Case> cases = all_cases();
    const auto& unit = *::testing::UnitTest::GetInstance();
    for (int s = 0; s < unit.total_test_suite_count(); ++s) {
      const auto& suite = *unit.GetTestSuite(s);
      if (std::string(suite.name()) != "Product/Laws") continue;
      for (int t = 0; t < suite.total_test_count(); ++t) {
        const auto& test = *suite.GetTestInfo(t);
        if (!test.should_run()) continue;
        const std::string name = test.name();
        const Case& own = cases[static_cast<size_t>(t) % cases.size()];
        const std::string in_family = own.family == std::string("llama") ? "" : std::string(" in ") + own.family;
        Cell& cell = cells[{own.attention + in_family, name.substr(0, name.find('/'))}];
        ++cell.cases;
        cell.failed += test.result()->Failed() ? 1 : 0;
        cell.seconds += static_cast<double>(test.result()->elapsed_time()) / 1e3;
        cell.weights.insert(std::string(weight_type_name(own.weights)));
        cell.isas.insert(std::string(isa_name(own.isa)));
      }
    }
    const auto joined = [](const std::set<std::string>& names) {
      std::string text;
      for (const std::string& name : names) text += (text.empty() ? "" : ",") + name;
      return text;
    };
    for (const auto& [key, cell] : cells) {
      std::printf("law\t%s\t%s\t%s\t%s\t%d cases\t%d failed\t%.2f s\n", key.first.c_str(), key.second.c_str(),
                  joined(cell.weights).c_str(), joined(cell.isas).c_str(), cell.cases, cell.failed, cell.seconds);
    }
  }
};

const auto* const kMatrix = ::testing::AddGlobalTestEnvironment(new Matrix);

TEST(Positions, EndWhereTheModelOrTheAttentionDoes) {
  const auto limit = [](std::vector<std::string> attention) {
    return testing::load_tiny_model({.max_positions = 20, .attention = std::move(attention)})->max_positions();
  };
  EXPECT_EQ(limit({"softmax"}), 20);
  EXPECT_EQ(limit({"linformer"}), 20);
  EXPECT_EQ(limit({"linear"}), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(limit({"cosformer(length=12)"}), 12);
  EXPECT_EQ(limit({"linear", "augmented(global=cosformer(length=30))"}), 30);
  EXPECT_EQ(limit({"softmax", "cosformer(length=30)"}), 20);
}

// A table of positions ends, however little the attention remembers; a bias by distance does not.
TEST(Positions, OfATableEndWithIt) {
  const auto model_of = [](const char* family, const char* attention) {
    return testing::load_tiny_model({.family = family, .heads_kv = 3, .max_positions = 20, .attention = {attention}});
  };
  for (const char* attention : {"softmax", "linear", "window(group=8)"}) {
    const auto model = model_of("gpt2", attention);
    EXPECT_EQ(model->max_positions(), 20) << attention;
    Workspace workspace(1);
    SequenceState state = testing::start(*model);
    const std::vector<int32_t> tokens = testing::random_tokens(21, model->config().vocab_size, 1);
    model->prefill(state, std::span(tokens).first(20), workspace, nullptr, nullptr);
    EXPECT_THROW(model->prefill(state, std::span(tokens).last(1), workspace, nullptr, nullptr), InvalidArgument);
    EXPECT_EQ(state.length(), 20);
  }
  EXPECT_EQ(model_of("t5", "flash_local(group=8)")->max_positions(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(model_of("t5", "softmax")->max_positions(), std::numeric_limits<int64_t>::max());
}

// Rows that fold or that are sinks must be committed before a node looks back on them: P = 8 b + r leaves nodes the
// rest of their own block and the next one.
TEST(TreeDepth, EndsWhereWhatANodeSeesIsNotCommitted) {
  struct Limit {
    const char* attention;
    int64_t length, depth;
  };
  constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  for (const auto& [attention, length, depth] : {Limit{"softmax", 5, kNone},
                                                 {"flash_local(group=8)", 5, kNone},
                                                 {"window(group=8,sinks=0)", 0, kNone},
                                                 {"window(group=8,sinks=3)", 0, 15},
                                                 {"window(group=8,sinks=3)", 2, 13},
                                                 {"window(group=8,sinks=3)", 3, kNone},
                                                 {"window(group=4,sinks=16)", 0, 7},
                                                 {"window(group=4,sinks=16)", 4, 7},
                                                 {"window(group=4,sinks=16)", 15, 4},
                                                 {"window(group=4,sinks=16)", 16, kNone},
                                                 {"lolcats(group=8)", 0, 15},
                                                 {"lolcats(group=8)", 7, 8},
                                                 {"lolcats(group=8)", 8, 15},
                                                 {"lolcats(group=8)", 9, 14},
                                                 {"lolcats(group=8,linear=none)", 9, kNone},
                                                 {"linear", 31, 16},
                                                 {"hybrid(group=8)", 17, 14},
                                                 {"augmented(group=12)", 12, 23}}) {
    const auto model = testing::load_tiny_model({.attention = {"softmax", attention}});
    EXPECT_EQ(model->max_tree_depth(length), depth) << attention << " " << length;
    if (depth == kNone) continue;
    Workspace workspace(1);
    SequenceState state = testing::start(*model);
    const std::vector<int32_t> past = random_tokens(length, model->config().vocab_size, 47);
    if (length > 0) model->prefill(state, past, workspace, nullptr, nullptr);
    Random random(53);
    StepOutput output;
    for (const int64_t over : {0, 1}) {
      const TestTree tree = deep_tree(depth + over, 0, model->config().vocab_size, random);
      const Segment segment{.state = &state, .tokens = tree.tokens, .parents = tree.parents};
      if (over == 0) model->step({&segment, 1}, workspace, output);
      if (over == 1) {
        EXPECT_THROW(model->step({&segment, 1}, workspace, output), InvalidArgument) << attention;
      }
    }
  }
}

TEST(StepInput, IsChecked) {
  const auto model = testing::load_tiny_model({.max_positions = 20});
  Workspace workspace(1);
  StepOutput output;
  SequenceState state = testing::start(*model);
  const auto refused = [&](std::vector<int32_t> tokens, std::vector<int32_t> parents) {
    const Segment segment{.state = &state, .tokens = tokens, .parents = parents};
    EXPECT_THROW(model->step({&segment, 1}, workspace, output), InvalidArgument);
  };
  refused({}, {});
  refused({-1}, {});
  refused({97}, {});
  refused({1, 2}, {-1});
  refused({1, 2}, {-1, 1});
  refused({1, 2}, {0, -1});
  refused(std::vector<int32_t>(21, 1), {});
  const std::vector<int32_t> tokens = {1, 2, 3};
  const Segment segment{.state = &state, .tokens = tokens};
  model->step({&segment, 1}, workspace, output);
  const std::vector<int32_t> no_path = {0, 2}, outside = {0, 1, 2, 3};
  EXPECT_THROW(model->commit(state, output.pending[0], no_path), InvalidArgument);
  EXPECT_THROW(model->commit(state, output.pending[0], outside), InvalidArgument);
  EXPECT_EQ(0, state.length());
  model->commit_chain(state, output.pending[0], 2);
  EXPECT_EQ(2, state.length());
  EXPECT_THROW(model->commit_chain(state, output.pending[0], 1), InvalidArgument);
}

}  // namespace
}  // namespace espalier
