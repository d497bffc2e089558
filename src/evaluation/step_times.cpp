#include "evaluation/step_times.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "attention/attend.h"
#include "core/error.h"
#include "decoding/logprob.h"
#include "evaluation/median.h"
#include "models/step_loader.h"

namespace espalier {
namespace {

constexpr int64_t kVerifySizes[] = {1, 2, 4, 8, 16, 32, 64};
constexpr size_t kBufferBytes = size_t{256} << 20, kWords = kBufferBytes / sizeof(uint64_t);

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Ids that differ from row to row; what they mean does not matter.
std::vector<int32_t> some_tokens(int64_t count, int64_t vocab_size) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) tokens[static_cast<size_t>(i)] = static_cast<int32_t>((i * 37 + 11) % vocab_size);
  return tokens;
}

double verify_ms(const Model& model, const SequenceState& state, int64_t nodes, Workspace& workspace,
                 StepOutput& output) {
  const std::vector<int32_t> tokens = some_tokens(nodes, model.config().vocab_size);
  std::vector<int32_t> parents(static_cast<size_t>(nodes));
  for (int32_t n = 0; n < nodes; ++n) parents[static_cast<size_t>(n)] = n == 0 ? -1 : (n - 1) / 2;
  const Segment segment{.state = &state, .tokens = tokens, .parents = parents};
  const auto start = Clock::now();
  model.step({&segment, 1}, workspace, output);
  return ms_since(start);
}

// Greedy decoding, each step timed with its commit and the choice of the next token.
std::vector<double> decode_ms(const Model& model, SequenceState state, int64_t tokens, Workspace& workspace) {
  StepOutput output;
  std::vector<double> times;
  int32_t token = 0;
  for (int64_t i = 0; i < tokens; ++i) {
    const auto start = Clock::now();
    const Segment segment{.state = &state, .tokens = {&token, 1}};
    model.step({&segment, 1}, workspace, output);
    model.commit_chain(state, output.pending[0], 1);
    token = argmax(output.logits(0, 0), model.config().vocab_size);
    times.push_back(ms_since(start));
  }
  return times;
}

// Weights that a step of one row reads: all but an embedding table of its own, of which it reads one row.
int64_t decode_bytes(const Model& model) {
  const ModelConfig& config = model.config();
  if (config.tie_word_embeddings) return model.weight_bytes();
  const double share = 1.0 - static_cast<double>(config.vocab_size * config.hidden_size) / model.parameters();
  return static_cast<int64_t>(static_cast<double>(model.weight_bytes()) * share);
}

// Multiply-adds of a row with weights: every weight that is not looked up.
double row_products(const Model& model) {
  const ModelConfig& config = model.config();
  const int64_t table = config.tie_word_embeddings ? 0 : config.vocab_size * config.hidden_size;
  return static_cast<double>(model.parameters() - table);
}

// Of a row's attention in all layers.
double row_attention(const Model& model, int64_t position) {
  double sum = 0;
  for (int64_t layer = 0; layer < model.config().num_hidden_layers; ++layer) {
    sum += row_multiply_adds(model.mechanisms()[static_cast<size_t>(layer)]->layout(),
                             attention_shape(model.config(), layer), position);
  }
  return sum;
}

}  // namespace

double measure_peak(const Kernels& kernels, WeightType type, ThreadPool& pool) {
  constexpr int64_t kSize = 512, kRows = 48, kRepeats = 20;
  WeightMemory memory;
  const std::vector<float> weights(kSize * kSize, 0.5f), x(kRows * kSize, 0.25f);
  const PackedMatrix packed(weights.data(), kSize, kSize, type, memory);
  double best = 0;
  for (int round = 0; round < 20; ++round) {  // each a millisecond or two: one is undisturbed
    const auto start = Clock::now();
    pool.run(pool.size(), [&](int64_t, int) {
      ThreadPool alone(1);
      Arena arena;
      std::vector<float> y(kRows * kSize);
      const PackedMatrix* matrices[] = {&packed};
      const OutputRows out[] = {{y.data(), kSize}};
      for (int64_t i = 0; i < kRepeats; ++i) {
        multiply(kernels, alone, arena, matrices, x.data(), kRows, kSize, out);
      }
    });
    best = std::max(best, static_cast<double>(pool.size() * kRepeats * kRows * kSize * kSize) * 1e3 / ms_since(start));
  }
  return best;
}

ReadBandwidth::ReadBandwidth() : buffer_(memory_.allocate(kBufferBytes)) {
  std::fill_n(reinterpret_cast<uint64_t*>(buffer_.get()), kWords, uint64_t{1});
}

double ReadBandwidth::measure(ThreadPool& pool) const {
  constexpr size_t kPiece = (size_t{1} << 20) / sizeof(uint64_t), kAhead = 4096 / sizeof(uint64_t);
  std::atomic<uint64_t> checksum{0};  // keeps the reads from being optimised away
  const auto start = Clock::now();
  pool.run(static_cast<int64_t>(kWords / kPiece), [&](int64_t piece, int) {
    const uint64_t* words = reinterpret_cast<const uint64_t*>(buffer_.get()) + static_cast<size_t>(piece) * kPiece;
    uint64_t sums[8] = {};
    for (size_t w = 0; w < kPiece; w += 8) {
      __builtin_prefetch(words + w + kAhead, 0, 2);
      for (size_t lane = 0; lane < 8; ++lane) sums[lane] += words[w + lane];
    }
    uint64_t sum = 0;
    for (const uint64_t lane : sums) sum += lane;
    checksum.fetch_add(sum, std::memory_order_relaxed);
  });
  const double seconds = ms_since(start) / 1e3;
  ESPALIER_CHECK(checksum == kWords);
  return static_cast<double>(kBufferBytes) / seconds;
}

void StepTimesOptions::check() const {
  const auto at_least_one = [](const char* name, int64_t value) {
    if (value < 1) throw InvalidArgument(error_text(name, "1 or more", std::to_string(value)));
  };
  at_least_one("prefill-tokens", prefill_tokens);
  at_least_one("decode-tokens", decode_tokens);
  at_least_one("repeats", repeats);
}

StepTimes measure_step_times(const Model& model, const StepTimesOptions& options, Workspace& workspace,
                             const EvaluationProgress& progress) {
  options.check();
  const std::vector<int32_t> prompt = some_tokens(options.prefill_tokens, model.config().vocab_size);
  const int64_t total = options.repeats + 1;
  const ReadBandwidth memory;
  std::vector<double> prefill, decode, bandwidth, share;
  std::map<int64_t, std::vector<double>> verify;
  StepOutput output;
  std::vector<float> last;
  int64_t state_bytes = 0;
  for (int64_t i = 0; i <= options.repeats; ++i) {
    SequenceState state = model.new_state();
    const auto start = Clock::now();
    model.prefill(state, prompt, workspace, nullptr, &last);
    const double prefill_ms = ms_since(start);
    state_bytes = state.bytes();
    verify_ms(model, state, 1, workspace, output);  // steps follow steps; after a prompt, caches hold other things
    std::map<int64_t, double> round;
    const int64_t deepest = model.max_tree_depth(state.length());
    for (const int64_t nodes : kVerifySizes) {
      if (nodes < (int64_t{2} << std::min<int64_t>(deepest, 32))) {
        round[nodes] = verify_ms(model, state, nodes, workspace, output);
      }
    }
    const std::vector<double> decode_round = decode_ms(model, state, options.decode_tokens, workspace);
    const double read_now = memory.measure(workspace.pool);
    if (progress) progress(i + 1, total);
    if (i == 0) continue;  // the first round warms up
    prefill.push_back(prefill_ms);
    for (const auto& [nodes, ms] : round) verify[nodes].push_back(ms);
    decode.insert(decode.end(), decode_round.begin(), decode_round.end());
    bandwidth.push_back(read_now);
    share.push_back(static_cast<double>(decode_bytes(model) + state_bytes) * 1e3 / median(decode_round) / read_now);
  }
  StepTimes times;
  times.prefill_tokens_per_second = static_cast<double>(options.prefill_tokens) / median(prefill) * 1e3;
  times.decode_tokens_per_second = 1e3 / median(decode);
  for (auto& [nodes, ms] : verify) times.verify_ms[nodes] = median(std::move(ms));
  times.bandwidth = median(std::move(bandwidth));
  times.decode_bandwidth_share = median(std::move(share));
  times.peak = measure_peak(model.kernels(), options.weights, workspace.pool);
  times.attention_peak = measure_peak(model.kernels(), WeightType::kF32, workspace.pool);
  const double reading = static_cast<double>(decode_bytes(model) + state_bytes) / times.bandwidth;
  const double row =
      row_products(model) / times.peak + row_attention(model, options.prefill_tokens) / times.attention_peak;
  for (const auto& [nodes, ms] : times.verify_ms) {
    times.roofline_ms[nodes] = 1e3 * std::max(reading, static_cast<double>(nodes) * row);
  }
  return times;
}

}  // namespace espalier
