// The tables of docs/mechanisms.md: what each mechanism is, what it remembers, and what it costs, one layer alone.
//   espalier_bench_mechanisms [longest text = 32768] [threads = 2] > docs/mechanisms.md
//   espalier_bench_mechanisms cards: its first table only, which measures nothing
//   espalier_bench_mechanisms prefill [SPEC …]: its last table only, of these mechanisms
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "attention/attend.h"
#include "attention/card.h"
#include "core/error.h"
#include "core/rng.h"

namespace espalier {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::vector<float> random_floats(Random& random, int64_t count) {
  std::vector<float> x(static_cast<size_t>(count));
  for (float& value : x) value = random.normal();
  return x;
}

std::vector<std::string> specs_to_measure() {
  std::vector<std::string> specs;
  for (const AttentionCard* card : attention_cards()) {
    for (std::string& spec : card->specs_to_measure()) specs.push_back(std::move(spec));
  }
  return specs;
}

// In a cell of a table.
std::string escaped(const std::string& text) {
  std::string cell;
  for (const char c : text) cell += c == '|' ? std::string("\\|") : std::string(1, c);
  return cell;
}

void print_cards() {
  std::printf("| mechanism | what it is | source |\n|---|---|---|\n");
  for (const AttentionCard* card : attention_cards()) {
    std::printf("| `%s` | %s | %s |\n", escaped(card->signature()).c_str(), escaped(card->summary).c_str(),
                card->paper.c_str());
  }
}

// Rows of one chunk, and a layer that they go through.
class Layer {
 public:
  Layer(const std::string& spec, const AttentionShape& shape, int64_t rows, int threads)
      : shape_(shape), rows_(rows), mechanism_(make_mechanism(AttentionSpec::parse(spec), shape)), pool_(threads) {
    Random random(1);
    std::vector<std::vector<float>> values;
    for (const ParameterInfo& info : mechanism_->parameters()) {
      int64_t count = 1;
      for (const int64_t extent : info.shape) count *= extent;
      values.push_back(random_floats(random, count));
      for (float& x : values.back()) x *= 0.1f;
    }
    mechanism_->load(values);
    q_ = random_floats(random, rows * shape.heads * shape.dim_k);
    k_ = random_floats(random, rows * shape.heads_kv * shape.dim_k);
    v_ = random_floats(random, rows * shape.heads_kv * shape.dim_v);
    hidden_ = random_floats(random, rows * shape.hidden);
    out_.resize(static_cast<size_t>(rows * shape.heads * shape.dim_v));
    extra_.resize(static_cast<size_t>(rows * shape.heads_kv * mechanism_->layout().dim_extra));
    for (int32_t r = 0; r < rows; ++r) {
      chain_.push_back(r - 1);
      chain_depth_.push_back(r);
      tree_.push_back(r == 0 ? -1 : (r - 1) / 2);
      tree_depth_.push_back(r == 0 ? 0 : tree_depth_[static_cast<size_t>((r - 1) / 2)] + 1);
    }
  }

  const Mechanism& mechanism() const { return *mechanism_; }

  // Seconds of one step.
  double step(const LayerState& state, int64_t rows, bool chain) {
    const SegmentRows segment{.state = &state,
                              .rows = rows,
                              .parent = chain ? chain_.data() : tree_.data(),
                              .depth = chain ? chain_depth_.data() : tree_depth_.data(),
                              .chain = chain,
                              .q = q_.data(),
                              .k = k_.data(),
                              .v = v_.data(),
                              .q_stride = shape_.heads * int64_t{shape_.dim_k},
                              .k_stride = shape_.heads_kv * int64_t{shape_.dim_k},
                              .v_stride = shape_.heads_kv * int64_t{shape_.dim_v},
                              .out = out_.data(),
                              .out_stride = shape_.heads * int64_t{shape_.dim_v},
                              .hidden = hidden_.data(),
                              .hidden_stride = shape_.hidden,
                              .extra = extra_.data()};
    const FloatEnvironment environment;
    arena_.reset();
    const auto start = Clock::now();
    attend(best_kernels(), pool_, arena_, *mechanism_, {&segment, 1});
    return seconds_since(start);
  }

  void commit(LayerState& state, int64_t rows) const {
    state.reserve(rows);
    const FloatEnvironment environment;
    const int64_t k = shape_.heads_kv * int64_t{shape_.dim_k}, v = shape_.heads_kv * int64_t{shape_.dim_v};
    const int64_t extra = shape_.heads_kv * int64_t{mechanism_->layout().dim_extra};
    for (int64_t r = 0; r < rows; ++r) {
      state.append(best_kernels(), *mechanism_, k_.data() + r * k, v_.data() + r * v, extra_.data() + r * extra);
    }
  }

  // Seconds to take in `tokens` rows, chunk by chunk, commits included.
  double prefill(LayerState& state, int64_t tokens) {
    const auto start = Clock::now();
    for (int64_t done = 0; done < tokens; done += rows_) {
      step(state, rows_, true);
      commit(state, rows_);
    }
    return seconds_since(start);
  }

 private:
  AttentionShape shape_;
  int64_t rows_;
  std::unique_ptr<Mechanism> mechanism_;
  ThreadPool pool_;
  Arena arena_;
  std::vector<float> q_, k_, v_, hidden_, out_, extra_;
  std::vector<int32_t> chain_, chain_depth_, tree_, tree_depth_;
};

void print_costs(int64_t longest, int threads) {
  constexpr int64_t kChunk = 256, kShort = 1024, kMiddle = 4096, kTree = 64;
  const AttentionShape shape{
      .heads = 9, .heads_kv = 3, .dim_k = 64, .dim_v = 64, .hidden = 576, .layer = 15, .layers = 30};
  std::printf(
      "One layer of SmolLM2-135M's shape (9 query heads, 3 KV heads of 64), f32, %d threads (%s), attention alone. "
      "State: after %ld tokens. Multiply-adds: per token at position 4096, without feature maps and gates. Times: "
      "prefill in chunks of %ld with commits, microseconds per token of a text of 1,024, 4,096 and %ld tokens, and "
      "the last over the first (median of three, each against short texts before and after it); a step over a tree of "
      "%ld nodes after 4,096 tokens, milliseconds.\n\n",
      threads, std::string(isa_name(best_kernels().isa)).c_str(), static_cast<long>(longest), static_cast<long>(kChunk),
      static_cast<long>(longest), static_cast<long>(kTree));
  std::printf(
      "| mechanism | constant state | state, kB | multiply-adds | 1,024 | 4,096 | %ld | ratio | tree of 64, ms |\n"
      "|---|---|---|---|---|---|---|---|---|\n",
      static_cast<long>(longest));
  for (const std::string& spec : specs_to_measure()) {
    Layer layer(spec, shape, kChunk, threads);
    const StateLayout layout = layer.mechanism().layout();
    const auto short_text = [&] {
      LayerState state(layout);
      return layer.prefill(state, kShort) / kShort;
    };
    LayerState state(layout);
    const double middle = layer.prefill(state, kMiddle) / kMiddle;
    std::vector<double> tree;
    for (int i = 0; i < 9; ++i) tree.push_back(layer.step(state, kTree, false));
    // Short texts around each long one: a machine that others use, too, changes its speed in between.
    std::vector<double> all_short, of_long, ratios;
    int64_t bytes = 0;
    for (int round = 0; round < 3; ++round) {
      std::vector<double> near;
      for (int i = 0; i < 4; ++i) near.push_back(short_text());
      LayerState whole(layout);
      of_long.push_back(layer.prefill(whole, longest) / static_cast<double>(longest));
      bytes = whole.bytes();
      for (int i = 0; i < 4; ++i) near.push_back(short_text());
      ratios.push_back(of_long.back() / median(near));
      all_short.insert(all_short.end(), near.begin(), near.end());
    }
    std::printf("| `%s` | %s | %ld | %.0f k | %.1f | %.1f | %.1f | %.2f | %.2f |\n", spec.c_str(),
                layer.mechanism().capabilities().constant_state ? "yes" : "no", static_cast<long>(bytes / 1000),
                row_multiply_adds(layout, shape, kMiddle) / 1e3, median(all_short) * 1e6, middle * 1e6,
                median(of_long) * 1e6, median(ratios), median(tree) * 1e3);
    std::fflush(stdout);
  }
}

// Fused multiply-adds per second: 12 rows against panels that stay in the first-level cache, on all threads.
double peak_multiply_adds(int threads) {
  ThreadPool pool(threads);
  constexpr int64_t kDim = 128, kRepeats = 10000;
  const std::vector<float> panel(static_cast<size_t>(2 * kDim * kPanel), 1.0f),
      rows(static_cast<size_t>(12 * kDim), 1.0f);
  std::vector<double> rates;
  for (int round = 0; round < 5; ++round) {
    const auto start = Clock::now();
    pool.run(threads, [&](int64_t, int) {
      const float* q[12];
      float scores[12 * 2 * kPanel];
      for (int i = 0; i < 12; ++i) q[i] = rows.data() + i * kDim;
      for (int64_t i = 0; i < kRepeats; ++i) {
        best_kernels().panel_scores({.q = q,
                                     .count = 12,
                                     .panel = panel.data(),
                                     .panels = 2,
                                     .panel_stride = kDim * kPanel,
                                     .dim = kDim,
                                     .scores = scores,
                                     .score_stride = 2 * kPanel});
      }
    });
    rates.push_back(static_cast<double>(threads * kRepeats * 12 * 2 * kDim * kPanel) / seconds_since(start));
  }
  return *std::max_element(rates.begin(), rates.end());
}

void print_prefill(int threads, const std::vector<std::string>& specs) {
  constexpr int64_t kTokens = 2048;
  const AttentionShape shape{
      .heads = 16, .heads_kv = 16, .dim_k = 64, .dim_v = 64, .hidden = 64, .layer = 1, .layers = 2};
  const double peak = peak_multiply_adds(threads);
  std::printf(
      "\n2,048 tokens in one step, 16 heads of 64, f32, %d threads: milliseconds, median of 9, and the share of the "
      "%.0f G multiply-adds per second that 12 rows against cached panels reach here.\n\n| mechanism | ms | share |\n"
      "|---|---|---|\n",
      threads, peak / 1e9);
  for (const std::string& spec : specs) {
    Layer layer(spec, shape, kTokens, threads);
    const LayerState empty(layer.mechanism().layout());
    std::vector<double> times;
    for (int i = 0; i < 9; ++i) times.push_back(layer.step(empty, kTokens, true));
    const double work = row_multiply_adds(layer.mechanism().layout(), shape, kTokens / 2) * kTokens;
    std::printf("| `%s` | %.1f | %.0f %% |\n", spec.c_str(), median(times) * 1e3, 100 * work / median(times) / peak);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "prefill") {
    const std::vector<std::string> specs(argv + 2, argv + argc);
    espalier::print_prefill(2, specs.empty() ? espalier::specs_to_measure() : specs);
    return 0;
  }
  if (argc > 1 && std::string(argv[1]) == "cards") {
    espalier::print_cards();
    return 0;
  }
  const int64_t longest = argc > 1 ? std::atoll(argv[1]) : 32768;
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  if (longest < 1024 || threads < 1) {
    std::fprintf(stderr, "usage: %s [longest text >= 1024] [threads >= 1]\n", argv[0]);
    return 2;
  }
  std::printf("# Mechanisms\n\nMade by `make mechanisms`. Definitions stand in the folders of src/attention.\n\n");
  espalier::print_cards();
  std::printf("\n");
  espalier::print_costs(longest, threads);
  espalier::print_prefill(threads, espalier::specs_to_measure());
  return 0;
}
