// The numbers by which Python chooses activations, losses and optimizers when a kernel starts: their places in the
// tables of activation.cuh, loss.cuh and optimizer.cuh. Python passes the constants of optimizers by their places, too.
//
// A file that includes this one holds the same tables as text when it is compiled. Before Python uses it, Python looks
// for that text and compares it with its own: see src/deltaprop/backends/kernel_names.py.
#pragma once
#include "shared/activation.cuh"
#include "shared/loss.cuh"
#include "shared/optimizer.cuh"

#define DELTAPROP_NUMBER(NAME, ...) NAME,
namespace activation_number {
enum { DELTAPROP_FOR_EACH_ACTIVATION(DELTAPROP_NUMBER) softmax = -1 };
}
namespace loss_number {
enum { DELTAPROP_FOR_EACH_LOSS(DELTAPROP_NUMBER) };
}
namespace optimizer_number {
enum { DELTAPROP_FOR_EACH_OPTIMIZER(DELTAPROP_NUMBER) };
}
#undef DELTAPROP_NUMBER

// How many vectors an optimizer carries.
#define DELTAPROP_MOMENTS(NAME, MOMENTS) number == optimizer_number::NAME ? MOMENTS :
__host__ __device__ constexpr int moments_of(int number) { return DELTAPROP_FOR_EACH_OPTIMIZER(DELTAPROP_MOMENTS) 0; }
#undef DELTAPROP_MOMENTS

#define DELTAPROP_TEXT(NAME, ...) #NAME " "
#define DELTAPROP_TEXT_OF_TWO(NAME, OTHER) #NAME ":" #OTHER " "
#define DELTAPROP_TABLES                                                    \
    "deltaprop activations " DELTAPROP_FOR_EACH_ACTIVATION(DELTAPROP_TEXT)  \
    "losses " DELTAPROP_FOR_EACH_LOSS(DELTAPROP_TEXT_OF_TWO)                \
    "optimizers " DELTAPROP_FOR_EACH_OPTIMIZER(DELTAPROP_TEXT_OF_TWO)       \
    "constants " DELTAPROP_FOR_EACH_CONSTANT(DELTAPROP_TEXT)
extern "C" {
extern __device__ const char deltaprop_tables[sizeof(DELTAPROP_TABLES)];
__device__ const char deltaprop_tables[sizeof(DELTAPROP_TABLES)] = DELTAPROP_TABLES;
}

// The size of a structure that Python fills in, as text too.
#define DELTAPROP_DIGIT(N, UNIT) char('0' + (N) / UNIT % 10)
#define DELTAPROP_EXPORT_SIZE(TYPE)                                                                                  \
    struct SizeOf##TYPE {                                                                                            \
        char name[sizeof("deltaprop sizeof " #TYPE)], digits[6];                                                     \
    };                                                                                                               \
    extern "C" {                                                                                                     \
    extern __device__ const SizeOf##TYPE deltaprop_size_of_##TYPE;                                                   \
    __device__ const SizeOf##TYPE deltaprop_size_of_##TYPE = {                                                       \
        "deltaprop sizeof " #TYPE,                                                                                   \
        {DELTAPROP_DIGIT(sizeof(TYPE), 10000), DELTAPROP_DIGIT(sizeof(TYPE), 1000),                                  \
         DELTAPROP_DIGIT(sizeof(TYPE), 100), DELTAPROP_DIGIT(sizeof(TYPE), 10), DELTAPROP_DIGIT(sizeof(TYPE), 1)}}; \
    }
