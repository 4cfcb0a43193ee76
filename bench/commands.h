/* bench/: how fast and how good. Measures the engine through model/ and scheduler/, never the other
 * way. Each command takes argv from its own name on and returns the exit status (0 done, 1 failed,
 * 2 usage). */
#ifndef BENCH_COMMANDS_H
#define BENCH_COMMANDS_H

int command_bench(int argc, char **argv);
int command_perplexity(int argc, char **argv);
int command_profile(int argc, char **argv);

#endif
