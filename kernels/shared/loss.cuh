// Cost of one output, its derivative dcost/dz (delta), and the derivative of that along a direction in which z and a
// move by dz and da (delta_tangent): all for one sample and one output unit.
// Costs come from z, never from log(a): they stay right where a rounds to 0 or 1.
// The twin for NumPy is src/deltaprop/backends/numpy/loss.py. Softmax needs whole rows: each kernel adds up its rows in
// a way of its own, from what stands here.
#pragma once
#include "shared/activation.cuh"

namespace loss {

// (a - y)^2 / 2;  dcost/dz = (a - y) g'(z);  along a direction da g'(z) + (a - y) g''(z) dz
struct squared_error {
    template <class G, typename T> __host__ __device__ static T cost(T, T a, T y) {
        return T(0.5) * (a - y) * (a - y);
    }
    template <class G, typename T> __host__ __device__ static T delta(T z, T a, T y) {
        return (a - y) * G::gradient(z);
    }
    template <class G, typename T> __host__ __device__ static T delta_tangent(T z, T a, T y, T dz, T da) {
        return da * G::gradient(z) + (a - y) * G::curvature(z) * dz;
    }
};

// -y log(a) - (1 - y) log(1 - a) with a = sigmoid(z), which is softplus(z) - y z = log1p(e^-|z|) + z ([z > 0] - y), a
// sum of two terms that are not negative for y in [0, 1], so that nothing cancels;  dcost/dz = a - y
struct binary_cross_entropy {
    template <class G, typename T> __host__ __device__ static T cost(T z, T, T y) {
        return activation::softplus::of_minus_abs(z) + z * ((z > T(0) ? T(1) : T(0)) - y);
    }
    template <class G, typename T> __host__ __device__ static T delta(T, T a, T y) { return a - y; }
    template <class G, typename T> __host__ __device__ static T delta_tangent(T, T, T, T, T da) { return da; }
};

// The same, at most -log(eps) of the type: scikit-learn clips the probabilities in its log_loss. dcost/dz is not
// clipped.
template <typename T> __host__ __device__ inline T clip_cost(T cost) {
    const T highest = sizeof(T) == 8 ? T(36.04365338911715) : T(15.942384719848633);
    return cost > highest ? highest : cost;
}
struct clipped_binary_cross_entropy : binary_cross_entropy {
    template <class G, typename T> __host__ __device__ static T cost(T z, T a, T y) {
        return clip_cost(binary_cross_entropy::cost<G>(z, a, y));
    }
};

// a - y log(a) with a = exp(z), which is a - y z: the negative log-likelihood less log(y!);  dcost/dz = a - y
struct poisson {
    template <class G, typename T> __host__ __device__ static T cost(T z, T a, T y) { return a - y * z; }
    template <class G, typename T> __host__ __device__ static T delta(T, T a, T y) { return a - y; }
    template <class G, typename T> __host__ __device__ static T delta_tangent(T, T, T, T, T da) { return da; }
};

// r = a - y: r^2 / 2 where |r| <= 1, else |r| - 1/2;  dcost/dz = clip(r, -1, 1) g'(z)
struct huber {
    template <class G, typename T> __host__ __device__ static T cost(T, T a, T y) {
        const T r = fabs(a - y);
        return r > T(1) ? r - T(0.5) : T(0.5) * r * r;
    }
    template <class G, typename T> __host__ __device__ static T delta(T z, T a, T y) {
        const T r = a - y;
        return (r > T(1) ? T(1) : r < T(-1) ? T(-1) : r) * G::gradient(z);
    }
    template <class G, typename T> __host__ __device__ static T delta_tangent(T z, T a, T y, T dz, T da) {
        const T r = a - y;
        const T slope = r > T(1) ? T(1) : r < T(-1) ? T(-1) : r;
        return (fabs(r) <= T(1) ? da : T(0)) * G::gradient(z) + slope * G::curvature(z) * dz;
    }
};

// |a - y|;  dcost/dz = sign(a - y) g'(z), 0 where a = y
struct absolute_error {
    template <typename T> __host__ __device__ static T sign(T r) { return r > T(0) ? T(1) : r < T(0) ? T(-1) : r; }
    template <class G, typename T> __host__ __device__ static T cost(T, T a, T y) { return fabs(a - y); }
    template <class G, typename T> __host__ __device__ static T delta(T z, T a, T y) {
        return sign(a - y) * G::gradient(z);
    }
    template <class G, typename T> __host__ __device__ static T delta_tangent(T z, T a, T y, T dz, T) {
        return sign(a - y) * G::curvature(z) * dz;
    }
};

// After softmax: -sum_j y_j log(a_j) = sum_j y_j (log sum_k e^(z_k - top) - (z_j - top)), top the largest z of the row;
// dcost/dz = a - y. `below` is z_j - top, so no term cancels. This is the cost of one output.
struct categorical_cross_entropy {
    template <typename T> __host__ __device__ static T cost(T y, T log_sum, T below) { return y * (log_sum - below); }
};
struct clipped_categorical_cross_entropy {
    template <typename T> __host__ __device__ static T cost(T y, T log_sum, T below) {
        return clip_cost(categorical_cross_entropy::cost(y, log_sum, below));
    }
};

// sum_k e^(z_k - top). The exponential of the largest z is 1, which would drown small ones: it is counted apart.
template <typename T> struct ExponentialSum {
    T others, tops;

    // Without a branch, so that a thread has several exponentials on their way.
    __host__ __device__ void add(T below, T exponential) {
        const bool is_top = below == T(0);
        tops += is_top ? T(1) : T(0);
        others += is_top ? T(0) : exponential;
    }
    __host__ __device__ T value() const { return others + tops; }
    __host__ __device__ T log() const { return log1p(others + (tops - T(1))); }
};

}  // namespace loss

// The table of all losses: DO(name, output). A loss's number is its place here, see names.cuh. `output` is the output
// activation that the loss goes with, or `any`: every one that acts on one element at a time.
#define DELTAPROP_FOR_EACH_LOSS(DO)                 \
    DO(squared_error, any)                          \
    DO(huber, any)                                  \
    DO(absolute_error, any)                         \
    DO(binary_cross_entropy, sigmoid)               \
    DO(clipped_binary_cross_entropy, sigmoid)       \
    DO(categorical_cross_entropy, softmax)          \
    DO(clipped_categorical_cross_entropy, softmax)  \
    DO(poisson, exp)

// DELTAPROP_DO(loss, name, type), which the including file defines, for every loss with each activation that it goes
// with. Softmax is left out: it needs whole rows.
#define DELTAPROP_FOR_EACH_PAIR DELTAPROP_FOR_EACH_LOSS(DELTAPROP_PAIRS)
#define DELTAPROP_PAIRS(LOSS, OUTPUT) DELTAPROP_PAIRS_##OUTPUT(LOSS)
#define DELTAPROP_PAIRS_any(LOSS) DELTAPROP_ACTIVATIONS(DELTAPROP_DO, LOSS)
#define DELTAPROP_PAIRS_sigmoid(LOSS) DELTAPROP_DO(LOSS, sigmoid, activation::sigmoid)
#define DELTAPROP_PAIRS_exp(LOSS) DELTAPROP_DO(LOSS, exp, activation::exp_)
#define DELTAPROP_PAIRS_softmax(LOSS)
