// What the functions of the library are told: one plan a network.
#pragma once
#include "cpu/encoded_inputs.h"
#include "cpu/sparse_inputs.h"
#include "shared/optimizer.cuh"

#include <cstdint>

// The rows of a minibatch that one process trains on, where several share each minibatch.
extern "C" struct MinibatchShare {
    int64_t start, rows;              // of this process, in its order
    int64_t whole_start, whole_rows;  // of all processes, in the order of the epoch
    int64_t place;                    // in the whole minibatch, of the first row of this process
};

DELTAPROP_EXPORT_SIZE(MinibatchShare)

extern "C" struct EpochPlan {
    int64_t layers;              // weight matrices
    const int64_t* sizes;        // (layers + 1,)
    const int64_t* activations;  // (layers,), numbers as in names.cuh
    int64_t loss;                // its number, as in names.cuh
    int64_t simplified;          // 1 if delta^(L) of the squared error is a - y, without g'(z)
    void* parameters;            // all weights, layer by layer, then all biases
    const void* x;               // (samples, sizes[0]), or (samples, encoding->columns)
    const EncodedInputs* encoding;  // what the inputs are made of, or null
    const SparseInputs* sparse;     // the inputs in the place of x, or null
    const void* y;               // (samples, sizes[layers])
    const void* weights;         // (samples,) of each epoch, in its order, or null
    const int64_t* order;        // (samples,) of each epoch, or null
    int64_t weights_stride, order_stride;  // entries from one epoch's to the next epoch's
    int64_t samples, batch;
    const MinibatchShare* shares;  // one a minibatch, none with more rows than `batch`; null if this process has all
    const double *scales, *penalties, *decays;  // one a minibatch: of delta^(L); of W in its gradient; of sum W^2
    int64_t optimizer;                          // its number, as in names.cuh
    void* gradient;  // as long as the parameters, or null: a step leaves its gradient there, without the penalty, and
                     // moves nothing; apply() moves the parameters by it
    void *first, *second;                       // the moments, or null
    optimizer::Constants<double> constants;     // of the optimizer
    const double* rates;               // two numbers a step: the learning rate, with Adam's bias corrections; the share
                                       // of the weights that weight decay takes off
    int64_t rates_stride, step_stride;  // entries from one epoch's to the next epoch's, and from one step's to the next
    const double* keep;    // (layers - 1,), with which probability dropout keeps a unit of each hidden layer, or null
    const uint64_t* keys;  // (epochs, 2), the keys of its random numbers
    int64_t drawn;         // how many of an epoch's random numbers belong to earlier samples
    int64_t epochs;
    int64_t first_batch, last_batch;   // which minibatches of each
    int64_t threads;                   // at most; they decide into how many parts a phase falls
    void* scratch;
    double *cost, *decay;  // (epochs,), added to
    double* carried;  // (2, threads) or null: the costs and penalties of each thread, for calls of one epoch that go on
                      // with the sums of the call before; cost and decay stay as they are
    void* outputs;  // (samples, sizes[layers]) or null, of evaluations only
    void* gemm;
    const volatile int32_t* stop;  // once it is not 0 the rest is left undone, in the middle of a step; or null
};

DELTAPROP_EXPORT_SIZE(EpochPlan)
