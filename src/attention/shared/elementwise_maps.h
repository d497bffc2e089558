// Additive mechanisms (attention/shared/additive.h) whose features are functions of one coordinate each. D = Dk.
//
//   linear                phi(x) = elu(x) + 1, d(x) = x + 1e-6           Katharopoulos et al. 2020, arXiv 2006.16236
//   relu                  phi(x) = max(x, 0), d(x) = x + 1e-15           EfficientViT's LiteMLA, Cai et al. 2023
//   angular               phi(q).phi(k) = 1/2 + q^.k^ / pi, d(x) = x     the linear angular kernel of Castling-ViT, You
//   et
//                                                                        al. 2023, arXiv 2211.10526; x^ = x / max(|x|,
//                                                                        1e-6)
//   cosformer(length=N)   phi(x)_t = [relu(x) sin a_t, relu(x) cos a_t], a_t = (pi / 2) (t + 1) / N, d(x) = max(x,
//   1e-6)
//                                                                        Qin et al. 2022, arXiv 2202.08791
//
// No scale on q and k. cosformer's N is fixed when the model is built: the original takes the current length, so that
// its past changes as the text grows.
#pragma once

#include "attention/shared/additive.h"

namespace espalier {

AdditiveForm make_linear_form(const AttentionSpec& spec, const AttentionShape& shape);
AdditiveForm make_relu_form(const AttentionSpec& spec, const AttentionShape& shape);
AdditiveForm make_angular_form(const AttentionSpec& spec, const AttentionShape& shape);
AdditiveForm make_cosformer_form(const AttentionSpec& spec, const AttentionShape& shape);
// elu(x) + 1, for others too.
std::unique_ptr<FeatureMap> make_elu_plus_one(int64_t dim);

}  // namespace espalier
