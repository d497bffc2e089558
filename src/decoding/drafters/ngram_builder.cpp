#include <algorithm>
#include <unordered_map>

#include "core/error.h"
#include "decoding/drafters/ngram_table.h"

namespace espalier {
namespace {

using Continuation = NgramTable::Continuation;

// A context of order n leaves the probability of kReserve[n - 1] unseen followers to shorter ones.
constexpr double kReserve[NgramTable::kOrders] = {3, 2, 1};
constexpr int kLeastShare = 3;

struct Counted {
  uint64_t context;
  int order;
  int64_t total;
  std::vector<Continuation> continuations;
};

// The likeliest followers of one context; `followers` holds (count, token).
Counted summarise(uint64_t context, int order, std::vector<std::pair<int64_t, int32_t>> followers) {
  Counted counted{context, order, 0, {}};
  for (const auto& [count, token] : followers) counted.total += count;
  std::sort(followers.begin(), followers.end(),
            [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
  const double all = static_cast<double>(counted.total) + kReserve[order - 1];
  for (const auto& [count, token] : followers) {
    const int share = static_cast<int>(255.0 * static_cast<double>(count) / all);
    if (counted.continuations.size() == NgramTable::kMaxContinuations || share < kLeastShare) break;
    counted.continuations.push_back({token, static_cast<uint8_t>(share)});
  }
  return counted;
}

}  // namespace

NgramTableBuilder::NgramTableBuilder(int64_t vocab_size, std::string vocabulary)
    : vocab_size_(vocab_size), vocabulary_(std::move(vocabulary)) {
  if (vocab_size < 1 || vocab_size > NgramTable::kMaxVocabulary) {
    throw NotSupported(error_text("n-gram table", "at most " + std::to_string(NgramTable::kMaxVocabulary) + " tokens",
                                  std::to_string(vocab_size)));
  }
}

void NgramTableBuilder::add(std::span<const int32_t> tokens, size_t first) {
  for (size_t i = std::max<size_t>(first, 1); i < tokens.size(); ++i) {
    for (size_t order = 1; order <= std::min<size_t>(i, NgramTable::kOrders); ++order) {
      events_.push_back({NgramTable::context_key(tokens.subspan(i - order, order)), tokens[i]});
    }
  }
}

NgramTable NgramTableBuilder::build(size_t max_bytes) const {
  std::vector<Event> events = events_;
  std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) {
    return a.context != b.context ? a.context < b.context : a.token < b.token;
  });
  // Ascending keys are ascending orders too: a longer context has a number in its upper bits.
  std::vector<Counted> contexts;
  std::unordered_map<uint64_t, int32_t> likeliest;
  for (size_t begin = 0, end = 0; begin < events.size(); begin = end) {
    std::vector<std::pair<int64_t, int32_t>> followers;
    for (end = begin; end < events.size() && events[end].context == events[begin].context; ++end) {
      if (followers.empty() || followers.back().second != events[end].token)
        followers.push_back({0, events[end].token});
      ++followers.back().first;
    }
    const uint64_t context = events[begin].context;
    int order = 1;
    while (NgramTable::shortened(context, order) != context) ++order;
    Counted counted = summarise(context, order, std::move(followers));
    if (counted.continuations.empty()) continue;
    const int32_t best = counted.continuations.front().token;
    const auto shorter = likeliest.find(NgramTable::shortened(context, order - 1));
    if (order > 1 && counted.total == 1 && shorter != likeliest.end() && shorter->second == best) continue;
    likeliest.emplace(context, best);
    contexts.push_back(std::move(counted));
  }

  std::stable_sort(contexts.begin(), contexts.end(), [](const Counted& a, const Counted& b) {
    return a.total != b.total ? a.total > b.total : a.order < b.order;
  });
  NgramTable table(vocab_size_, vocabulary_);
  table.index();
  size_t bytes = table.serialize().size();
  const size_t token_bytes = vocab_size_ <= 65536 ? 2 : 4;
  size_t kept = 0;
  for (; kept < contexts.size(); ++kept) {
    const Counted& counted = contexts[kept];
    bytes += static_cast<size_t>(counted.order) * token_bytes + 1 + counted.continuations.size() * (token_bytes + 1);
    if (bytes > max_bytes) break;
  }
  contexts.resize(kept);
  std::sort(contexts.begin(), contexts.end(), [](const Counted& a, const Counted& b) { return a.context < b.context; });
  for (const Counted& counted : contexts) table.add(counted.context, counted.continuations);
  table.index();
  return table;
}

}  // namespace espalier
