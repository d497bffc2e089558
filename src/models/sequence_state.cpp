#include "models/sequence_state.h"

#include "core/byte_reader.h"

namespace espalier {

int64_t SequenceState::bytes() const {
  int64_t total = 0;
  for (const LayerState& layer : layers_) total += layer.bytes();
  for (const RowTail& tail : tails_) total += tail.bytes();
  for (size_t l = 0; source_ && l < source_->layers.size(); ++l) total += source_->layers[l].bytes();
  return total;
}

void SequenceState::serialize(std::string& out) const {
  append_number(out, layers_.size());
  for (const LayerState& layer : layers_) {
    std::string bytes;
    layer.serialize(bytes);
    append_number(out, bytes.size());
    out += bytes;
  }
  for (const RowTail& tail : tails_) tail.serialize(out);
}

}  // namespace espalier
