/* quant/checkpoint/: from a checkpoint to a quantized directory. The subcommand takes argv from its
 * own name on and returns the exit status (0 done, 1 failed, 2 usage). */
#ifndef QUANT_CHECKPOINT_COMMANDS_H
#define QUANT_CHECKPOINT_COMMANDS_H

int command_quantize(int argc, char **argv);

#endif
