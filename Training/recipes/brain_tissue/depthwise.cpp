// Three loops that PyTorch's CPU kernels are slow at, for tensors (d, h, w, c) in bfloat16.
#include <torch/extension.h>

#include <algorithm>
#include <vector>

namespace {

using bf16 = at::BFloat16;
constexpr int64_t kLane = 16;

// Weight gradient of a 3x3x3 depthwise convolution, padding 1, stride 1.
// x, g: (d, h, w, c), c a multiple of 16. Returns (27, c) float32, taps in z, y, x order.
torch::Tensor depthwise_weight_gradient(const torch::Tensor& x, const torch::Tensor& g) {
  const int64_t D = x.size(0), H = x.size(1), W = x.size(2), C = x.size(3);
  auto out = torch::zeros({27, C}, torch::dtype(torch::kFloat32));
  const bf16* px = x.data_ptr<bf16>();
  const bf16* pg = g.data_ptr<bf16>();
  float* po = out.data_ptr<float>();
  std::vector<float> fx((W + 2) * C), fg(W * C);
  for (int64_t z = 0; z < D; ++z) {
    for (int64_t y = 0; y < H; ++y) {
      const bf16* row = pg + (z * H + y) * W * C;
      for (int64_t i = 0; i < W * C; ++i) fg[i] = static_cast<float>(row[i]);
      for (int64_t dz = -1; dz <= 1; ++dz) {
        if (z + dz < 0 || z + dz >= D) continue;
        for (int64_t dy = -1; dy <= 1; ++dy) {
          if (y + dy < 0 || y + dy >= H) continue;
          const bf16* source = px + ((z + dz) * H + y + dy) * W * C;
          for (int64_t i = 0; i < W * C; ++i) fx[C + i] = static_cast<float>(source[i]);
          float* target = po + ((dz + 1) * 9 + (dy + 1) * 3) * C;
          for (int64_t c = 0; c < C; c += kLane) {
            float a[kLane] = {0}, b[kLane] = {0}, e[kLane] = {0};
            for (int64_t w = 0; w < W; ++w) {
              const float* gw = &fg[w * C + c];
              const float* xw = &fx[w * C + c];
              for (int64_t l = 0; l < kLane; ++l) {
                a[l] += gw[l] * xw[l];
                b[l] += gw[l] * xw[C + l];
                e[l] += gw[l] * xw[2 * C + l];
              }
            }
            for (int64_t l = 0; l < kLane; ++l) {
              target[c + l] += a[l];
              target[C + c + l] += b[l];
              target[2 * C + c + l] += e[l];
            }
          }
        }
      }
    }
  }
  return out;
}

// Sum and sum of squares of each column of x (rows, c), float32: (2, c). c a multiple of 16.
torch::Tensor moments(const torch::Tensor& x) {
  const int64_t N = x.size(0), C = x.size(1);
  auto out = torch::zeros({2, C}, torch::dtype(torch::kFloat64));
  const bf16* p = x.data_ptr<bf16>();
  double* po = out.data_ptr<double>();
  constexpr int64_t kBlock = 512;
  for (int64_t start = 0; start < N; start += kBlock) {
    const int64_t stop = std::min(N, start + kBlock);
    for (int64_t c = 0; c < C; c += kLane) {
      float s[kLane] = {0}, q[kLane] = {0};
      for (int64_t n = start; n < stop; ++n) {
        for (int64_t l = 0; l < kLane; ++l) {
          const float v = static_cast<float>(p[n * C + c + l]);
          s[l] += v;
          q[l] += v * v;
        }
      }
      for (int64_t l = 0; l < kLane; ++l) {
        po[c + l] += s[l];
        po[C + c + l] += q[l];
      }
    }
  }
  return out.to(torch::kFloat32);
}

// x * scale + shift by column of x (rows, c): the gradient of `moments`. c a multiple of 16.
torch::Tensor affine(const torch::Tensor& x, const torch::Tensor& scale, const torch::Tensor& shift) {
  const int64_t N = x.size(0), C = x.size(1);
  auto out = torch::empty_like(x);
  const bf16* p = x.data_ptr<bf16>();
  const float* a = scale.data_ptr<float>();
  const float* b = shift.data_ptr<float>();
  bf16* q = out.data_ptr<bf16>();
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t c = 0; c < C; ++c) {
      q[n * C + c] = static_cast<bf16>(static_cast<float>(p[n * C + c]) * a[c] + b[c]);
    }
  }
  return out;
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("depthwise_weight_gradient", &depthwise_weight_gradient);
  m.def("moments", &moments);
  m.def("affine", &affine);
}
