// The training halves' makers; registry_train.cpp holds one line for each.
#pragma once

#include "attention/mechanism_train.h"

namespace espalier {

std::unique_ptr<TrainMechanism> make_train_softmax(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_flash_local(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_flash_global(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_conv(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_augmented(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_flash(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_transnormer(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_retention(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_gla(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_gated_delta(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_gau(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_hybrid(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_linformer(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_yoso(const AttentionSpec& spec, const AttentionShape& shape);
std::unique_ptr<TrainMechanism> make_train_lolcats(const AttentionSpec& spec, const AttentionShape& shape);

// The FIR of conv.h over whole sequences: v [B, Hk, T, Dv], weight [H, W] -> [B, H, T, Dv]; both ways [H, 2 W - 1].
at::Tensor train_conv(const at::Tensor& v, const at::Tensor& weight, bool both_ways = false);

// hedgehog.h's features of whole sequences: x [B, X, T, D], weight [X, D, F] -> [B, X, T, 2F].
at::Tensor train_hedgehog(const at::Tensor& x, const at::Tensor& weight);

}  // namespace espalier
