// Tensors under other names, transposed, or in parts: how a family's checkpoint becomes linear layers [out, in] that
// each have a name of their own, which adapters can then change like any other.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "checkpoint/tensor_source.h"

namespace espalier {

struct TensorView {
  std::string stored;  // its name in the file
  bool transposed = false;
  int64_t part = 0, parts = 1;  // which of how many equal parts, cut along the outermost extent after transposing
  // Or, where there is an order: of so many equal pieces these, as a tensor of this shape.
  int64_t pieces = 0;
  std::vector<int64_t> order = {}, shape = {};
};

class TensorViews : public TensorSource {
 public:
  // Tensors that no view names keep their own. Throws CorruptFile when a view does not fit what is stored; views of
  // missing tensors are missing.
  TensorViews(std::shared_ptr<const TensorSource> base, const std::map<std::string, TensorView>& views);

  std::vector<std::string> names() const override;
  const TensorInfo* find(std::string_view name) const override;
  void read(std::string_view name, float* out) const override;
  bool reads_rows(std::string_view name) const override { return !entries_.contains(name) && base_->reads_rows(name); }
  void read_rows(std::string_view name, int64_t first, int64_t count, float* out) const override;
  std::string where() const override { return base_->where(); }

  // The way back. The view under a name (null: it keeps its own), a stored tensor's shape, and what its file would hold
  // of `presented`, which has the same names as this: an adapter may have changed it. Parts of a stored tensor that no
  // view shows are zero.
  const TensorView* view(std::string_view name) const;
  const std::vector<int64_t>& stored_shape(const std::string& stored) const { return base_->find(stored)->shape; }
  void read_stored(const std::string& stored, const TensorSource& presented, float* out) const;

 private:
  // Stored tensors that views have taken are not there under their own names.
  void check_shown(std::string_view name) const;

  struct Entry {
    TensorView view;
    TensorInfo info;
  };
  std::shared_ptr<const TensorSource> base_;
  std::map<std::string, Entry, std::less<>> entries_;
  std::map<std::string, int, std::less<>> viewed_;  // stored names that views have taken
};

}  // namespace espalier
