// Coefficients of Muon's orthogonalization, shared by all devices.
#pragma once

namespace spillway {

struct PolarExpressCoefficients {
  float a, b, c;
};

// X ← aX + (bA + cA²)X with A = XXᵀ; Polar Express, arXiv 2505.16932, five iterations.
inline constexpr PolarExpressCoefficients kPolarExpress[5] = {
    {8.156554524902461f, -22.48329292557795f, 15.878769915207462f},
    {4.042929935166739f, -2.808917465908714f, 0.5000178451051316f},
    {3.8916678022926607f, -2.772484153217685f, 0.5060648178503393f},
    {3.285753657755655f, -2.3681294933425376f, 0.46449024233003106f},
    {2.3465413258596377f, -1.7097828382687081f, 0.42323551169305323f},
};

// X = bf16(g') / (kPolarExpressHeadroom·‖g'‖_F + kPolarExpressEpsilon): singular values below 1.
inline constexpr float kPolarExpressHeadroom = 1.02f;
inline constexpr float kPolarExpressEpsilon = 1e-6f;

}  // namespace spillway
