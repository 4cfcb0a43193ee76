/* Lengths of the Azure LLM inference trace 2023 (Splitwise, ISCA 2024; CC-BY,
 * github.com/Azure/AzurePublicDataset).
 *
 * Conversation: quantiles of the 19,366 requests of its CSV, computed here. Those that
 * ../shared/reference/controller.md prints (5, 10, 25, 50, 75, 90, 95, 99 %) are among them; with
 * these alone and straight lines between them the mean prompt would be 7 % too long, with all of
 * them both means are within 0.7 %.
 *
 * Code: prompts are controller.md's quantiles; the ends, and the outputs, come from 879 of its
 * 8,819 requests that were looked at (two stretches, from the beginning and the middle), set to
 * what is published of the whole: outputs of median 13 (Splitwise, section 3) and 99 % up to 249.
 * The mean output is then 28.3, the mean prompt 2122; of the whole they are 28 and 2048.
 */
#include "traces/workload/lengths.h"
#include "base/base.h"

static const struct quantile conv_prompt[] = {
    {0, 2},     {1, 29},      {2.5, 120}, {5, 181},     {10, 207},    {15, 372},    {20, 387},
    {25, 396},  {30, 403},    {35, 414},  {40, 703},    {45, 984},    {50, 1020},   {55, 1045},
    {60, 1071}, {65, 1097},   {70, 1130}, {75, 1189},   {80, 1315},   {85, 1877},   {90, 2735},
    {95, 4083}, {97.5, 4092}, {99, 4142}, {99.5, 4831}, {99.9, 6212}, {100, 14050},
};
static const struct quantile conv_output[] = {
    {0, 7},    {1, 16},     {2.5, 28}, {5, 41},     {10, 54},    {15, 67},    {20, 77},
    {25, 85},  {30, 91},    {35, 96},  {40, 103},   {45, 113},   {50, 129},   {55, 151},
    {60, 177}, {65, 217},   {70, 384}, {75, 395},   {80, 400},   {85, 411},   {90, 424},
    {95, 451}, {97.5, 522}, {99, 601}, {99.5, 644}, {99.9, 954}, {100, 1000},
};
static const struct quantile code_prompt[] = {
    {0, 12},    {5, 75},    {10, 147},  {25, 578},  {50, 1469},
    {75, 2745}, {90, 5194}, {95, 7315}, {99, 7436}, {100, 7437},
};
static const struct quantile code_output[] = {
    {0, 6},   {5, 6},   {10, 7},     {15, 7},   {20, 8},    {25, 9},  {30, 9},
    {40, 11}, {50, 13}, {60, 15},    {70, 19},  {75, 22},   {80, 28}, {85, 38},
    {90, 54}, {95, 90}, {97.5, 140}, {99, 249}, {100, 781},
};

const struct quantiles azure_conv_prompt = {conv_prompt, COUNT_OF(conv_prompt)};
const struct quantiles azure_conv_output = {conv_output, COUNT_OF(conv_output)};
const struct quantiles azure_code_prompt = {code_prompt, COUNT_OF(code_prompt)};
const struct quantiles azure_code_output = {code_output, COUNT_OF(code_output)};
