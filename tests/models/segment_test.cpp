// What a segment may ask: a span over any past, vectors instead of ids, some rows, several outputs; and what an
// observer is shown.
#include "models/segment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "attention/shared/plain.h"
#include "core/error.h"
#include "models/llama.h"
#include "models/step_context.h"
#include "models/step_loader.h"
#include "support/tiny_model.h"

namespace espalier {
namespace {

using Row = std::vector<float>;
using Tokens = std::vector<int32_t>;

Row row_of(const StepOutput& output, Output what, size_t segment, int64_t row) {
  const float* values = output.row(what, segment, row);
  return values ? Row(values, values + output.width(what)) : Row();
}

// Keeps what a layer's attention was given and gave, one segment's rows one after the other over all steps.
class Recorder : public StepObserver {
 public:
  Recorder(int64_t layer, size_t segment, const AttentionShape& shape)
      : layer_(layer), segment_(segment), shape_(shape) {}
  void attended(int64_t layer, size_t segment, const SegmentRows& rows) override {
    if (layer != layer_ || segment != segment_) return;
    for (int64_t r = 0; r < rows.rows; ++r) {
      const auto copy = [&](const float* data, int64_t stride, int64_t width) {
        return Row(data + r * stride, data + r * stride + width);
      };
      seen.q.push_back(copy(rows.q, rows.q_stride, shape_.heads * shape_.dim_k));
      seen.k.push_back(copy(rows.k, rows.k_stride, shape_.heads_kv * shape_.dim_k));
      seen.v.push_back(copy(rows.v, rows.v_stride, shape_.heads_kv * shape_.dim_v));
      out.push_back(copy(rows.out, rows.out_stride, shape_.heads * shape_.dim_v));
    }
  }
  plain::Sequence seen;
  std::vector<Row> out;

 private:
  int64_t layer_;
  size_t segment_;
  AttentionShape shape_;
};

// Attentions that claim spans after a state.
std::vector<std::string> span_attentions() {
  std::vector<std::string> all;
  // The first layer of two: an attention may be another one below the middle.
  const AttentionShape shape{.heads = 3, .heads_kv = 1, .dim_k = 16, .dim_v = 16, .hidden = 48, .layers = 2};
  for (const AttentionCard* card : attention_cards()) {
    for (const std::string& spec : card->in_models) {
      if (make_mechanism(AttentionSpec::parse(spec), shape)->capabilities().source) all.push_back(spec);
    }
  }
  return all;
}

class Spans : public ::testing::TestWithParam<std::string> {
 protected:
  Spans() : model_(testing::load_tiny_model({.layers = 2, .attention = {GetParam()}})) {}
  SequenceState after(const Tokens& tokens, int64_t chunk, StepObserver* observer = nullptr) {
    SequenceState state = model_->new_state();
    StepOutput output;
    for (size_t begin = 0; begin < tokens.size(); begin += static_cast<size_t>(chunk)) {
      const size_t rows = std::min(static_cast<size_t>(chunk), tokens.size() - begin);
      const Segment segment{.state = &state, .tokens = std::span(tokens).subspan(begin, rows)};
      model_->step({&segment, 1}, one_, output, observer);
      model_->commit_chain(state, output.pending[0], static_cast<int64_t>(rows));
    }
    return state;
  }
  std::unique_ptr<Model> model_;
  Workspace one_{1}, two_{2};
};

// Law 7: a span's rows have the same bits however the past was cut, whoever else is in the step, on any threads.
TEST_P(Spans, OverAPastAreTheSameForEveryCutAndBatch) {
  const Tokens span = testing::random_tokens(19, 97, 3), mate = testing::random_tokens(5, 97, 4);
  for (const int64_t length : {0, 1, 15, 16, 17, 33, 70}) {
    const Tokens past = testing::random_tokens(length, 97, 2);
    std::vector<Row> expected;
    for (const int64_t chunk : {int64_t{1}, int64_t{7}, int64_t{16}, int64_t{256}}) {
      const SequenceState state = after(past, chunk);
      StepOutput output;
      const Segment segments[] = {{.state = &state, .tokens = mate},
                                  {.state = &state, .tokens = span, .mask = Mask::kSpan},
                                  {.state = &state, .tokens = mate, .mask = Mask::kSpan}};
      const bool alone = chunk == 1;
      model_->step(alone ? std::span(segments).subspan(1, 1) : std::span(segments), alone ? one_ : two_, output);
      for (int64_t r = 0; r < std::ssize(span); ++r) {
        const Row row = row_of(output, Output::kLogits, alone ? 0 : 1, r);
        if (alone) expected.push_back(row);
        ASSERT_EQ(row, expected[static_cast<size_t>(r)]) << "past " << length << " cut by " << chunk << " row " << r;
      }
      EXPECT_EQ(state.length(), length);
      SequenceState own = state;
      EXPECT_THROW(model_->commit_chain(own, output.pending[alone ? 0 : 1], 1), InvalidArgument);
    }
  }
}

TEST_P(Spans, OverAPastEqualTheDefinition) {
  const ModelConfig& config = model_->config();
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const AttentionShape shape = attention_shape(config, layer);
    const AttentionSpec spec = AttentionSpec::parse(GetParam());
    const ModelFiles files = testing::make_tiny_model({.layers = 2, .attention = {GetParam()}});
    plain::Parameters parameters;
    for (const ParameterInfo& own : model_->mechanisms()[static_cast<size_t>(layer)]->parameters()) {
      parameters.push_back(files.tensors->read_checked(parameter_name(config, own, layer), own.shape));
    }
    for (const int64_t length : {0, 5, 40}) {
      Recorder recorder(layer, 0, shape);
      const SequenceState state = after(testing::random_tokens(length, 97, 2), 16, &recorder);
      const Tokens tokens = testing::random_tokens(21, 97, 3);
      const Segment segment{.state = &state, .tokens = tokens, .mask = Mask::kSpan};
      StepOutput output;
      model_->step({&segment, 1}, two_, output, &recorder);
      ASSERT_EQ(std::ssize(recorder.out), length + 21);
      for (int64_t t = length; t < length + 21; ++t) {
        const std::vector<double> row = plain::attention_row(spec, shape, parameters, recorder.seen, t, true);
        for (size_t c = 0; c < row.size(); ++c) {
          ASSERT_NEAR(recorder.out[static_cast<size_t>(t)][c], row[c], 2e-4) << "past " << length << " row " << t;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Spans, ::testing::ValuesIn(span_attentions()));

TEST(Segments, SpansAreRefusedWhereAnAttentionHasNone) {
  const auto model = testing::load_tiny_model({.attention = {"softmax", "gla"}});
  const SequenceState state = model->new_state();
  const Tokens tokens = {1, 2};
  const Segment segment{.state = &state, .tokens = tokens, .mask = Mask::kSpan};
  Workspace workspace(1);
  StepOutput output;
  try {
    model->step({&segment, 1}, workspace, output);
    FAIL();
  } catch (const NotSupported& error) {
    EXPECT_NE(std::string(error.what()).find("[layer 1]"), std::string::npos) << error.what();
  }
  const auto encoder = testing::load_tiny_model({.family = "bert", .heads_kv = 3});
  const SequenceState empty = encoder->new_state();
  const Segment tree{.state = &empty, .tokens = tokens, .mask = Mask::kTree};
  EXPECT_THROW(encoder->step({&tree, 1}, workspace, output), InvalidArgument);
}

// The rows of the embedding table, handed in as vectors, are the ids; in any family, beside segments of ids.
TEST(Segments, VectorsTakeThePlaceOfIds) {
  for (const char* family : {"llama", "gpt2"}) {
    const auto model = testing::load_tiny_model({.family = family, .heads_kv = 3});
    const int64_t d = model->config().hidden_size;
    const Tokens tokens = testing::random_tokens(9, 97, 1);
    Row vectors(static_cast<size_t>(std::ssize(tokens) * d)), head(static_cast<size_t>(d));
    for (size_t t = 0; t < tokens.size(); ++t) {
      model->token_rows(tokens[t], vectors.data() + static_cast<int64_t>(t) * d, head.data());
    }
    const SequenceState state = model->new_state();
    Workspace workspace(2);
    StepOutput output;
    const Segment segments[] = {{.state = &state, .tokens = tokens},
                                {.state = &state, .tokens = {}, .vectors = vectors},
                                {.state = &state, .tokens = std::span(tokens).first(3)}};
    model->step(segments, workspace, output);
    for (int64_t r = 0; r < std::ssize(tokens); ++r) {
      ASSERT_EQ(row_of(output, Output::kLogits, 1, r), row_of(output, Output::kLogits, 0, r)) << family << " " << r;
    }
    ASSERT_EQ(row_of(output, Output::kLogits, 2, 2), row_of(output, Output::kLogits, 0, 2));
    const Segment both{.state = &state, .tokens = tokens, .vectors = vectors};
    EXPECT_THROW(model->step({&both, 1}, workspace, output), InvalidArgument);
    vectors.pop_back();
    const Segment uneven{.state = &state, .tokens = {}, .vectors = vectors};
    EXPECT_THROW(model->step({&uneven, 1}, workspace, output), InvalidArgument);
  }
}

TEST(Segments, GiveTheRowsAndOutputsThatWereAskedFor) {
  const auto model = testing::load_tiny_model({.family = "bert", .heads_kv = 3});
  const SequenceState state = model->new_state();
  const Tokens tokens = testing::random_tokens(8, 97, 1);
  Workspace workspace(2);
  StepOutput all, some;
  const OutputSet every = Output::kLogits | Output::kHidden | Output::kPooled | OutputSet(Output::kLabels);
  const Segment whole{.state = &state, .tokens = tokens, .outputs = every};
  model->step({&whole, 1}, workspace, all);
  std::map<int, std::vector<Row>> expected;
  for (const OutputKind& kind : kOutputKinds) {
    for (int64_t r = 0; r < 8; ++r) {
      expected[static_cast<int>(kind.output)].push_back(row_of(all, kind.output, 0, r));
      ASSERT_FALSE(expected[static_cast<int>(kind.output)].back().empty());
    }
  }
  const std::vector<int32_t> listed = {1, 4, 7};
  const Segment segments[] = {
      {.state = &state, .tokens = tokens, .wanted = Wanted::kListed, .listed = listed, .outputs = Output::kPooled},
      {.state = &state, .tokens = tokens, .wanted = Wanted::kNone},
      {.state = &state, .tokens = tokens, .wanted = Wanted::kFirst, .outputs = Output::kLabels | Output::kLogits},
      {.state = &state, .tokens = tokens, .wanted = Wanted::kLast, .outputs = Output::kHidden}};
  Workspace other(1);
  model->step(segments, other, some);
  const auto asked = [&](size_t segment, int64_t row, Output what) {
    const bool pooled = segment == 0 && (row == 1 || row == 4 || row == 7) && what == Output::kPooled;
    const bool first = segment == 2 && row == 0 && (what == Output::kLabels || what == Output::kLogits);
    const bool last = segment == 3 && row == 7;
    const bool hidden = what == Output::kHidden &&  // of every wanted row
                        ((segment == 0 && (row == 1 || row == 4 || row == 7)) || (segment == 2 && row == 0) || last);
    return pooled || first || hidden;
  };
  for (size_t segment = 0; segment < 4; ++segment) {
    for (const OutputKind& kind : kOutputKinds) {
      for (int64_t r = 0; r < 8; ++r) {
        const Row got = row_of(some, kind.output, segment, r);
        const Row want =
            asked(segment, r, kind.output) ? expected[static_cast<int>(kind.output)][static_cast<size_t>(r)] : Row();
        ASSERT_EQ(got, want) << segment << " " << r << " " << kind.part;
      }
    }
  }
  for (const std::vector<int32_t>& wrong : {std::vector<int32_t>{8}, {-1}, {3, 3}, {4, 2}}) {
    const Segment segment{.state = &state, .tokens = tokens, .wanted = Wanted::kListed, .listed = wrong};
    EXPECT_THROW(model->step({&segment, 1}, workspace, some), InvalidArgument);
  }
}

// An observer changes nothing, and is shown every layer of every segment once.
TEST(Segments, AnObserverLooksOn) {
  const auto model = testing::load_tiny_model({.layers = 3, .attention = {"augmented(group=8,taps=4)"}});
  class Counter : public StepObserver {
   public:
    void attended(int64_t layer, size_t segment, const SegmentRows& rows) override {
      ++calls[{layer, segment}];
      EXPECT_EQ(rows.rows, segment == 0 ? 4 : 2);
    }
    std::map<std::pair<int64_t, size_t>, int> calls;
  } counter;
  const SequenceState state = model->new_state();
  const Tokens tokens = testing::random_tokens(4, 97, 1);
  const Segment segments[] = {{.state = &state, .tokens = tokens},
                              {.state = &state, .tokens = std::span(tokens).first(2)}};
  Workspace workspace(2);
  StepOutput alone, watched;
  model->step(segments, workspace, alone);
  std::vector<Row> expected;
  for (int64_t r = 0; r < 4; ++r) expected.push_back(row_of(alone, Output::kLogits, 0, r));
  model->step(segments, workspace, watched, &counter);
  for (int64_t r = 0; r < 4; ++r) EXPECT_EQ(row_of(watched, Output::kLogits, 0, r), expected[static_cast<size_t>(r)]);
  EXPECT_EQ(counter.calls.size(), 6u);
  for (const auto& [place, calls] : counter.calls) EXPECT_EQ(calls, 1);
}

// A family whose norm after a sum has drifted from what the forward calls does not pass for one without.
struct Drifted : Llama {
  template <class Context, class Layer>
  static typename Context::Tensor norm_after(Context&, const Layer&, Part, const typename Context::Tensor& x) {
    return x;
  }
};
static_assert(FamilyFor<Llama, StepContext> && !FamilyFor<Drifted, StepContext>);

}  // namespace
}  // namespace espalier
