// The layers of a network over the rows of a minibatch: their forward pass, their deltas, and the sums of their weight
// gradients. Several threads may work at once, each on rows or units of its own; `part` names the memory of each.
//
// Matrix products of small layers are by tiles in registers (small_product.h), others by panels (panels.h) or by the
// sgemm and dgemm (with Fortran's interface, which takes a row-major matrix for its transpose) that the caller passes.
// Several threads call them at once, and each call should use one thread.
#pragma once
#include "cpu/fast_math.h"
#include "shared/dispatch.cuh"
#include "cpu/blas.h"
#include "cpu/dropout.h"
#include "cpu/dot_product.h"
#include "cpu/encoded_inputs.h"
#include "cpu/epoch_plan.h"
#include "cpu/hidden_layer.h"
#include "cpu/output_layer.h"
#include "cpu/panels.h"
#include "cpu/small_product.h"
#include "cpu/transposed.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

// Weights of a layer up to which its products are ours; measured, between 64 x 100 and 784 x 30.
const int64_t SMALL = 12800;

// Entries of the gradient that a thread holds at a time where it needs them apart from the weights.
const int64_t GRADIENT_BLOCK = 32768;

using blas::OPERATIONS_AT_ONCE;

// Rows `from` to `to` of a minibatch, and of these the units `first` to `last`.
struct Block {
    int64_t from, to, first, last;
    int64_t rows() const { return to - from; }
    int64_t units() const { return last - first; }
};

// The layers with room for z, a and delta of a minibatch: all of them and the inputs, or the last one alone.
enum class Kept { all, last };

template <typename T> class Layers {
public:
    explicit Layers(const EpochPlan& plan, Kept kept = Kept::all) : p(plan) {
        T *weights = static_cast<T*>(p.parameters), *scratch = static_cast<T*>(p.scratch);
        for (int64_t l = 0; l < p.layers; ++l) {
            W.push_back(weights);
            weights += p.sizes[l] * p.sizes[l + 1];
        }
        for (int64_t l = 0; l < p.layers; ++l) {
            b.push_back(weights);
            weights += p.sizes[l + 1];
        }
        each_piece(p, kept, [&](std::vector<T*> Layers::*of, int64_t entries) {
            (this->*of).push_back(entries ? scratch : nullptr);
            scratch += entries;
        });
        if (p.sparse && kept == Kept::all) sparse.emplace(*p.sparse, p.sizes[0], p.sizes[1], p.batch, A[0]);
        if (p.encoding) encoded.emplace(*p.encoding, p.sizes[1], p.batch, A[0]);
    }

    // Room for a panel of an operand, where there is a layer whose products are formed so.
    static int64_t panel_entries(const EpochPlan& p) {
        for (int64_t l = 0; l < p.layers && panels::ARE_FASTER; ++l)
            if (p.sizes[l] * p.sizes[l + 1] > SMALL) return panels::room<T>();
        return 0;
    }

    static int64_t padded(int64_t entries) { return (entries + 15) / 16 * 16; }

    // Room for the inputs of a minibatch, or for what there is in their place.
    static int64_t first_entries(const EpochPlan& p) {
        if (p.sparse) return sparse::Layer<T>::entries(*p.sparse, p.sizes[0], p.sizes[1], p.batch, p.threads);
        return p.encoding ? encoded::Layer<T>::entries(*p.encoding, p.sizes[1], p.batch) : padded(p.batch * p.sizes[0]);
    }

    static int64_t scratch_entries(const EpochPlan& p, Kept kept = Kept::all) {
        int64_t all = 0;
        each_piece(p, kept, [&](std::vector<T*> Layers::*, int64_t entries) { all += entries; });
        return all;
    }

    const EpochPlan& p;
    // Of each layer, the weights, biases, a, z (later g'(z)) and delta. A[0] are the inputs of the minibatch.
    std::vector<T*> W, b, A, Z, D;
    std::vector<T*> own, panel, tiles;  // of each part: room for a piece of a gradient, and for rearranged operands
    std::optional<encoded::Layer<T>> encoded;
    std::optional<sparse::Layer<T>> sparse;
    bool trains = true;  // forward passes keep g' for the way back

    bool stopped() const { return p.stop && *p.stop; }
    int64_t block_entries() const { return block_entries(p); }

    // -- matrix products: C (rows, columns) := alpha op(A) op(B) + beta C, all row-major ------------------------

    // Whether those of a layer are small enough for tiles of our own: all of its weights stay in the first cache.
    static bool is_small(int64_t inputs, int64_t units) { return inputs * units <= SMALL; }
    bool is_small(int64_t l) const { return is_small(p.sizes[l], p.sizes[l + 1]); }

    // Whether those of a minibatch, or of so many of its rows, are worth rearranging an operand for.
    static bool in_panels(int64_t rows) { return panels::ARE_FASTER && rows >= panels::FEWEST_ROWS; }

    typedef small_product::Product<T> Product;

    void gemm(char of_b, char of_a, int64_t columns, int64_t rows, int64_t inner, T alpha, const T* B, int64_t b_stride,
              const T* A, int64_t a_stride, T beta, T* C, int64_t c_stride) const {
        blas::Product<T>{p.gemm, p.stop}(of_b, of_a, columns, rows, inner, alpha, B, b_stride, A, a_stride, beta, C,
                                         c_stride);
    }

    // -- a block of rows through a layer, forward and backward --------------------------------------------------------

    // z (n, units), with rows `stride` apart, of some units of a layer, for n rows of the a before it: an operand of
    // small_product.h. Calls done(j, columns) as soon as columns j ... are computed.
    template <class Operand, class Done>
    void affine(int64_t l, const Operand& a, int64_t n, int64_t first, int64_t units, T* z, int64_t stride,
                int64_t part, Done done) const {
        const int64_t s_in = p.sizes[l];
        const T *w = W[l] + first * s_in, *bias = b[l] + first;
        if (!is_small(l) && in_panels(n)) {
            const panels::Transposed<T> transposed{w, s_in};
            return panels::multiply(n, units, s_in, a, transposed, bias, z, stride, panel[part],
                                    [&] { return stopped(); }, done);
        }
        if (is_small(l)) {
            T* transposed = own[part];
            transpose(w, s_in, units, s_in, transposed, units);
            typedef small_product::Product<T, 0, Operand> Forward;
            Forward{n, units, s_in, a, transposed, units, T(1), T(0), bias, z, stride}();
        } else if constexpr (dot_product::IS_FASTER) {
            typedef dot_product::Product<T, Operand> InPlace;
            InPlace{n, units, s_in, a, w, s_in, bias, z, stride}();
        } else {
            for (int64_t i = 0; i < n; ++i) std::memcpy(z + i * stride, bias, units * sizeof(T));
            gemm('T', 'N', units, n, s_in, T(1), w, s_in, a.row(0), s_in, T(1), z, stride);
        }
        done(0, units);
    }

    // z and a of a layer; `input` are all rows of the a before it. In training the mask of dropout goes into a and g'.
    void forward(int64_t l, const T* input, int64_t part, const Block& block, const dropout::Mask<T>& mask = {}) {
        if (l == 0 && encoded) return forward_encoded(block, mask);
        if (l == 0 && sparse) return forward_sparse(block, mask);
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1], n = block.rows();
        const int64_t start = block.from * s_out + block.first;
        T *z = Z[l] + start, *next = A[l + 1] + start;
        const small_product::EvenRows<T> a{input + block.from * s_in, s_in};
        affine(l, a, n, block.first, block.units(), z, s_out, part,
               [&](int64_t j, int64_t columns) {
                   if (l == p.layers - 1) return;
                   each_row(n, columns, s_out, [&](int64_t at, int64_t entries) {
                       value(l, z + j + at, next + j + at, entries, mask);
                   });
               });
    }

    void forward_encoded(const Block& block, const dropout::Mask<T>& mask) {
        const int64_t s_out = p.sizes[1], at = block.from * s_out;
        encoded->forward(block.from, block.to, b[0], Z[0]);
        if (p.layers > 1) value(0, Z[0] + at, A[1] + at, block.rows() * s_out, mask);
    }

    void forward_sparse(const Block& block, const dropout::Mask<T>& mask) {
        const int64_t s_out = p.sizes[1], start = block.from * s_out + block.first;
        sparse->forward(block.from, block.to, block.first, block.last, b[0], Z[0]);
        if (p.layers == 1) return;
        each_row(block.rows(), block.units(), s_out, [&](int64_t at, int64_t entries) {
            value(0, Z[0] + start + at, A[1] + start + at, entries, mask);
        });
    }

    // delta of layer l from delta of the layer after it.
    void backward(int64_t l, int64_t part, const Block& block) {
        const int64_t s_in = p.sizes[l], s_out = p.sizes[l + 1], n = block.rows(), units = block.units();
        const int64_t start = block.from * s_in + block.first;
        const T *next = D[l] + block.from * s_out, *slope = Z[l - 1] + start;
        T* delta = D[l - 1] + start;
        if (!is_small(l) && in_panels(n)) {
            const small_product::EvenRows<T> before{next, s_out}, weights{W[l] + block.first, s_in};
            panels::multiply<T>(n, units, s_out, before, weights, nullptr, delta, s_in, panel[part],
                                [&] { return stopped(); }, [&](int64_t j, int64_t columns) {
                                    each_row(n, columns, s_in, [&](int64_t at, int64_t entries) {
                                        hidden_layer::times(slope + j + at, delta + j + at, entries);
                                    });
                                });
            return;
        }
        const T* w = W[l] + block.first;
        if (is_small(l)) Product{n, units, s_out, next, s_out, 1, w, s_in, T(1), T(0), nullptr, delta, s_in}();
        else if (panels::ARE_FASTER)
            panels::InPlace<T>{n, units, s_out, next, s_out, 1, w, s_in, T(1), T(0), nullptr, delta, s_in}();
        else gemm('N', 'N', units, n, s_out, T(1), W[l] + block.first, s_in, next, s_out, T(0), delta, s_in);
        each_row(n, units, s_in,
                 [&](int64_t at, int64_t entries) { hidden_layer::times(slope + at, delta + at, entries); });
    }

    // Where the entries of n rows begin, `stride` apart, and how many there are; all at once where they adjoin.
    template <class Do> static void each_row(int64_t n, int64_t columns, int64_t stride, Do run) {
        if (columns == stride) return run(0, n * stride);
        for (int64_t i = 0; i < n; ++i) run(i * stride, columns);
    }

    void value(int64_t activation, T* z, T* a, int64_t n) const {
        if (trains) hidden_layer::value_and_slope(activation, z, a, n);
        else hidden_layer::value(activation, z, a, n);
    }
    void value(int64_t l, T* z, T* a, int64_t n, const dropout::Mask<T>& mask) const {
        value(p.activations[l], z, a, n);
        if (mask.drops) mask.apply(z - Z[l], n, a, z);
    }

    // The last layer of some rows, for its costs, its delta and its outputs.
    output_layer::Rows<T> last_rows(int64_t from, int64_t to) const {
        const int64_t last = p.layers - 1, columns = p.sizes[p.layers], at = from * columns;
        return {p.loss, p.activations[last], to - from, columns, Z[last] + at, D[last] + at, A[p.layers] + at,
                p.simplified != 0};
    }

    // -- sums over the rows -------------------------------------------------------------------------------------------

    // Sums over m rows, `stride` apart, of so many columns: 16 of them at a time, in registers.
    static void sum_rows(const T* x, int64_t m, int64_t columns, int64_t stride, T* sums) {
        int64_t j = 0;
        for (; columns - j >= 16; j += 16) add_up<16>(x + j, m, stride, sums + j);
        for (; columns - j >= 4; j += 4) add_up<4>(x + j, m, stride, sums + j);
        for (; j < columns; ++j) add_up<1>(x + j, m, stride, sums + j);
    }
    template <int COLUMNS> static void add_up(const T* x, int64_t m, int64_t stride, T* sums) {
        T own[COLUMNS] = {};
        for (int64_t i = 0; i < m; ++i, x += stride)
            for (int c = 0; c < COLUMNS; ++c) own[c] += x[c];
        for (int c = 0; c < COLUMNS; ++c) sums[c] = own[c];
    }

    static double squared_norm(const T* w, int64_t n) {
        T sums[16] = {};
        int64_t i = 0;
        for (; i + 16 <= n; i += 16)
            for (int j = 0; j < 16; ++j) sums[j] += w[i + j] * w[i + j];
        for (; i < n; ++i) sums[0] += w[i] * w[i];
        double sum = 0;
        for (int j = 0; j < 16; ++j) sum += sums[j];
        return sum;
    }

private:
    static int64_t widest(const EpochPlan& p, int64_t from) {
        return *std::max_element(p.sizes + from, p.sizes + p.layers + 1);
    }
    static int64_t block_entries(const EpochPlan& p) { return std::max(GRADIENT_BLOCK, widest(p, 0)); }

    // The pieces of the scratch, one behind the other: take(vector, entries) is told to which vector each belongs.
    template <class Take> static void each_piece(const EpochPlan& p, Kept kept, Take take) {
        const int64_t first = kept == Kept::all ? 0 : p.layers - 1;
        take(&Layers::A, kept == Kept::all ? first_entries(p) : 0);
        for (int64_t l = 0; l < p.layers; ++l) {
            const int64_t entries = l < first ? 0 : padded(p.batch * p.sizes[l + 1]);
            take(&Layers::Z, entries), take(&Layers::A, entries), take(&Layers::D, entries);
        }
        const int64_t of_panel = panel_entries(p), of_tiles = of_panel ? padded(p.batch * widest(p, 1)) : 0;
        for (int64_t t = 0; t < p.threads; ++t) take(&Layers::own, padded(block_entries(p) + widest(p, 0)));
        for (int64_t t = 0; t < p.threads; ++t) take(&Layers::panel, of_panel);
        for (int64_t t = 0; t < p.threads; ++t) take(&Layers::tiles, of_tiles);
    }
};
