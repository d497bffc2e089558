#include "decoding/text_output.h"

#include <algorithm>

#include "core/error.h"

namespace espalier {

TextOutput::TextOutput(const Tokenizer* tokenizer, std::vector<std::string> stops, Callback on_text, bool at_start)
    : stops_(std::move(stops)), on_text_(std::move(on_text)) {
  if (tokenizer) decoder_ = std::make_unique<StreamDecoder>(*tokenizer, at_start);
  for (const std::string& stop : stops_) {
    if (stop.empty()) throw InvalidArgument(error_text("stop", "a text that is not empty", "an empty one"));
    longest_stop_ = std::max(longest_stop_, stop.size());
  }
  if (!tokenizer && !stops_.empty()) {
    throw InvalidArgument(error_text("stop", "a model with a tokenizer", "one without"));
  }
}

bool TextOutput::cut_at_stop(size_t searched) {
  const size_t begin = searched < longest_stop_ ? 0 : searched - longest_stop_ + 1;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, text_.find(stop, begin));
  if (first == std::string::npos) return false;
  text_.resize(first);
  return true;
}

size_t TextOutput::certain() const {
  size_t held = 0;
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, text_.size()); length > held; --length) {
      if (std::string_view(text_).ends_with(std::string_view(stop).substr(0, length))) held = length;
    }
  }
  return text_.size() - held;
}

void TextOutput::show(size_t end) {
  if (end <= shown_) return;
  if (on_text_) on_text_(std::string_view(text_).substr(shown_, end - shown_));
  shown_ = end;
}

bool TextOutput::push(int32_t token) {
  ESPALIER_CHECK(!stopped_);
  if (!decoder_) return false;
  const size_t searched = text_.size();
  text_ += decoder_->push(token);
  stopped_ = cut_at_stop(searched);
  show(stopped_ ? text_.size() : certain());
  return stopped_;
}

void TextOutput::finish() {
  if (decoder_ && !stopped_) text_ += decoder_->finish();
  show(text_.size());
}

}  // namespace espalier
