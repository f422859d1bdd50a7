// Loops over memory that libtorch runs as several operators, each reading and writing all of it: one pass instead. Nothing here knows
// tensors; the files of the operators do. Each loop is compiled for several instruction sets and chosen when the program starts.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tessera::kernels {

// The upper half of a float.
using Bf16 = uint16_t;

// sum = x + keep gamma (branch + bias); normed = (sum - mean) rstd weight + shift. Rows of `width`; null for what is not there.
struct AddNorm {
    int64_t width;
    int64_t rowsOfSample;  // `keep` has one factor for so many rows
    float eps;
    const float* x;
    const void* branch;
    const float *bias, *gamma, *keep;
    const float *weight, *shift;
    float* sum;
    void* normed;
    float *mean, *rstd;
};

// The other way: from the gradients of sum and normed to those of x and branch, and of what all rows share.
struct AddNormBackward {
    int64_t width;
    int64_t rowsOfSample;
    const float* sum;
    const float *mean, *rstd, *weight;
    const void* branch;
    const float *bias, *gamma, *keep;
    const float* sumGrad;
    const void* normedGrad;
    float* xGrad;
    void* branchGrad;
    // Added to, [width] each, in this thread's own memory.
    float *weightGrad, *shiftGrad, *biasGrad, *gammaGrad;
};

// out = gelu(x + bias), rows of `width`.
struct BiasGelu {
    int64_t width;
    const void* x;
    const float* bias;
    void* out;
};

struct BiasGeluBackward {
    int64_t width;
    const void* x;
    const float* bias;
    const void* outGrad;
    void* xGrad;
    float* biasGrad;  // added to, in this thread's own memory
};

// out = g v / ||v|| by rows of `width`, and the rows' norms.
struct WeightNorm {
    int64_t width;
    const float *v, *g;
    void* out;
    float* norms;
};

struct WeightNormBackward {
    int64_t width;
    const float *v, *g, *norms;
    const void* outGrad;
    float *vGrad, *gGrad;
};

// One row's sum over `count` distributions P with weights w of -w <P, log softmax(scale logits)>; `sum` is that of the weights.
struct PairedEntropy {
    int64_t width;
    const void* logits;
    float scale;
    const float* const* targets;
    const float* weights;
    int64_t count;
    float sum;
};

// Rows of `depth` numbers, `stride` apart: what one head sees of a tensor.
struct Rows {
    const void* data;
    int64_t stride;
};
struct RowsOut {
    void* data;
    int64_t stride;
};

// out = (in + bias) scale, zeros after `depth`.
struct CopyHead {
    Rows in;
    const float* bias;  // [depth] or null
    float scale;
    int64_t rows, depth;
    int64_t padded;  // for rows [rows][padded]
    void* out;
};

// exp(score - highest) of each row and what it takes to undo that; columns from `count` to `padded` become 0.
struct SoftmaxRows {
    int64_t rows, count, padded;
    const float* scores;  // [rows][padded]
    const float* mask;    // added; [rows][maskStride] or null
    int64_t maskStride;
    void* weights;   // [rows][padded], of which the highest in each row is 1; may be the scores' own memory
    float* factor;   // [rows]: 1 / the row's sum
    float* logSum;   // [rows]: log of the sum of exp(score)
};

// For keys [rows] and all queries [padded]: the weights again, and the gradients of the scores, as rows and as pairs of rows.
struct SoftmaxBackward {
    int64_t rows, padded;
    const float* scores;       // [rows][padded], of each key with all queries
    const float* mask;         // added; [rows][maskStride] or null
    int64_t maskStride;
    const float* weightGrads;  // [rows][padded]
    const float* logSum;       // [padded]; a large number where there is no query
    const float* dots;         // [padded]: sum of weight and its gradient over a query's keys
    Bf16 *weights, *scoreGrads;  // [rows][padded]
    uint32_t* scoreGradPairs;    // [ceil(rows / 2)][padded]
};

// The same in float32, and in panels of queries: [padded / panelColumns][rows][panelColumns].
struct PanelSoftmaxBackward {
    int64_t rows, padded;
    float* scores;  // become the weights
    const float* mask;
    int64_t maskStride;
    float* weightGrads;  // become the gradients of the scores
    const float *logSum, *dots;
};

// c (+)= a b for a strip of up to `stripRows` rows and a panel of up to `panelColumns` columns (see Table). b is [depth][panelColumns]. a has rows
// that are `strideA` apart, or is packed: [depth][stripRows].
struct Strip {
    int64_t depth, rows, columns;
    const float* a;
    int64_t strideA;
    bool packed;
    const float* b;
    float* c;
    int64_t strideC;
    bool add;
    // Where rows of `a` are cut in pieces: how long one is, and from where the next begins.
    int64_t run = INT64_MAX, jump = 0;
};

// A matrix of which so many columns, `run`, are rows together, and the next ones lie `jump` further. Of panels each is one run.
template <class T>
struct Pieces {
    T* data;
    int64_t stride;
    int64_t run, jump;
};

// c [m][n] (+)= a [m][k] b, with b in panels [k][panelColumns], `jumpB` apart. A run of c is a panel's width, one of a a multiple or all of it.
struct PanelProduct {
    int64_t m, n, k;
    Pieces<const float> a;
    const float* b;
    int64_t jumpB;
    Pieces<float> c;
    bool add;
};

// c [m][n] (+)= a [m][k] b + bias in bfloat16, where n is at most kPairColumns: two neighbours along k are one pair, of which the sums are float32.
// b is [pairs][n], `strideB` apart.
struct PairProduct {
    int64_t m, n, pairs;
    const Bf16* a;
    int64_t strideA;
    const uint32_t* b;
    int64_t strideB;
    const float* bias;  // [n] or null
    float* c;
    int64_t strideC;
    bool add;
    Bf16* out;  // written in place of c, unless null
    int64_t strideOut;
};
constexpr int64_t kPairColumns = 64;

// A tile of the left matrix that stays in a core's own cache while panels of the right one, as deep as it, pass by; widened rows begin
// kTileApart numbers after the last, because they would lie on a few of a cache's lines.
constexpr int64_t kTileRows = 96, kTileDepth = 384, kTileApart = 16;

// The longest piece of numbers of which notBelow says which are not below another.
constexpr int64_t kPlaces = 256;

enum Types { kFloat = 0, kHalf = 1 };

/** All loops for one instruction set. Rows [begin, end) of each; indices are Types. */
struct Table {
    bool widensHalves;  // whether products of bfloat16 matrices are made in float32: libtorch goes number by number there
    void (*addNorm[2][2])(const AddNorm&, int64_t begin, int64_t end);                  // [branch][normed]
    void (*addNormBackward[2][2])(const AddNormBackward&, int64_t begin, int64_t end);  // [branch][normed]
    void (*biasGelu[2])(const BiasGelu&, int64_t begin, int64_t end);
    void (*biasGeluBackward[2])(const BiasGeluBackward&, int64_t begin, int64_t end);
    void (*weightNorm[2])(const WeightNorm&, int64_t begin, int64_t end);                  // [out]
    void (*weightNormBackward[2])(const WeightNormBackward&, int64_t begin, int64_t end);  // [outGrad]
    float (*pairedEntropy[2])(const PairedEntropy&, float* logSum);                        // logSum: of exp(scale logits)
    void (*pairedEntropyBackward[2])(const PairedEntropy&, float logSum, float grad, void* logitsGrad);
    int64_t stripRows, panelColumns;
    void (*strip)(const Strip&);  // null where the set has no vectors that multiply and add
    // [columns][depth], `stride` apart -> a panel [depth][panelColumns], zeros after `columns`; by the type of `in`.
    void (*transposePanel[2])(const void* in, int64_t stride, int64_t depth, int64_t columns, float* panel);
    void (*widen)(const Bf16* in, int64_t count, float* out);
    void (*narrow)(const float* in, int64_t count, Bf16* out);
    void (*multiplyPanels)(const PanelProduct&);
    void (*multiplyPairs)(const PairProduct&);  // null where the set does not multiply pairs of bfloat16 numbers
    void (*copyHead)(const CopyHead&);  // to bfloat16 from it
    void (*copyPanels[2])(const CopyHead&);  // to panels in float32, [in]
    // [rows][depth], `stride` apart -> [depth / 2][padded] of two neighbours each, zeros after `rows`, and [depth][padded]; null for what is
    // not wanted. Both have room for a depth that is rounded up to 32.
    void (*transposePairs)(const Bf16* in, int64_t stride, int64_t rows, int64_t depth, int64_t padded, uint32_t* pairs, Bf16* transposed);
    // [rows][depth], `stride` apart -> [padded / 2][depth rounded up to 16] of one number in each of two rows, zeros after `rows`.
    void (*pairRows)(const Bf16* in, int64_t stride, int64_t rows, int64_t depth, int64_t padded, uint32_t* pairs);
    // sums[row] += the sum of that row; [rows][columns], a multiple of 16
    void (*rowSums)(const Bf16* in, int64_t rows, int64_t columns, float* sums);
    // sums[column] += the sum of that column, of rows `stride` apart
    void (*columnSums)(const Bf16* in, int64_t stride, int64_t rows, int64_t columns, float* sums);
    void (*softmaxRows[2])(const SoftmaxRows&);  // [weights]
    void (*softmaxBackward)(const SoftmaxBackward&);
    void (*panelSoftmaxBackward)(const PanelSoftmaxBackward&);
    // out rows = in rows times a factor each (null for 1); `sums` [depth], where wanted, is added to. [out]
    void (*storeRows[2])(const float* in, int64_t rows, int64_t depth, int64_t padded, const float* factors, RowsOut out, float* sums);
    // The same from [padded depth][columns], with one factor for all.
    void (*storeTransposed[2])(const float* in, int64_t rows, int64_t depth, int64_t columns, float factor, RowsOut out, float* sums);
    // dots[i] = the product of rows i of a and b. [both]
    void (*rowDots[2])(Rows a, Rows b, int64_t rows, int64_t depth, float* dots);
    // Writes where in `in` numbers are not below `least`, in order; returns how many. `count` is at most kPlaces, and so is the room for places.
    int64_t (*notBelow)(const float* in, int64_t count, float least, int32_t* places);
};

constexpr int kCubics = 32;
constexpr float kCubicsOfOne = 5.5f;

/** A function of s >= 0 by cubics in r = s * kCubicsOfOne - n, -1/2 <= r <= 1/2, for the nearest n below kCubics; behind the last it is what it is there. */
struct Cubics {
    float coefficients[4][kCubics];
};
/** s * P(Z > s), which is max(z, 0) - gelu(z) at z = s and at z = -s; within 1e-6. */
const Cubics& geluBelow();
/** gelu's derivative at -s, which is 1 - the one at s; within 2e-6. */
const Cubics& geluSlopeBelow();

/** The fastest table that this processor runs. */
const Table& table();

}  // namespace tessera::kernels
