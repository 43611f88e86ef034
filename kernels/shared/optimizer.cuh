// The update rules of whole epochs.
#pragma once

// The table of all update rules: DO(name, moments). A rule's number is its place here, see names.cuh. A rule carries so
// many vectors as long as the parameters from step to step: velocity, or first and second moment.
#define DELTAPROP_FOR_EACH_OPTIMIZER(DO) \
    DO(sgd, 0)                           \
    DO(momentum, 1)                      \
    DO(nesterov, 1)                      \
    DO(adam, 2)
